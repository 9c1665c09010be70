"""The ladder: what simpler models reach on the very same test rows, from the majority class up to the run's method."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedKFold

from hftl.evaluation.baselines import MAJORITY, Baseline, best_baseline, majority_class
from hftl.evaluation.linear_baselines import (
    colour_histogram_logistic_regression,
    raw_pixel_logistic_regression,
    tfidf_logistic_regression,
)
from hftl.evaluation.neighbours import nearest_neighbours
from hftl.evaluation.verdict import Comparison, accuracy_difference, paired_gap
from hftl.evidence.advice import Pretraining
from hftl.evidence.before import Base, RandomFeatures
from hftl.models.heads import without_bias
from hftl.prepare import Prepared
from hftl.report.report import score_predictions
from hftl.surroundings import progress
from hftl.tasks import INPUTS
from hftl.training.logistic import FOLDS, Probe, fit_probe
from hftl.training.probing import Features


_FITS: dict[str, Callable[..., Baseline]] = {
    "tfidf": tfidf_logistic_regression,
    "colour_histogram": colour_histogram_logistic_regression,
    "raw_pixels": raw_pixel_logistic_regression,
}
# Spread of the random features under which their signal has died out: EfficientNet's is 1e-29 (batch norms that have
# seen no data shrink it block by block), MiniLM's .1.
DEAD = 1e-6
ENOUGH = 2 * FOLDS  # rows that a class needs: in two of three folds, and in the folds within them that choose C


@dataclass(frozen=True, eq=False)
class Rung:
    """One model on the ladder: what it predicts for the test rows [n], and how that stands in report.json."""

    predictions: np.ndarray
    report: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Share of the rows that it has right."""
        return float(self.report["accuracy"]["value"])


@dataclass(frozen=True, eq=False)
class Ladder:
    """All rungs as they stand in report.json, from the bottom, and those that something rests on."""

    rungs: list[Rung]
    majority: Rung
    best: Rung  # of those without pretraining the best in cross-validation on training rows: the one that counts
    neighbours: Rung
    probe: Rung
    method: Rung
    best_baseline: Baseline  # that of `best`
    pretraining: Pretraining | None


@dataclass(frozen=True, eq=False)
class Control:
    """The architecture trained from random weights: what it predicts for the test rows, and how long it took."""

    predictions: np.ndarray
    seconds: float
    note: str


