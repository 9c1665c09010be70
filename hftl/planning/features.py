"""Frozen features for a plan: how long they take, and those of the rows on which the probe is compared."""

import time
from dataclasses import dataclass

import numpy as np

from hftl.prepare import Prepared
from hftl.training.cache import is_cached, weights_hash
from hftl.training.features import Encoded, batches_by_length, extract_features
from hftl.training.logistic import cv_rows
from hftl.training.probing import Features, averages, features_key, frozen_features


TIMED_BATCHES = 3
COMPARE_SECONDS = 300.0  # what a plan may spend on features for the comparison; rule of thumb, ours


@dataclass(frozen=True)
class FeatureCost:
    """Extraction of one split's features."""

    batch_seconds: float  # of one forward batch
    row_bytes: int  # of what is kept, all poolings

    def seconds(self, encoded: Encoded) -> float:
        """Estimate for all rows of `encoded`."""
        return self.batch_seconds * len(batches_by_length(encoded.lengths))


def time_features(ready: Prepared) -> FeatureCost:
    """Time a few of the batches in which `frozen_features` would run the training rows, long and short ones."""
    batches = batches_by_length(ready.train.lengths)
    picked = [batches[int((i + 0.5) / TIMED_BATCHES * len(batches))] for i in range(TIMED_BATCHES)]
    extract_small(ready, ready.train.take(picked[-1]))  # to warm up
    start = time.perf_counter()
    for rows in picked:
        arrays = extract_small(ready, ready.train.take(rows))
    seconds = (time.perf_counter() - start) / len(picked)
    return FeatureCost(seconds, sum(a.itemsize * a.shape[1] for a in arrays.values()))


def extract_small(ready: Prepared, encoded: Encoded) -> dict[str, np.ndarray]:
    """Features of a few rows, not kept."""
    return extract_features(
        ready.loaded.model, ready.loaded.output, encoded, ready.collate,
        mean=averages(ready.task, ready.loaded), bf16=ready.bf16, use_cpu=ready.use_cpu, title="features (sample)",
        averaged=ready.loaded.averaged,
    )  # fmt: skip


def are_cached(ready: Prepared) -> dict[str, bool]:
    """Say for train and validation whether a run would find their features on disk."""
    weights = weights_hash(ready.loaded.model)
    parts = {"train": ready.train, "validation": ready.validation}
    keys = {k: features_key(ready.loaded, weights, v, ready.collate, ready.config) for k, v in parts.items()}
    return {part: is_cached(key) for part, key in keys.items()}


def comparison_features(ready: Prepared, cost: FeatureCost, cached: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the rows to compare on, at most 3,000 of train, and their features by pooling, [rows, d] each.

    Where these are all rows of train, the features stay in the cache for the run itself.
    """
    rows = cv_rows(ready.train.labels, ready.config.train_seed)
    afford = int(COMPARE_SECONDS / max(cost.seconds(ready.train), 1e-9) * len(ready.train))
    if not cached and afford < len(rows):
        rows = np.random.default_rng(0).permutation(rows)[: max(afford, 1)]
    if cached or len(rows) == len(ready.train):
        return rows, {k: np.asarray(v[rows]) for k, v in _of(ready, ready.train).items()}
    return rows, {k: np.asarray(v) for k, v in _of(ready, ready.train.take(rows)).items()}


def _of(ready: Prepared, encoded: Encoded) -> dict[str, np.ndarray]:
    found: Features = frozen_features(ready.task, ready.loaded, {"train": encoded}, ready.collate, ready.config)[0]
    return found["train"]
