"""The probe's solver: logistic regression on features, with C and the pooling chosen by cross-validation."""

import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from hftl.evaluation import CV_ROWS
from hftl.evaluation.folds import Folds, held_out_folds, threads


CS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # on standardised features
# Largest gradient of the mean loss at the end. L-BFGS at 1e-6 leaves logits that are off by 1 in 26 on banking77, and
# two processes with other rounding then start from other heads; Newton's steps end quadratically, in the same time.
TOLERANCE = 1e-9
DEFAULT_C = 1.0  # scikit-learn's, where nothing can be held out
ABSENT = -1e4  # the bias of a class without rows, which no input outweighs
NATIVE_MARGIN = 0.02  # plain `pipeline` loads the stock class: mean pooling has to win by 2 points (DESIGN 12)


# Logistic regression on more rows and classes than fit beside each other sums its objective over chunks of rows:
# scikit-learn's solvers hold several [rows, classes] matrices in float64, 1.6 GB each for 200,000 rows of 1,000 classes.
LARGE = 20_000_000  # rows x classes from which the probe is fitted here; below, Newton's steps end exactly
_CHUNK = 8_000_000  # rows x classes at once, in float32
_ITERATIONS = 300
_PRECISE = 1e-6  # the same in float64, in which L-BFGS gets there
# Largest gradient of the mean loss at the end, times the number of classes: that of one class is about 1/K at the start.
_TOLERANCE = 3e-4


@dataclass(frozen=True)
class Probe:
    """The solution as a Linear on raw features (the standardisation is folded in), and how it was chosen."""

    weight: np.ndarray  # [classes, d]
    bias: np.ndarray  # [classes]; zeros where the head has none
    C: float
    pooling: str
    cv_accuracy: dict[str, dict[str, float]]  # pooling → C → accuracy, or what is scored instead, higher being better
    seconds: float  # that choosing and fitting took
    fit_seconds: float = 0.0  # that fitting alone took, once all was chosen

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return [n, classes] for raw features [n, d]."""
        return features @ self.weight.T + self.bias

    def scaled(self, centre: float, deviation: float) -> "Probe":
        """Return the solution for targets from which `centre` was subtracted, divided by `deviation`."""
        return replace(self, weight=self.weight / deviation, bias=(self.bias - centre) / deviation)

    def softened(self, features: np.ndarray, norm: float, spread: float) -> "Probe":
        """Return the solution with smaller weights, down to `norm` per class on average: it answers as before, less surely.

        The logits over `features` [n, d] keep a deviation of `spread` from the mean of their row, if they have it.
        """
        known = self.bias > ABSENT / 2
        logits = self.logits(np.asarray(features[:CV_ROWS]))[:, known]
        deviation = float((logits - logits.mean(axis=1, keepdims=True)).std())
        length = float(np.linalg.norm(self.weight[known], axis=1).mean())
        factor = min(1.0, max(norm / max(length, 1e-9), spread / max(deviation, 1e-9)))
        return replace(self, weight=self.weight * factor, bias=np.where(known, self.bias * factor, self.bias))


def fit_probe(
    features: dict[str, np.ndarray],
    labels: np.ndarray,
    num_labels: int,
    pooling: str,
    seed: int,
    class_weights: np.ndarray | None = None,
    no_bias: Collection[str] = (),
    large: int | None = None,
    groups: np.ndarray | None = None,
) -> Probe:
    """Choose pooling and C by 3-fold cross-validation on at most 3,000 rows, then fit once on all rows.

    With two rows in every class it is two folds; with one there is nothing to hold out, and C is 1 on native features.
    `features` maps pooling to [n, d]; `pooling` is auto, native or mean; `class_weights` is one factor per class.
    `no_bias` names the poolings whose head is a Linear without bias: their regression has no intercept. `large` is
    `fit_logistic`'s; rows of one of the `groups` [n] are held out together.
    """
    rows = cv_rows(labels, seed)
    some = labels[rows]
    folds = held_out_folds(len(rows), seed, some, None if groups is None else groups[rows])
    score = partial(_cv_scores, labels=some, folds=folds, class_weights=class_weights)
    fit = partial(fit_logistic, labels=labels, num_labels=num_labels, class_weights=class_weights, large=large)
    return choose_and_fit(features, pooling, no_bias, rows, len(rows), score, fit)


def choose_and_fit(
    features: dict[str, np.ndarray],
    pooling: str,
    no_bias: Collection[str],
    rows: np.ndarray,
    size: int,
    score: Callable[..., dict[float, float]],
    fit: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> Probe:
    """Fit the pooling and the C with the best score; native unless another wins by `NATIVE_MARGIN`, of equals the smallest
    C. `score` (features of the `rows`, intercept=) returns C → score, `fit` (features, c=, intercept=) weight and bias.
    """
    start = time.perf_counter()
    with threads(size):
        scores = {
            k: score(np.asarray(v[rows]), intercept=k not in no_bias)
            for k, v in features.items()
            if pooling in ("auto", k)
        }
    best_c = {k: max(s, key=lambda c: s[c]) for k, s in scores.items()}
    best = max(best_c, key=lambda k: scores[k][best_c[k]])
    if "native" in scores and scores["native"][best_c["native"]] >= scores[best][best_c[best]] - NATIVE_MARGIN:
        best = "native"
    table = {k: {f"{c:g}": round(v, 5) for c, v in s.items()} for k, s in scores.items()}
    chosen = time.perf_counter()
    weight, bias = fit(np.asarray(features[best]), c=best_c[best], intercept=best not in no_bias)
    end = time.perf_counter()
    return Probe(weight, bias, best_c[best], best, table, end - start, end - chosen)


def cv_rows(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows that cross-validation looks at: all, or a stratified 3,000 of them, or, of so many classes that
    3,000 rows would be one or two of each, all rows of some classes.
    """
    rows = np.arange(len(labels))
    if len(rows) <= CV_ROWS:
        return rows
    counts = np.bincount(labels)
    some = np.flatnonzero(counts >= 2)  # one row cannot be held out and learned from; it is left to the final fit
    rows = rows[np.isin(labels, some)]
    if len(rows) <= CV_ROWS:
        return rows if len(rows) else np.arange(1)
    if 2 * len(some) <= CV_ROWS and len(rows) - CV_ROWS >= len(some):  # what a stratified draw needs
        return train_test_split(rows, train_size=CV_ROWS, stratify=labels[rows], random_state=seed)[0]
    some = np.random.default_rng(seed).permutation(some)  # all rows of some classes, as many as there is room for
    enough = int(np.searchsorted(np.cumsum(counts[some]), CV_ROWS)) + 1
    return rows[np.isin(labels[rows], some[:enough])][:CV_ROWS]