def no_pretraining_baselines(train: Dataset, test: Dataset, encoded_train: Any, encoded_test: Any) -> list[Baseline]:
    """Fit the baselines of the modality on `train` and predict `test`; `best_baseline` says which one counts."""
    labels = np.asarray(train["label"][:])
    baselines = [majority_class(labels, len(test))]
    inputs = next(inputs for inputs in INPUTS.values() if {*inputs.columns} <= {*train.column_names})
    if inputs.raw is None:
        rows = [table[inputs.columns[0]][:] for table in (train, test)]
    else:
        rows = [inputs.raw(encoded) for encoded in (encoded_train, encoded_test)]
    if rows[1] is not None:
        baselines += [_FITS[kind](rows[0], labels, rows[1]) for kind in inputs.features]
    return baselines


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
    with.
    """
    splits, references, labels = ready.splits, base.test.labels, ready.train.labels
    baselines = no_pretraining_baselines(splits.train, splits.test, ready.train, base.test)
    plain = [
        _rung(b.name, "majority" if b.name == MAJORITY else "no-pretraining", b.predictions, references, b.seconds)
        for b in baselines
    ]
    controls, pretraining = [], None
    if base.random is not None:
        rung, pretraining = _random_rung(base.random, ready, features, base)
        controls.append(rung)
    # The best probe there is, whatever head the run's method needs: of a text it may read the mean of the states.
    every = set(first.cv_accuracy) == set(features["train"])
    best_probe = first if every else _fit_best(features["train"], labels, ready)
    train, test = (np.asarray(arrays[best_probe.pooling]) for arrays in (features["train"], base.features))
    start = time.perf_counter()
    near = nearest_neighbours(train, labels, test).predictions
    near_seconds = time.perf_counter() - start + base.features_seconds
    neighbours = _rung("kNN on frozen features", "features", near, references, near_seconds)
    answers, probe_seconds = best_probe.logits(test).argmax(-1), best_probe.seconds + base.features_seconds
    probe = _rung("probe on frozen features", "features", answers, references, probe_seconds)
    method = _rung(f"{ready.config.method.method} ({ready.loaded.name})", "method", predictions, references, seconds)
    rungs = [*plain, *controls, neighbours, probe]
    if control is not None:
        name = "trained from random weights"
        rungs.append(_rung(name, "control", control.predictions, references, control.seconds, control.note))
    best = best_baseline(baselines)
    return Ladder(
        [*rungs, method], plain[0], plain[baselines.index(best)], neighbours, probe, method, best, pretraining
    )


def _fit_best(features: dict[str, np.ndarray], labels: np.ndarray, ready: Prepared) -> Probe:
    no_bias = without_bias(ready.loaded.model, ready.loaded.output)
    n, seed = len(ready.splits.labels), ready.config.train_seed
    return fit_probe(features, labels, n, "auto", seed, ready.weights, no_bias)


def _random_rung(random: RandomFeatures, ready: Prepared, features: Features, base: Base) -> tuple[Rung, Pretraining]:
    """The probe on random weights, and beside it one on the pretrained weights, fitted and scored on the same rows.

    Fewer rows alone make a probe worse, so the two are compared with each other only.
    """
    labels, references = ready.train.labels[random.train_rows], base.test.labels[random.test_rows]
    probe = _fit_best(random.train, labels, ready)
    predictions = probe.logits(np.asarray(random.test[probe.pooling])).argmax(-1)
    alike = _fit_best({k: np.asarray(v[random.train_rows]) for k, v in features["train"].items()}, labels, ready)
    same = alike.logits(np.asarray(base.features[alike.pooling][random.test_rows])).argmax(-1) == references
    right = predictions == references
    difference = accuracy_difference(same, right)
    pretraining = Pretraining(float(same.mean()), float(right.mean()), difference, len(labels), len(references))
    notes = []
    if len(labels) < len(ready.train.labels) or len(references) < len(base.test.labels):
        notes.append(
            f"fitted on {len(labels):,} of the training rows and scored on {len(references):,} of the test rows, where "
            f"the pretrained weights reach {pretraining.pretrained:.1%}"
        )
    if float(np.asarray(random.train[probe.pooling]).std(0).max()) < DEAD:
        notes.append("untrained, this architecture puts out the same for every row: no measure of the architecture")
    seconds = probe.seconds + random.seconds
    rung = _rung("probe, random weights", "control", predictions, references, seconds, "; ".join(notes))
    return rung, pretraining


def _rung(
    name: str, kind: str, predictions: np.ndarray, references: np.ndarray, seconds: float, note: str = ""
) -> Rung:
    report = {"name": name, "kind": kind, **score_predictions(predictions, references), "seconds": round(seconds, 3)}
    return Rung(predictions, {**report, "note": note} if note else report)


def compare(ready: Prepared, rows: np.ndarray, features: dict[str, np.ndarray]) -> Comparison | None:
    """Cross-validate the probe and the best baseline in three folds of the training rows numbered `rows`.

    `features` are of those rows, by pooling. Each chooses its penalty, and the probe its pooling, inside the two folds
    that it learns from, so that neither has seen what it is scored on. Classes of fewer than six rows sit this out;
    None when fewer than two are left.
    """
    labels = ready.train.labels[rows]
    enough = np.bincount(labels, minlength=len(ready.splits.labels)) >= ENOUGH
    if enough.sum() < 2:
        return None
    places = np.flatnonzero(enough[labels])
    hits = {"probe": np.zeros(len(places), bool), "baseline": np.zeros(len(places), bool)}
    name = ""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=ready.config.train_seed).split(places, labels[places])
    for learn, held in progress(folds, "probe against baseline", "fold", FOLDS):
        a, b = places[learn], places[held]
        hits["probe"][held] = _held_out(features, labels, a, b, ready) == labels[b]
        train, encoded = ready.splits.train, ready.train
        baseline = best_baseline(
            no_pretraining_baselines(
                train.select(rows[a]), train.select(rows[b]), encoded.take(rows[a]), encoded.take(rows[b])
            )
        )
        name = baseline.name
        hits["baseline"][held] = baseline.predictions == labels[b]
    return Comparison(
        len(places), name, float(hits["probe"].mean()), float(hits["baseline"].mean()), paired_gap(**hits)
    )


def _held_out(
    features: dict[str, np.ndarray], labels: np.ndarray, learn: np.ndarray, held: np.ndarray, ready: Prepared
) -> np.ndarray:
    learned = {pooling: values[learn] for pooling, values in features.items()}
    no_bias, seed = without_bias(ready.loaded.model, ready.loaded.output), ready.config.train_seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        probe = fit_probe(learned, labels[learn], len(ready.splits.labels), "auto", seed, no_bias=no_bias)
    return probe.logits(features[probe.pooling][held]).argmax(-1)
