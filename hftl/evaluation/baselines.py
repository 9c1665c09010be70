"""Baselines that know nothing of any pretraining: what a transferred model has to beat to have been worth it."""

import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hftl.errors import DataError
from hftl.evaluation.folds import Folds, held_out_folds, some_rows
from hftl.evaluation.label_scores import SCORES, label_statistics, log_odds
from hftl.evaluation.metrics import total
from hftl.evaluation.number_scores import number_statistics, r2


_CV_LABELS = 10  # the most frequent ones, on which the penalty of all is chosen
_THREADS = 2  # each holds four copies of the weights
_PREDICT_ROWS = 4096  # features of so many rows at once
_NEVER = -1e4  # a logit whose exponential is 0


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear model on features that are computed from the inputs: all that a baseline needs to predict.

    Inputs are texts, or images of uint8 [n, height, width, channels]. `arrays` hold `weight` [k, d] and `bias` [k] in
    float32, `classes` [k] (the class ids that were in the training rows, or all labels), and what `features` needs
    beside them; `settings` hold the rest of that, as JSON can. `name` and `labels` are known of a model read from a
    folder.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]
    features: Callable[[Any], Any] = field(repr=False)  # inputs → [n, d], dense or sparse
    name: str = ""
    labels: tuple[str, ...] = ()

    @property
    def link(self) -> str:
        """From outputs to probabilities: "softmax" (one class), "sigmoid" (each label), "none" (a number)."""
        return str(self.settings.get("link", "softmax"))  # baselines saved before there were others do not say

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the class id of every input [n]; of labels 0 or 1 [n, labels], of numbers the number [n]."""
        outputs = self.outputs(inputs)
        if self.link == "softmax":
            return outputs.argmax(axis=1)
        return (outputs > 0).astype(np.int64) if self.link == "sigmoid" else outputs[:, 0].astype(np.float64)

    def outputs(self, inputs: Any) -> np.ndarray:
        """Return what the model puts out for every input: logits [n, labels], or the number [n, 1].

        A class that no training row had has a probability of 0.
        """
        weight, bias, classes = (self.arrays[name] for name in ("weight", "bias", "classes"))
        outputs = np.full((len(inputs), len(self.labels) or classes.max() + 1), _NEVER, dtype=bias.dtype)
        for start in range(0, len(inputs), _PREDICT_ROWS):
            features = self.features(inputs[start : start + _PREDICT_ROWS])
            outputs[start : start + _PREDICT_ROWS, classes] = np.asarray(features @ weight.T) + bias
        return outputs


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a baseline answers to the test rows, in the form of targets, and the seconds it took to fit and predict.

    `cv_accuracy` is its score in cross-validation on training rows, at the penalty that was chosen there: accuracy, of
    labels micro-F1, of numbers R2, of tags the share of right words. None where there were too few rows for that.
    """

    name: str
    predictions: Any
    seconds: float
    cv_accuracy: float | None
    model: Any  # with `kind`, `arrays`, `settings` and `predict`: a `LinearModel`, of tags a `WordTags`


def best_baseline(baselines: Sequence[Baseline]) -> Baseline:
    """Return the one with the best score in cross-validation; the test rows have no say. Of equals the later one.

    Where there was nothing to cross-validate, one that learned from the inputs goes before the majority class.
    """
    if not baselines:
        raise DataError("There is no baseline to choose from.")
    if any(b.cv_accuracy is None for b in baselines):
        return max(reversed(baselines), key=lambda b: b.model.kind != "majority")
    return max(reversed(baselines), key=lambda b: b.cv_accuracy or 0.0)


@dataclass(frozen=True, eq=False)
class Goal:
    """What a linear model answers with, and how well: what differs between classes, labels and numbers."""

    name: str  # of the baseline that looks at nothing of the inputs
    settings: dict[str, str]  # the model's link, where it is not softmax
    constant: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # targets → bias and classes [k] of that baseline
    typical: Callable[[np.ndarray], Any]  # targets → its answer to a row
    score: Callable[[np.ndarray, np.ndarray], float]  # (answers, targets) → higher is better

    def folds(self, targets: np.ndarray) -> tuple[np.ndarray, Folds]:
        """Return at most 3,000 of the rows, and parts of them, the same for every baseline so that their scores compare."""
        rows = some_rows(len(targets))
        return rows, held_out_folds(len(rows), classes=targets[rows] if self is CLASS else None)


