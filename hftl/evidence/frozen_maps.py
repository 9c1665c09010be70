"""Where every pixel is answered: the probe on frozen features, and on random weights, answering whole images.

Features of all patches of the test rows would not fit in memory, so the answers are made here, before training changes
the body, and maps are counted and let go.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hftl.evaluation.logistic import Probe
from hftl.methods.plan import Given, plan_of, write_probe
from hftl.models.decoders import with_linear
from hftl.models.load import Loaded
from hftl.prepare import Prepared
from hftl.probing import Features, all_finite, first_probe, frozen_features, smallest
from hftl.tasks.ragged import values_of
from hftl.training.features import Encoded, predict_logits


@dataclass(frozen=True, eq=False)
class Controlled:
    """Probes on random and on pretrained weights, fitted on the same train rows, and their answers to the same test rows."""

    train_rows: np.ndarray
    test_rows: np.ndarray
    answers: Any
    pretrained: Any
    dead: float  # the largest deviation of a random feature over patches
    seconds: float


@dataclass(frozen=True, eq=False)
class Mapped:
    """The probe of the base as it was loaded, and what it answers to the test rows."""

    probe: Probe
    answers: Any
    learned: float  # seconds until the probe was fitted
    seconds: float  # all of them
    control: Controlled | None = None  # None: not asked for, or random weights put out no numbers


def see_maps(ready: Prepared, test: Encoded) -> Mapped:
    """Fit the probe on the train rows and let it answer the test rows. All processes call this together."""
    start = time.perf_counter()
    features, _ = frozen_features(ready, {"train": ready.train})
    probe = first_probe(ready, features)
    learned = time.perf_counter() - start
    answers = probed(ready, ready.loaded, probe, test, "test, probe")
    return Mapped(probe, answers, learned, time.perf_counter() - start)


def controlled(
    ready: Prepared, test: Encoded, random: Any, train_rows: np.ndarray, test_rows: np.ndarray
) -> Controlled | None:
    """Do the same on `random` weights for some rows, and on the pretrained ones for the same rows."""
    start = time.perf_counter()
    train, held = ready.train.take(train_rows), test.take(test_rows)
    some = replace(ready, train=train)
    untrained = replace(ready.loaded, model=random)
    features, _ = frozen_features(some, {"train": train}, random=untrained)
    if not all_finite(features):
        return None
    answers = _fitted(some, untrained, features, held)
    seconds = time.perf_counter() - start
    known, _ = frozen_features(some, {"train": train})
    pretrained = _fitted(some, ready.loaded, known, held)
    dead = float(values_of(features["train"]["native"]).std(0).max())
    return Controlled(train_rows, test_rows, answers, pretrained, dead, seconds)


def _fitted(ready: Prepared, loaded: Loaded, features: Features, held: Encoded) -> Any:
    return probed(ready, loaded, first_probe(ready, features), held, "test (sample)")


def probed(ready: Prepared, loaded: Loaded, probe: Probe, rows: Encoded, title: str) -> Any:
    """Return what a probe on the body of a model answers to rows. The head of the model stays as it is."""
    view = with_linear(replace(loaded, outputs=()), smallest(ready))
    head = {name: value.clone() for name, value in view.model.classifier.state_dict().items()}
    write_probe(plan_of(replace(view, outputs=("classifier",)), ready.config.method, (), {}), Given(probe))
    kept = predict_logits(view.model, rows, ready.collate, use_cpu=ready.use_cpu, title=title)
    view.model.classifier.load_state_dict(head)
    return ready.task.output.decode(kept)