def _cv_scores(
    features: np.ndarray, labels: np.ndarray, folds: Folds, class_weights: np.ndarray | None, *, intercept: bool
) -> dict[float, float]:
    """Mean held-out accuracy per C: of rows, or of the classes as they are weighed in the fit."""
    if not folds:
        return {DEFAULT_C: 0.0}
    weights = None if class_weights is None else class_weights[labels]

    def share_of(answers: Any, held: np.ndarray) -> float:
        right = answers == labels[held]
        return float(right.sum()) / len(labels) if weights is None else float(weights[held] / weights.sum() @ right)

    scores = dict.fromkeys(CS, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ranking needs no last digit; the final fit does
        warnings.filterwarnings("ignore", message="The number of unique class")
        for train, held in folds:
            if len(np.unique(labels[train])) < 2:  # all that there is to learn is that one class
                scores = {c: value + share_of(labels[train][0], held) for c, value in scores.items()}
                continue
            x, mean, scale = standardise(features[train], centre=intercept)
            new = (features[held] - mean) / scale
            model = LogisticRegression(max_iter=100, tol=1e-3, warm_start=True, fit_intercept=intercept)
            for c in CS:  # from strong to weak, each a good start for the next
                model.set_params(C=c).fit(x, labels[train], None if weights is None else weights[train])
                scores[c] += share_of(model.predict(new), held)
    return scores


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    num_labels: int,
    c: float,
    class_weights: np.ndarray | None = None,
    *,
    intercept: bool = True,
    large: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on raw features, at the optimum of scikit-learn's objective, or near
    it from `large` rows x classes on (default: `LARGE`).

    A class without rows gets a bias that no input outweighs. Two classes are written as two opposite halves: the
    same probabilities. Without `intercept` the bias is zero for all: the solution for a head that has none.
    """
    sample_weight = None if class_weights is None else class_weights[labels]
    with threads(len(labels) * num_labels), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # a few rows of many classes
        if len(labels) * num_labels >= (large or LARGE):
            classes, codes = np.unique(labels, return_inverse=True)
            mean, scale = moments(features, centre=intercept)
            coef, shift = fit_in_chunks(features, codes, c, sample_weight, (mean, scale), intercept=intercept)
        else:
            x, mean, scale = standardise(features, centre=intercept)
            model = LogisticRegression(C=c, solver="newton-cg", max_iter=1000, tol=TOLERANCE, fit_intercept=intercept)
            model.fit(x, labels, sample_weight=sample_weight)
            classes, coef, shift = model.classes_, model.coef_, model.intercept_
    if len(classes) == 2 and len(coef) == 1:
        coef, shift = np.vstack([-coef, coef]) / 2, np.concatenate([-shift, shift]) / 2
    coef = coef / scale
    shift = shift - coef @ mean
    weight = np.zeros((num_labels, features.shape[1]))
    bias = np.full(num_labels, ABSENT if intercept else 0.0)
    weight[classes] = coef
    if intercept:
        bias[classes] = shift
    return weight.astype(np.float32), bias.astype(np.float32)


def standardise(features: np.ndarray, *, centre: bool) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return one float64 copy, standardised in place (with many rows every further copy would show), and `moments`.

    Not to `centre` is for a head without bias, which cannot express a shift: the means that stay serve as an intercept.
    """
    mean, scale = moments(features, centre=centre)
    x = np.array(features, dtype=np.float64)
    x -= mean
    x /= scale
    return x, mean, scale


def fit_in_chunks(
    features: np.ndarray,
    targets: np.ndarray,
    c: float,
    weights: np.ndarray | None,
    standard: tuple[np.ndarray, np.ndarray],
    *,
    intercept: bool,
    precise: bool = False,
    begin: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on the features standardised by `standard`: mean and scale, [d] each.

    The objective is scikit-learn's. Of codes [n], 0 to `classes` - 1: the mean cross entropy, `weights` one per row, plus
    |weight|^2 / (2 C sum of weights). Of 0 and 1 [n, classes]: the binary cross entropy of each class as if it were
    alone, `weights` [classes] being those of the ones. Minimised by L-BFGS (Liu and Nocedal 1989), from `begin`
    [classes, d + 1]; sums are float64, products float32, or float64 to the last digits where it is to be `precise`.
    """
    n, d = features.shape
    single = targets.ndim == 1
    classes = int(targets.max()) + 1 if single else targets.shape[1]
    total = float(weights.sum()) if single and weights is not None else float(n)
    step = max(1, _CHUNK // (classes if single else max(classes, d)))
    kind = np.dtype(np.float64 if precise else np.float32)
    centre, width = (np.asarray(array, dtype=kind) for array in standard)
    part_of = _softmax_part if single else _sigmoid_part

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = flat.reshape(classes, -1)
        weight = both[:, :d].astype(kind)
        bias = both[:, d].astype(kind) if intercept else np.zeros(classes, dtype=kind)
        gradient = np.zeros_like(both)
        loss = 0.0
        for start in range(0, n, step):
            part = slice(start, start + step)
            x = (np.asarray(features[part], dtype=kind) - centre) / width
            logits = x @ weight.T
            logits += bias
            loss += part_of(logits, targets[part], weights[part] if single and weights is not None else weights)
            gradient[:, :d] += logits.T @ x
            if intercept:
                gradient[:, d] += logits.sum(axis=0)
        penalty = both[:, :d]
        gradient[:, :d] += penalty / c
        return (loss + 0.5 * float((penalty**2).sum()) / c) / total, (gradient / total).ravel()

    start_at = np.zeros(classes * (d + intercept)) if begin is None else begin[:, : d + intercept].ravel()
    options = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE / classes, "ftol": 1e-11}
    if precise:
        options |= {"maxiter": 10 * _ITERATIONS, "gtol": _PRECISE / classes, "ftol": 0.0}
    both = minimize(objective, start_at, jac=True, method="L-BFGS-B", options=options).x.reshape(classes, -1)
    return both[:, :d], both[:, d] if intercept else np.zeros(classes)


def _softmax_part(logits: np.ndarray, codes: np.ndarray, weights: np.ndarray | None) -> float:
    """Return the summed loss of logits [m, classes], which become its gradient, in place; `weights` [m] are of rows."""
    at = np.arange(len(logits))
    logits -= logits.max(axis=1, keepdims=True)
    true = logits[at, codes].astype(np.float64)
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1)
    factor = np.ones(len(logits), logits.dtype) if weights is None else weights.astype(logits.dtype)
    loss = float(((np.log(sums.astype(np.float64)) - true) * factor).sum())
    logits *= (factor / sums)[:, None]
    logits[at, codes] -= factor
    return loss


def _sigmoid_part(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
    """Do the same for 0 and 1 [m, classes]; `weights` [classes] are of the ones."""
    ones = targets != 0
    loss = np.logaddexp(0, np.where(ones, -logits, logits))
    expit(logits, out=logits)
    logits -= ones
    if weights is not None:
        factor = np.where(ones, weights, 1).astype(logits.dtype)
        loss *= factor
        logits *= factor
    return float(loss.sum(dtype=np.float64))


def moments(features: np.ndarray, *, centre: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (0 not to `centre`) and deviation (1 where there is none) of every column, float64, from chunks of rows."""
    n, d = features.shape
    step = max(1, _CHUNK // d)
    mean = sum(features[s : s + step].sum(axis=0, dtype=np.float64) for s in range(0, n, step)) / n
    squares = np.zeros(d)
    for start in range(0, n, step):
        centred = features[start : start + step].astype(np.float64) - mean
        squares += np.einsum("ij,ij->j", centred, centred)
    scale = np.sqrt(squares / n)
    return mean if centre else np.zeros_like(mean), np.where(scale < 1e-8, 1.0, scale)
