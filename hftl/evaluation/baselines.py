"""Baselines that know nothing of any pretraining: what a transferred model has to beat to have been worth it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from hftl.errors import DataError
from hftl.evaluation import CV_FOLDS, CV_ROWS


MAJORITY = "majority class"
TFIDF = "TF-IDF + logistic regression"
HISTOGRAM = "colour histogram + logistic regression"
RAW_PIXELS = "raw pixels + logistic regression"
_PREDICT_ROWS = 4096  # scores of so many rows at once: 33 MB with 1,000 classes


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear classifier on features that are computed from the inputs: all that a baseline needs to predict.

    Inputs are texts, or images of uint8 [n, height, width, channels]. `arrays` hold `weight` [k, d] and `bias` [k] in
    float32, `classes` [k] (the class ids that were in the training rows), and what `features` needs beside them;
    `settings` hold the rest of that, as JSON can. `name` and `labels` are known of a model read from a folder.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]
    features: Callable[[Any], Any] = field(repr=False)  # inputs → [n, d], dense or sparse
    name: str = ""
    labels: tuple[str, ...] = ()

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the class id of every input, [n]."""
        best = [logits.argmax(axis=1) for logits in self._logits(inputs)]
        return self.arrays["classes"][np.concatenate(best)] if best else self.arrays["classes"][:0]

    def predict_proba(self, inputs: Any) -> np.ndarray:
        """Return probabilities [n, labels] in float32; 0 for a label that no training row had."""
        classes = self.arrays["classes"]
        probabilities = np.zeros((len(inputs), len(self.labels) or classes.max() + 1), dtype=np.float32)
        start = 0
        for logits in self._logits(inputs):
            probabilities[start : start + len(logits), classes] = softmax(logits, axis=1)
            start += len(logits)
        return probabilities

    def _logits(self, inputs: Any) -> Iterator[np.ndarray]:
        for start in range(0, len(inputs), _PREDICT_ROWS):
            features = self.features(inputs[start : start + _PREDICT_ROWS])
            yield np.asarray(features @ self.arrays["weight"].T) + self.arrays["bias"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a logistic regression on one kind of features is fitted."""

    kind: str
    name: str
    learn: Callable[[Any, int], Any]  # (training inputs, classes) → arrays, settings, features [n, d]; None: none
    features: Callable[[dict[str, np.ndarray], dict[str, Any]], Callable[[Any], Any]]  # arrays, settings → `features`
    regression: Callable[[float, bool, int], Any]  # (C, is it only to rank penalties?, values x classes) → unfitted
    penalties: Sequence[float]
    default: float  # where no class has enough rows to compare penalties
    # Features fitted on, features held out → what the latter would be as new rows.
    renew: Callable[[Any, Any], Any] = lambda fit, held: held


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


def fit_baseline(recipe: Recipe, train: Any, train_labels: Any, test: Any) -> Baseline:
    """Fit the recipe on the training inputs, with C by cross-validation on them, and predict the test inputs.

    Inputs with nothing to count, or of one class only, give the majority class. Raises `DataError` unless there is one
    label for each of one or more training rows.
    """
    started = time.perf_counter()
    labels = _checked_labels(train_labels, len(train))
    classes = len(np.unique(labels))
    learned = recipe.learn(train, classes) if classes > 1 else None
    if learned is None:
        return _finish(recipe.name, started, _majority_model(labels), _majority_accuracy(labels), test)
    arrays, settings, features = learned
    products = features.size * classes  # of a sparse matrix: the values that it holds
    # One thread: several wait for each other in spinning loops, 280 s instead of 4 on digits beside other work.
    with threadpool_limits(1, user_api="blas"):
        c, cv_accuracy = _choose_c(recipe, features, labels, products)
        fitted = _fit(recipe.regression(c, False, products), features, labels)
    settings = {**settings, "C": c}
    model = LinearModel(recipe.kind, {**_linear_arrays(fitted), **arrays}, settings, recipe.features(arrays, settings))
    return _finish(recipe.name, started, model, cv_accuracy, test)


def majority_class(train_labels: np.ndarray, n_test: int) -> Baseline:
    """Predict the most frequent training label for every test row; of equally frequent ones, the smallest."""
    started = time.perf_counter()
    labels = _checked_labels(train_labels, len(train_labels))
    return _finish(MAJORITY, started, _majority_model(labels), _majority_accuracy(labels), range(n_test))


def _checked_labels(train_labels: Any, rows: int) -> np.ndarray:
    labels = np.asarray(train_labels)
    if labels.ndim != 1 or len(labels) != rows or rows == 0:
        raise DataError(f"A baseline needs one label per training row: got {labels.shape} labels for {rows} rows.")
    return labels


def _finish(name: str, started: float, model: LinearModel, cv_accuracy: float | None, test: Any) -> Baseline:
    predictions = model.predict(test)
    return Baseline(name, predictions, time.perf_counter() - started, cv_accuracy, model)


def _majority_model(labels: np.ndarray) -> LinearModel:
    """Return the model without features: its probabilities are the shares of the classes in `labels`."""
    classes, counts = np.unique(labels, return_counts=True)
    bias = np.log(counts / len(labels)).astype(np.float32)
    arrays = {"weight": np.zeros((len(classes), 0), dtype=np.float32), "bias": bias, "classes": classes}
    return LinearModel("majority", arrays, {}, no_features)


def no_features(inputs: Any) -> np.ndarray:
    """Return [n, 0]: nothing of the inputs is looked at."""
    return np.zeros((len(inputs), 0), dtype=np.float32)


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


def _majority_accuracy(labels: np.ndarray) -> float | None:
    """Return how often the majority of the other folds is right, None where no class has two rows."""
    split = cv_folds(labels)
    if split is None:
        return None
    rows, folds = split
    y = labels[rows]
    return sum(int((y[held] == _most_frequent(y[fit])).sum()) for fit, held in folds) / len(rows)


def _most_frequent(labels: np.ndarray) -> Any:
    classes, counts = np.unique(labels, return_counts=True)
    return classes[counts.argmax()]


def _fit(regression: Any, features: Any, labels: np.ndarray) -> Any:
    """Fit scikit-learn's `regression`. Running out of iterations is no fault of the user's data: no warning."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return regression.fit(features, labels)


def _choose_c(recipe: Recipe, features: Any, labels: np.ndarray, products: int) -> tuple[float, float | None]:
    """Return the C with the best accuracy in `cv_folds`, of equals the one nearest to the default, and that accuracy.

    The default and None where there are no folds.
    """
    split = cv_folds(labels)
    if split is None:
        return recipe.default, None
    rows, folds = split
    y = labels[rows]
    hits = dict.fromkeys(recipe.penalties, 0)
    for fit, held in folds:
        x = features[rows[fit]]
        new = recipe.renew(x, features[rows[held]])
        for c in recipe.penalties:
            if len(np.unique(y[fit])) < 2:  # all that there is to learn is that one class
                hits[c] += int((y[held] == y[fit][0]).sum())
                continue
            fitted = _fit(recipe.regression(c, True, products), x, y[fit])
            hits[c] += int((fitted.predict(new) == y[held]).sum())
    best = max(recipe.penalties, key=lambda c: (hits[c], -abs(np.log(c / recipe.default))))
    return best, hits[best] / len(rows)


def _linear_arrays(regression: Any) -> dict[str, np.ndarray]:
    """Return weight [k, d], bias [k] and classes [k] of a fitted regression.

    Two classes are written as two opposite halves: the same probabilities.
    """
    weight, bias, classes = regression.coef_, regression.intercept_, np.asarray(regression.classes_)
    if len(classes) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32), "classes": classes}
