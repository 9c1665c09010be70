"""Baselines that know nothing of any pretraining: what a transferred model has to beat to have been worth it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import softmax

from hftl.errors import DataError


MAJORITY = "majority class"
TFIDF = "TF-IDF + logistic regression"
HISTOGRAM = "colour histogram + logistic regression"
RAW_PIXELS = "raw pixels + logistic regression"

CV_ROWS = 3000
CV_FOLDS = 3
_PREDICT_ROWS = 4096  # scores of so many rows at once: 33 MB with 1,000 classes


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear classifier on features that are computed from the inputs: all that a baseline needs to predict.

    `arrays` hold `weight` [k, d] and `bias` [k] in float32, `classes` [k] (the class ids that were in the training
    rows), and what `features` needs beside them; `settings` hold the rest of that, as JSON can.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]
    features: Callable[[Any], Any] = field(repr=False)  # inputs → [n, d], dense or sparse

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the class id of every text, or of every image of uint8 [n, height, width, channels]."""
        best = [logits.argmax(axis=1) for logits in self._logits(inputs)]
        return self.arrays["classes"][np.concatenate(best)] if best else self.arrays["classes"][:0]

    def predict_proba(self, inputs: Any) -> np.ndarray:
        """Return probabilities [n, k], one column per id in `arrays["classes"]`."""
        found = [softmax(logits, axis=1) for logits in self._logits(inputs)]
        return np.concatenate(found) if found else np.empty((0, len(self.arrays["classes"])), dtype=np.float32)

    def _logits(self, inputs: Any) -> Iterator[np.ndarray]:
        for start in range(0, len(inputs), _PREDICT_ROWS):
            features = self.features(inputs[start : start + _PREDICT_ROWS])
            yield np.asarray(features @ self.arrays["weight"].T) + self.arrays["bias"]


@dataclass(frozen=True, eq=False)
class Baseline:
    """Class ids [n_test] that a baseline predicts, and the seconds it took to fit and predict.

    `cv_accuracy` is its accuracy in cross-validation on training rows, at the penalty that was chosen there; None
    where no class has two rows.
    """

    name: str
    predictions: np.ndarray
    seconds: float
    cv_accuracy: float | None
    model: LinearModel


def best_baseline(baselines: Sequence[Baseline]) -> Baseline:
    """Return the one with the highest accuracy in cross-validation; the test rows have no say. Of equals the later one.

    Where there was nothing to cross-validate, one that learned from the inputs goes before the majority class.
    """
    if not baselines:
        raise DataError("There is no baseline to choose from.")
    if any(b.cv_accuracy is None for b in baselines):
        return max(reversed(baselines), key=lambda b: b.name != MAJORITY)
    return max(reversed(baselines), key=lambda b: b.cv_accuracy or 0.0)


def checked_labels(train_labels: Any, rows: int) -> np.ndarray:
    """Return the labels as an array. Raises `DataError` unless there is one for each of one or more rows."""
    labels = np.asarray(train_labels)
    if labels.ndim != 1 or len(labels) != rows or rows == 0:
        raise DataError(f"A baseline needs one label per training row: got {labels.shape} labels for {rows} rows.")
    return labels


def finish(name: str, started: float, model: LinearModel, cv_accuracy: float | None, test: Any) -> Baseline:
    """Predict the test inputs; the seconds count from `started` (`time.perf_counter`)."""
    predictions = model.predict(test)
    return Baseline(name, predictions, time.perf_counter() - started, cv_accuracy, model)


def majority_class(train_labels: np.ndarray, n_test: int) -> Baseline:
    """Predict the most frequent training label for every test row; of equally frequent ones, the smallest."""
    started = time.perf_counter()
    labels = checked_labels(train_labels, len(train_labels))
    return finish(MAJORITY, started, majority_model(labels), majority_cv_accuracy(labels), range(n_test))


def majority_model(labels: np.ndarray) -> LinearModel:
    """Return the model without features: its probabilities are the shares of the classes in `labels`."""
    classes, counts = np.unique(labels, return_counts=True)
    bias = np.log(counts / len(labels)).astype(np.float32)
    arrays = {"weight": np.zeros((len(classes), 0), dtype=np.float32), "bias": bias, "classes": classes}
    return LinearModel("majority", arrays, {}, no_features)


def no_features(inputs: Any) -> np.ndarray:
    """Return [n, 0]: nothing of the inputs is looked at."""
    return np.zeros((len(inputs), 0), dtype=np.float32)


def majority_cv_accuracy(labels: np.ndarray) -> float | None:
    """Return how often the majority of the other folds is right, None where no class has two rows."""
    found = cv_folds(labels)
    if found is None:
        return None
    rows, folds = found
    y = labels[rows]
    hits = 0
    for fit, held in folds:
        classes, counts = np.unique(y[fit], return_counts=True)
        hits += int((y[held] == classes[counts.argmax()]).sum())
    return hits / len(rows)


def cv_folds(labels: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]] | None:
    """Return (rows, folds): at most 3,000 of the rows, and three stratified (fit, held) parts of them.

    The same for every baseline on the same labels, so that their accuracies compare. A class with fewer rows than
    folds is in some folds only, and missed in the others, as it would be in new data. None where no class has two rows.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:CV_ROWS])
    _, codes, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
    if counts.max() < 2:
        return None
    splitter = StratifiedKFold(min(CV_FOLDS, int(counts.max())), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return rows, list(splitter.split(codes, codes))


def fit_regression(regression: Any, features: Any, labels: np.ndarray) -> Any:
    """Fit scikit-learn's `regression`. Running out of iterations is no fault of the user's data: no warning."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return regression.fit(features, labels)


def choose_c(
    regression: Callable[[float], Any],
    features: Any,
    labels: np.ndarray,
    penalties: Sequence[float],
    default: float,
    renew: Callable[[Any, Any], Any] = lambda fit, held: held,
) -> tuple[float, float | None]:
    """Return the C with the best accuracy in `cv_folds`, of equals the one nearest to `default`, and that accuracy.

    `regression` makes an unfitted model for a C; `renew` makes of the features of the rows fitted on, and of those held
    out, what the latter would be as new rows. (`default`, None) where there are no folds.
    """
    found = cv_folds(labels)
    if found is None:
        return default, None
    rows, folds = found
    y = labels[rows]
    hits = dict.fromkeys(penalties, 0)
    for fit, held in folds:
        x = features[rows[fit]]
        new = renew(x, features[rows[held]])
        for c in penalties:
            if len(np.unique(y[fit])) < 2:  # all that there is to learn is that one class
                hits[c] += int((y[held] == y[fit][0]).sum())
                continue
            hits[c] += int((fit_regression(regression(c), x, y[fit]).predict(new) == y[held]).sum())
    best = max(penalties, key=lambda c: (hits[c], -abs(np.log(c / default))))
    return best, hits[best] / len(rows)


def linear_arrays(regression: Any) -> dict[str, np.ndarray]:
    """Return weight [k, d], bias [k] and classes [k] of a fitted regression.

    Two classes are written as two opposite halves: the same probabilities.
    """
    weight, bias = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return {
        "weight": weight.astype(np.float32),
        "bias": bias.astype(np.float32),
        "classes": np.asarray(regression.classes_),
    }
