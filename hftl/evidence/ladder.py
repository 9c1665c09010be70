"""The ladder: what simpler models reach on the very same test rows, from the majority class up to the run's method."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from hftl.evaluation.advice import Pretraining
from hftl.evaluation.baselines import MAJORITY, Baseline, best_baseline
from hftl.evaluation.neighbours import nearest_neighbours
from hftl.evaluation.saved_baseline import no_pretraining_baselines
from hftl.evaluation.verdict import accuracy_difference
from hftl.evidence.before import Base, RandomFeatures
from hftl.models.heads import without_bias
from hftl.prepare import Prepared
from hftl.report.report import score_predictions
from hftl.training.logistic import Probe, fit_probe
from hftl.training.probing import Features


NEIGHBOURS, PROBE = "kNN on frozen features", "probe on frozen features"
# Spread of the random features under which their signal has died out: EfficientNet's is 1e-29 (batch norms that have
# seen no data shrink it block by block), MiniLM's .1.
DEAD = 1e-6
RANDOM, SCRATCH = "probe, random weights", "trained from random weights"


@dataclass(frozen=True, eq=False)
class Ladder:
    """The rungs as they stand in report.json, and the baseline that counts."""

    rungs: list[dict[str, Any]]
    baselines: list[Baseline]
    best: Baseline
    probe: np.ndarray  # what the probe on frozen features predicts for the test rows
    pretraining: Pretraining | None

    def accuracy(self, name: str) -> float | None:
        """Accuracy of the rung called `name`, None where there is none."""
        return next((float(r["accuracy"]["value"]) for r in self.rungs if r["name"] == name), None)


@dataclass(frozen=True, eq=False)
class Control:
    """The architecture trained from random weights: what it predicts for the test rows, and how long it took."""

    predictions: np.ndarray
    seconds: float
    note: str


def build_ladder(
    ready: Prepared,
    features: Features,
    base: Base,
    first: Probe,
    predictions: np.ndarray,
    seconds: float,
    control: Control | None,
) -> Ladder:
    """Fit every rung on the training rows and score it on the test rows; `predictions` are those of the run's method.

    `features` are the frozen ones of train and validation, by pooling, and `first` is the probe that the run began
    with. Of the models without pretraining the best in cross-validation on training rows counts.
    """
    splits, references = ready.splits, base.test.labels
    baselines = no_pretraining_baselines(splits.train, splits.test, ready.train, base.test)
    rungs = [
        _rung(b.name, "majority" if b.name == MAJORITY else "no-pretraining", b.predictions, references, b.seconds)
        for b in baselines
    ]
    pretraining = None
    if base.random is not None:
        rung, pretraining = _random_rung(base.random, ready, features, base)
        rungs.append(rung)
    # The best probe there is, whatever head the run's method needs: of a text it may read the mean of the states.
    every = set(first.cv_accuracy) == set(features["train"])
    probe = first if every else _fit_best(features["train"], ready.train.labels, ready)
    train, test = np.asarray(features["train"][probe.pooling]), np.asarray(base.features[probe.pooling])
    start = time.perf_counter()
    near = nearest_neighbours(train, ready.train.labels, test)
    near_seconds = time.perf_counter() - start + base.features_seconds
    rungs.append(_rung(NEIGHBOURS, "features", near.predictions, references, near_seconds))
    found = probe.logits(test).argmax(-1)
    rungs.append(_rung(PROBE, "features", found, references, probe.seconds + base.features_seconds))
    if control is not None:
        rungs.append(_rung(SCRATCH, "control", control.predictions, references, control.seconds, control.note))
    name = f"{ready.config.method.method} ({ready.loaded.name})"
    rungs.append(_rung(name, "method", predictions, references, seconds))
    return Ladder(rungs, baselines, best_baseline(baselines), found, pretraining)


def _fit_best(features: dict[str, np.ndarray], labels: np.ndarray, ready: Prepared) -> Probe:
    no_bias = without_bias(ready.loaded.model, ready.loaded.output)
    n, seed = len(ready.splits.labels), ready.config.train_seed
    return fit_probe(features, labels, n, "auto", seed, ready.weights, no_bias)


def _random_rung(
    random: RandomFeatures, ready: Prepared, features: Features, base: Base
) -> tuple[dict[str, Any], Pretraining]:
    """The probe on random weights, and beside it one on the pretrained weights, fitted and scored on the same rows.

    Fewer rows alone make a probe worse, so the two are compared with each other only.
    """
    labels, references = ready.train.labels[random.train_rows], base.test.labels[random.test_rows]
    probe = _fit_best(random.train, labels, ready)
    predictions = probe.logits(np.asarray(random.test[probe.pooling])).argmax(-1)
    rung = _rung(RANDOM, "control", predictions, references, probe.seconds + random.seconds)
    rows = {k: np.asarray(v[random.train_rows]) for k, v in features["train"].items()}
    alike = _fit_best(rows, labels, ready)
    same = alike.logits(np.asarray(base.features[alike.pooling][random.test_rows])).argmax(-1)
    difference = accuracy_difference(same == references, predictions == references)
    found = Pretraining(
        float((same == references).mean()), float((predictions == references).mean()), difference,
        len(labels), len(references),
    )  # fmt: skip
    notes = []
    if len(labels) < len(ready.train.labels) or len(references) < len(base.test.labels):
        notes.append(
            f"fitted on {len(labels):,} of the training rows and scored on {len(references):,} of the test rows, where "
            f"the pretrained weights reach {found.pretrained:.1%}"
        )
    if float(np.asarray(random.train[probe.pooling]).std(0).max()) < DEAD:
        notes.append("untrained, this architecture puts out the same for every row: no measure of the architecture")
    return {**rung, "note": "; ".join(notes)} if notes else rung, found


def _rung(
    name: str, kind: str, predictions: np.ndarray, references: np.ndarray, seconds: float, note: str = ""
) -> dict[str, Any]:
    rung = {"name": name, "kind": kind, **score_predictions(predictions, references), "seconds": round(seconds, 3)}
    return {**rung, "note": note} if note else rung
