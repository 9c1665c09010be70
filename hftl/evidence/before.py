"""What has to be seen of the base before training changes it: its features of the test rows, and its retention rows."""

import copy
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hftl.data.splits import sample
from hftl.doctor import Finding, doctor_splits
from hftl.evidence.frozen_maps import Mapped, controlled, see_maps
from hftl.forgetting.measure import look_at_base
from hftl.methods import FROZEN_BODY
from hftl.prepare import Prepared
from hftl.probing import all_finite, frozen_features
from hftl.run import Run
from hftl.training.features import Encoded
from hftl.training.order import draws_from
from hftl.training.world import is_main_process


# Rows of the random-weights probe, train and test alike. It is there to show how much of the probe is pretraining and
# how much is architecture, tens of points apart as a rule, and every row costs a forward pass that nothing else needs.
RANDOM_ROWS = 400
RANDOM_SENTENCES = 50  # the same where each word of a row is answered: some 1,000 words
# A run that trains no body passes each row through it once: there a tenth of the rows, and this many at least.
LEAST_RANDOM = 100
_RANDOM_SEED = 0


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """Features of the same architecture with random weights, by pooling, and the rows that they are of."""

    train_rows: np.ndarray
    test_rows: np.ndarray
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    seconds: float


@dataclass(frozen=True, eq=False)
class Base:
    """What was seen of the base; the model itself goes on to be trained."""

    findings: list[Finding]  # the doctor's, on the main process
    test: Encoded
    features: dict[str, np.ndarray]  # of the test rows by pooling, [n, d]
    features_seconds: float
    random: RandomFeatures | None
    retention: Any  # a `Before`; None where there are no features to compare
    seconds: float  # all of it
    maps: Mapped | None = None  # where every pixel is answered, instead of features

    @property
    def learned(self) -> float:
        """Seconds in which features were seen and a probe was fitted here that the run itself needs."""
        return self.maps.learned if self.maps else 0.0


def see_base(run: Run, ready: Prepared) -> Base:
    """See what the evidence needs of the model as loaded; nothing here is used to choose anything.

    All processes call this together. Raises `DataError` for a `--retain` that cannot be used.
    """
    start, quick = time.perf_counter(), run.config.evidence == "quick"
    if ready.task.output.keep is not None:  # features of all pixels are not kept: their answers are
        test = ready.task.encode(ready.splits.test, ready.loaded.processor)
        maps = see_maps(ready, test)
        if not quick:
            rows = _random_rows(ready, test)
            maps = replace(maps, control=controlled(ready, test, random_weights(ready), *rows))
        return Base([], test, {}, 0.0, None, None, time.perf_counter() - start, maps)
    retention = look_at_base(ready)  # first: a wrong --retain costs no forward pass
    test = ready.task.encode(ready.splits.test, ready.loaded.processor)
    clock = time.perf_counter()
    features, _ = frozen_features(ready, {"test": test})
    features_seconds = time.perf_counter() - clock
    random = None if quick else _random_features(ready, test)
    findings: list[Finding] = []
    if is_main_process():
        findings = doctor_splits(ready.splits, ready.task, run.config.method.method)
    return Base(findings, test, features["test"], features_seconds, random, retention, time.perf_counter() - start)


def random_weights(ready: Prepared) -> Any:
    """Return the same architecture, head included, with seeded random weights."""
    with draws_from(_RANDOM_SEED):
        model = type(ready.loaded.model)(copy.deepcopy(ready.loaded.model.config))
    return model.to(torch.float32).eval()


def _random_features(ready: Prepared, test: Encoded) -> RandomFeatures | None:
    """None for an architecture whose random weights put out no numbers."""
    start = time.perf_counter()
    train_rows, test_rows = _random_rows(ready, test)
    parts = {"train": ready.train.take(train_rows), "test": test.take(test_rows)}
    model = random_weights(ready)
    features, _ = frozen_features(ready, parts, random=replace(ready.loaded, model=model))
    if not all_finite(features):
        return None
    return RandomFeatures(train_rows, test_rows, features["train"], features["test"], time.perf_counter() - start)


def _random_rows(ready: Prepared, test: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of train and of test that a model with random weights is tried on."""
    ids, classes = ready.strata
    by_word = ready.train.units is not None
    count = RANDOM_SENTENCES if by_word else RANDOM_ROWS
    if ready.task.output.keep is not None:  # an image has many patches
        count = LEAST_RANDOM
    elif ready.config.method.method in FROZEN_BODY:
        passed = len(ready.train) + len(ready.validation) + len(test)
        count = min(count, max(LEAST_RANDOM, passed // 20))
    train_rows = sample(ids, classes, max(count, classes), _RANDOM_SEED, every_class=True)
    return train_rows, sample(ready.strata_of(test)[0], classes, count, _RANDOM_SEED, every_class=False)
