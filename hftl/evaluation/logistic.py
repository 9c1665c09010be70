"""The probe's solver: logistic regression on features, with C and the pooling chosen by cross-validation."""

import time
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from threadpoolctl import threadpool_limits

from hftl.evaluation import CV_FOLDS, CV_ROWS, THREADS_PAY


CS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # on standardised features
# Largest gradient of the mean loss at the end. L-BFGS at 1e-6 leaves logits that are off by 1 in 26 on banking77, and
# two processes with other rounding then start from other heads; Newton's steps end quadratically, in the same time.
TOLERANCE = 1e-9
DEFAULT_C = 1.0  # scikit-learn's, where nothing can be held out
NATIVE_MARGIN = 0.02  # plain `pipeline` loads the stock class: mean pooling has to win by 2 points (DESIGN 12)


# Logistic regression on more rows and classes than fit beside each other sums its objective over chunks of rows:
# scikit-learn's solvers hold several [rows, classes] matrices in float64, 1.6 GB each for 200,000 rows of 1,000 classes.
LARGE = 20_000_000  # rows x classes from which the probe is fitted here; below, Newton's steps end exactly
_CHUNK = 8_000_000  # rows x classes at once, in float32
_ITERATIONS = 300
# Largest gradient of the mean loss at the end, times the number of classes: that of one class is about 1/K at the start.
_TOLERANCE = 3e-4