def _class_shares(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log shares and classes: the probabilities without features are the shares of the classes."""
    classes, counts = np.unique(labels, return_counts=True)
    return np.log(counts / len(labels)).astype(np.float32), classes


def _label_shares(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log odds of each label, which stop short of 0 where the most frequent set says otherwise."""
    odds = log_odds(targets)
    bias = np.where(_most_frequent_set(targets), np.maximum(odds, 1e-3), np.minimum(odds, -1e-3))
    return bias.astype(np.float32), np.arange(targets.shape[1])


def _most_frequent(labels: np.ndarray) -> Any:
    classes, counts = np.unique(labels, return_counts=True)
    return classes[counts.argmax()]


def _most_frequent_set(targets: np.ndarray) -> np.ndarray:
    sets, counts = np.unique(np.packbits(targets != 0, axis=1), axis=0, return_counts=True)
    return np.unpackbits(sets[counts.argmax()])[: targets.shape[1]].astype(np.int64)


# The most frequent class, of equals the smallest; the most frequent set, of equals the first in order; the mean.
CLASS = Goal(
    name="majority class",
    settings={},
    constant=_class_shares,
    typical=_most_frequent,
    score=lambda answers, targets: int((answers == targets).sum()) / len(targets),
)
LABEL_SET = Goal(
    name="most frequent labels",
    settings={"link": "sigmoid"},
    constant=_label_shares,
    typical=_most_frequent_set,
    score=lambda answers, targets: total(label_statistics(answers, targets), SCORES["micro_f1"]),
)
NUMBER = Goal(
    name="mean",
    settings={"link": "none"},
    constant=lambda targets: (np.array([targets.mean()]), np.arange(1)),
    typical=np.mean,
    score=lambda answers, targets: total(number_statistics(answers, targets), r2),
)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a linear model on one kind of features is fitted."""

    kind: str
    name: str
    learn: Callable[[Any, int], Any]  # (training inputs, classes) → arrays, settings, features [n, d]; None: none
    features: Callable[[dict[str, np.ndarray], dict[str, Any]], Callable[[Any], Any]]  # arrays, settings → `features`
    regression: Callable[[float, bool, int], Any]  # (C, is it only to rank penalties?, values x classes) → unfitted
    penalties: Sequence[float]
    default: float  # where no class has enough rows to compare penalties
    # Features fitted on, features held out → what the latter would be as new rows.
    renew: Callable[[Any, Any], Any] = lambda fit, held: held
    goal: Goal = CLASS


def constant_baseline(goal: Goal, train_targets: Any, test: Any, name: str = "") -> Baseline:
    """Return the baseline that looks at nothing of the `test` inputs: it answers with the most frequent target, or the mean."""
    started = time.perf_counter()
    targets = np.asarray(train_targets)
    bias, classes = goal.constant(targets)
    arrays = {"weight": np.zeros((len(bias), 0), dtype=np.float32), "bias": bias, "classes": classes}
    rows, folds = goal.folds(targets)
    answers = np.zeros(targets[rows].shape)
    for fit, held in folds:
        answers[held] = goal.typical(targets[rows[fit]])
    score = goal.score(answers, targets[rows]) if folds else None
    model = LinearModel("majority", arrays, dict(goal.settings), no_features)
    return finish(name or goal.name, started, model, score, test)


def fit_baseline(recipe: Recipe, train: Any, train_targets: Any, test: Any) -> Baseline:
    """Fit the recipe on the training inputs, with C by cross-validation on them, and predict the test inputs.

    Inputs with nothing to count, or targets that are all alike, give the baseline that looks at nothing.
    """
    from sklearn.exceptions import ConvergenceWarning

    started, goal = time.perf_counter(), recipe.goal
    targets = np.asarray(train_targets)
    alike = len(np.unique(targets, axis=0)) < 2
    width = targets.shape[1] if targets.ndim == 2 else len(np.unique(targets)) if goal is CLASS else 1
    learned = None if alike else recipe.learn(train, width)
    if learned is None:
        return constant_baseline(goal, targets, test, recipe.name)
    arrays, settings, features = learned
    products = features.size * width  # of a sparse matrix: the values that it holds
    # One thread: several wait for each other in spinning loops, 280 s instead of 4 on digits beside other work.
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # running out of iterations is no fault of the user's data
        c, cv_accuracy = _choose_c(recipe, features, targets, products)
        fitted = recipe.regression(c, False, products).fit(features, targets)
    settings = {**settings, "C": c, **goal.settings}
    model = LinearModel(recipe.kind, {**_linear_arrays(fitted), **arrays}, settings, recipe.features(arrays, settings))
    return finish(recipe.name, started, model, cv_accuracy, test)


def finish(name: str, started: float, model: Any, cv_accuracy: float | None, test: Any) -> Baseline:
    """Let the model answer the test inputs."""
    predictions = model.predict(test)
    return Baseline(name, predictions, time.perf_counter() - started, cv_accuracy, model)


def no_features(inputs: Any) -> np.ndarray:
    """Return [n, 0]: nothing of the inputs is looked at."""
    return np.zeros((len(inputs), 0), dtype=np.float32)


def _choose_c(recipe: Recipe, features: Any, targets: np.ndarray, products: int) -> tuple[float, float | None]:
    """Return the C with the best score in `Goal.folds`, of equals the one nearest to the default, and that score.

    The default and None where there are no folds.
    """
    if targets.ndim == 2 and targets.shape[1] > _CV_LABELS and len(recipe.penalties) > 1:
        often = np.argsort(-targets.sum(axis=0), kind="stable")[:_CV_LABELS]
        recipe = replace(recipe, penalties=(_choose_c(recipe, features, targets[:, often], products)[0],))
    goal = recipe.goal
    rows, folds = goal.folds(targets)
    if not folds:
        return recipe.default, None
    y = targets[rows]
    answers = {c: np.zeros(y.shape) for c in recipe.penalties}

    def answer(job: tuple[float, np.ndarray, np.ndarray, Any, Any]) -> None:
        c, fit, held, x, new = job
        alike = len(np.unique(y[fit], axis=0)) < 2  # all that there is to learn is that one
        fitted = None if alike else recipe.regression(c, True, products).fit(x, y[fit])
        answers[c][held] = goal.typical(y[fit]) if fitted is None else fitted.predict(new)

    parts = [(fit, held, x := features[rows[fit]], recipe.renew(x, features[rows[held]])) for fit, held in folds]
    with ThreadPoolExecutor(_THREADS) as pool:  # the solvers let other threads run
        list(pool.map(answer, [(c, *part) for part in parts for c in recipe.penalties]))
    scores = {c: goal.score(given, y) for c, given in answers.items()}
    best = max(recipe.penalties, key=lambda c: (scores[c], -abs(np.log(c / recipe.default))))
    return best, scores[best]


def _linear_arrays(regression: Any) -> dict[str, np.ndarray]:
    """Return weight [k, d], bias [k] and classes [k] of a fitted regression.

    Two classes are written as two opposite halves: the same probabilities.
    """
    weight, bias = np.atleast_2d(regression.coef_), np.atleast_1d(regression.intercept_)
    classes = np.asarray(getattr(regression, "classes_", np.arange(len(weight))))  # of ridge: the one number
    if len(classes) == 2 and len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32), "classes": classes}


class OnePerLabel:
    """A binary regression of scikit-learn for each column of targets [n, labels], as one estimator of it."""

    def __init__(self, regression: Any):
        self.regression = regression

    def fit(self, features: Any, targets: np.ndarray) -> "OnePerLabel":
        """Fit each label on its own; one that all rows have, or none, by its log odds."""
        self.classes_ = np.arange(targets.shape[1])
        self.coef_ = np.zeros((targets.shape[1], features.shape[1]), dtype=np.float32)
        self.intercept_ = log_odds(targets)
        for label in np.flatnonzero((targets != targets[0]).any(axis=0)):
            fitted = self.regression.fit(features, targets[:, label] != 0)
            self.coef_[label], self.intercept_[label] = fitted.coef_[0], fitted.intercept_[0]
        return self

    def predict(self, features: Any) -> np.ndarray:
        """Return 0 or 1 [n, labels]."""
        return (np.asarray(features @ self.coef_.T) + self.intercept_ > 0).astype(np.int64)