@dataclass(frozen=True)
class Probe:
    """The solution as a Linear on raw features (the standardisation is folded in), and how it was chosen."""

    weight: np.ndarray  # [classes, d]
    bias: np.ndarray  # [classes]; zeros where the head has none
    C: float
    pooling: str
    cv_accuracy: dict[str, dict[str, float]]  # pooling → C → accuracy
    seconds: float  # that choosing and fitting took
    fit_seconds: float = 0.0  # that fitting alone took, once all was chosen

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return [n, classes] for raw features [n, d]."""
        return features @ self.weight.T + self.bias

    def scaled(self, centre: float, deviation: float) -> "Probe":
        """Return the solution for targets from which `centre` was subtracted, divided by `deviation`."""
        return replace(self, weight=self.weight / deviation, bias=(self.bias - centre) / deviation)


def fit_probe(
    features: dict[str, np.ndarray],
    labels: np.ndarray,
    num_labels: int,
    pooling: str,
    seed: int,
    class_weights: np.ndarray | None = None,
    no_bias: Collection[str] = (),
) -> Probe:
    """Choose pooling and C by 3-fold cross-validation on at most 3,000 rows, then fit once on all rows.

    With two rows in every class it is two folds; with one there is nothing to hold out, and C is 1 on native features.
    `features` maps pooling to [n, d]; `pooling` is auto, native or mean; `class_weights` is one factor per class.
    `no_bias` names the poolings whose head is a Linear without bias: their regression has no intercept.
    """
    start = time.perf_counter()
    choice = choose_penalty(features, labels, pooling, seed, class_weights, no_bias)
    pooling, chosen = choice.pooling, time.perf_counter()
    with _threads(len(labels) * num_labels):
        x, intercept = np.asarray(features[pooling]), pooling not in no_bias
        weight, bias = fit_logistic(x, labels, num_labels, choice.C, class_weights, intercept=intercept)
    end = time.perf_counter()
    return Probe(weight, bias, choice.C, pooling, choice.cv_accuracy, end - start, end - chosen)


def _threads(size: int) -> Any:
    return threadpool_limits(None if size >= THREADS_PAY else 1, user_api="blas")


class Choice(NamedTuple):
    """What cross-validation chose; `cv_accuracy` has the accuracy of each pooling and C."""

    pooling: str
    C: float
    cv_accuracy: dict[str, dict[str, float]]


def choose_penalty(
    features: dict[str, np.ndarray],
    labels: np.ndarray,
    pooling: str,
    seed: int,
    class_weights: np.ndarray | None = None,
    no_bias: Collection[str] = (),
) -> Choice:
    """Choose pooling and C by cross-validation; the arguments are `fit_probe`'s."""
    candidates = {k: v for k, v in features.items() if pooling in ("auto", k)}
    rows = cv_rows(labels, seed)
    with _threads(len(rows)):
        scores = {
            k: _cv_scores(np.asarray(v[rows]), labels[rows], seed, k not in no_bias, class_weights)
            for k, v in candidates.items()
        }
    best_c = {k: max(s, key=lambda c: s[c]) for k, s in scores.items()}
    best = max(best_c, key=lambda k: scores[k][best_c[k]])
    if "native" in scores and scores["native"][best_c["native"]] >= scores[best][best_c[best]] - NATIVE_MARGIN:
        best = "native"
    table = {k: {f"{c:g}": round(v, 5) for c, v in s.items()} for k, s in scores.items()}
    return Choice(best, best_c[best], table)


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
    features: np.ndarray, labels: np.ndarray, seed: int, intercept: bool, class_weights: np.ndarray | None
) -> dict[float, float]:
    """Mean held-out accuracy per C: of rows, or of the classes as they are weighed in the fit."""
    weights = None if class_weights is None else class_weights[labels]
    shares = None if weights is None else weights / weights.sum()
    scores = dict.fromkeys(CS, 0.0)
    most = int(np.bincount(labels).max())
    if most < 2:
        return {DEFAULT_C: 0.0}
    folds = StratifiedKFold(min(CV_FOLDS, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ranking needs no last digit; the final fit does
        warnings.filterwarnings("ignore", message="The (least populated|number of unique) class")
        for train, held_out in folds.split(features, labels):
            x, mean, scale = _standardise(features[train], centre=intercept)
            held = (features[held_out] - mean) / scale
            if len(np.unique(labels[train])) < 2:  # all that there is to learn is that one class
                alike = labels[held_out] == labels[train][0]
                share = alike.sum() / len(labels) if shares is None else shares[held_out] @ alike
                scores = {c: value + float(share) for c, value in scores.items()}
                continue
            model = LogisticRegression(max_iter=100, tol=1e-3, warm_start=True, fit_intercept=intercept)
            for c in CS:  # from strong to weak, each a good start for the next
                model.set_params(C=c).fit(x, labels[train], None if weights is None else weights[train])
                right = model.predict(held) == labels[held_out]
                scores[c] += float(right.sum()) / len(labels) if shares is None else float(shares[held_out] @ right)
    return scores


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    num_labels: int,
    c: float,
    class_weights: np.ndarray | None = None,
    *,
    intercept: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on raw features, at the optimum of scikit-learn's objective.

    A class without rows gets a bias that no input outweighs. Two classes are written as two opposite halves: the
    same probabilities. Without `intercept` the bias is zero for all: the solution for a head that has none.
    """
    sample_weight = None if class_weights is None else class_weights[labels]
    if len(labels) * num_labels >= LARGE:
        classes, coef, shift, mean, scale = _fit_large(features, labels, c, sample_weight, intercept)
    else:
        x, mean, scale = _standardise(features, centre=intercept)
        model = LogisticRegression(C=c, solver="newton-cg", max_iter=1000, tol=TOLERANCE, fit_intercept=intercept)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The number of unique classes")  # a few rows of many classes
            model.fit(x, labels, sample_weight=sample_weight)
        classes, coef, shift = model.classes_, model.coef_, model.intercept_
    if len(classes) == 2 and len(coef) == 1:
        coef, shift = np.vstack([-coef, coef]) / 2, np.concatenate([-shift, shift]) / 2
    coef = coef / scale
    shift = shift - coef @ mean
    weight = np.zeros((num_labels, features.shape[1]))
    bias = np.full(num_labels, -1e4 if intercept else 0.0)
    weight[classes] = coef
    if intercept:
        bias[classes] = shift
    return weight.astype(np.float32), bias.astype(np.float32)


def _fit_large(
    features: np.ndarray, labels: np.ndarray, c: float, sample_weight: np.ndarray | None, intercept: bool
) -> tuple[np.ndarray, ...]:
    """Return classes, weight and bias on standardised features, and the mean and deviation of these."""
    classes, codes = np.unique(labels, return_inverse=True)
    mean, scale = moments(features)
    mean, scale = mean if intercept else np.zeros_like(mean), np.where(scale < 1e-8, 1.0, scale)
    weight, bias = fit_in_chunks(features, codes, c, sample_weight, (mean, scale), intercept=intercept)
    return classes, weight, bias, mean, scale


def _standardise(features: np.ndarray, *, centre: bool) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return one float64 copy, standardised in place: with many rows every further copy would show.

    Not to `centre` is for a head without bias, which cannot express a shift: deviations are 1 all the same, so that
    the penalty treats columns alike, and the means that stay serve as an intercept.
    """
    x = np.array(features, dtype=np.float64)
    mean = x.mean(0)
    x -= mean
    scale = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
    scale = np.where(scale < 1e-8, 1.0, scale)
    x /= scale
    if not centre:
        x += mean / scale
        mean = np.zeros_like(mean)
    return x, mean, scale


def fit_in_chunks(
    features: np.ndarray,
    codes: np.ndarray,
    c: float,
    row_weights: np.ndarray | None,
    standard: tuple[np.ndarray, np.ndarray],
    *,
    intercept: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on the features standardised by `standard`: mean and scale, [d] each.

    The objective is scikit-learn's: the weighted mean of the cross entropy of the codes [n], 0 to `classes` - 1, plus
    |weight|^2 / (2 C sum of row weights). Minimised by L-BFGS (Liu and Nocedal 1989); sums are float64, products float32.
    """
    n, d = features.shape
    classes = int(codes.max()) + 1
    total = float(n if row_weights is None else row_weights.sum())
    step = max(1, _CHUNK // classes)
    centre, width = (array.astype(np.float32) for array in standard)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = flat.reshape(classes, -1)
        weight = both[:, :d].astype(np.float32)
        bias = both[:, d].astype(np.float32) if intercept else np.zeros(classes, dtype=np.float32)
        gradient = np.zeros_like(both)
        loss = 0.0
        for start in range(0, n, step):
            part = slice(start, start + step)
            x = (np.asarray(features[part], dtype=np.float32) - centre) / width
            logits = x @ weight.T
            logits += bias
            at = np.arange(len(x))
            logits -= logits.max(axis=1, keepdims=True)
            true = logits[at, codes[part]].astype(np.float64)
            np.exp(logits, out=logits)
            sums = logits.sum(axis=1)
            factor = np.ones(len(x), np.float32) if row_weights is None else row_weights[part].astype(np.float32)
            loss += float(((np.log(sums.astype(np.float64)) - true) * factor).sum())
            logits *= (factor / sums)[:, None]
            logits[at, codes[part]] -= factor
            gradient[:, :d] += logits.T @ x
            if intercept:
                gradient[:, d] += logits.sum(axis=0)
        penalty = both[:, :d]
        gradient[:, :d] += penalty / c
        return (loss + 0.5 * float((penalty**2).sum()) / c) / total, (gradient / total).ravel()

    start_at = np.zeros(classes * (d + intercept))
    options = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE / classes, "ftol": 1e-11}
    both = minimize(objective, start_at, jac=True, method="L-BFGS-B", options=options).x.reshape(classes, -1)
    return both[:, :d], both[:, d] if intercept else np.zeros(classes)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of every column, in float64, from chunks of rows."""
    n, d = features.shape
    step = max(1, _CHUNK // d)
    mean = sum(features[s : s + step].sum(axis=0, dtype=np.float64) for s in range(0, n, step)) / n
    squares = np.zeros(d)
    for start in range(0, n, step):
        centred = features[start : start + step].astype(np.float64) - mean
        squares += np.einsum("ij,ij->j", centred, centred)
    return mean, np.sqrt(squares / n)
