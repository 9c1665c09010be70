"""Closed-form heads for several labels (one logistic regression each) and for numbers (ridge), chosen as `fit_probe` does."""

import time
from collections.abc import Collection

import numpy as np
from sklearn.model_selection import KFold

from hftl.evaluation import CV_FOLDS, CV_ROWS
from hftl.evaluation.label_scores import label_statistics, micro_f1
from hftl.evaluation.logistic import (
    CS,
    DEFAULT_C,
    LARGE,
    Probe,
    best_choice,
    fit_in_chunks,
    moments,
    standardise,
    threads,
)
from hftl.evaluation.number_scores import number_statistics, r2


_CV_LABELS = 100  # the most frequent ones: of 1,000, each fit would take ten times as long
# 1 / strength, on standardised features. The strength suits noise over signal of a single feature: 0.01 to 100,000.
RIDGE_CS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_RIDGE_DEFAULT = 1e-2
_CHUNK_ROWS = 8192


def held_out_folds(rows: int, seed: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return at most 3,000 of the rows, drawn, and three (train, held out) parts of them; none of fewer than two rows."""
    some = np.sort(np.random.default_rng(seed).permutation(rows)[:CV_ROWS])
    if len(some) < 2:
        return some, []
    return some, list(KFold(min(CV_FOLDS, len(some)), shuffle=True, random_state=seed).split(some))


def fit_label_probe(
    features: dict[str, np.ndarray],
    targets: np.ndarray,
    width: int,
    pooling: str,
    seed: int,
    class_weights: np.ndarray | None = None,
    no_bias: Collection[str] = (),
) -> Probe:
    """Choose pooling and C by 3-fold cross-validation on at most 3,000 rows, then fit a regression per label on all rows.

    `features` maps pooling to [n, d], `targets` is [n, width] of 0 and 1, `class_weights` [width] weighs the ones of each
    label as torch's `pos_weight` does. What is scored is micro-F1, the headline, so that the margin by which another
    pooling has to win is in its points; over the 100 most frequent labels. One C for all labels: a rare label alone has
    too few rows to choose. A label that all rows have, or none, answers with how often that is.
    """
    start, targets = time.perf_counter(), np.asarray(targets)[:, :width]
    rows, folds = held_out_folds(len(targets), seed)
    often = np.sort(np.argsort(-targets.sum(axis=0), kind="stable")[:_CV_LABELS])
    some, weights = targets[rows][:, often], None if class_weights is None else np.asarray(class_weights)[often]
    with threads(len(rows) * len(often)):
        choice = best_choice(
            {
                name: _label_scores(np.asarray(values[rows]), some, folds, name not in no_bias, weights)
                for name, values in features.items()
                if pooling in ("auto", name)
            }
        )
    x, intercept = np.asarray(features[choice.pooling]), choice.pooling not in no_bias
    with threads(targets.size):
        weight, bias = fit_labels(x, targets, choice.C, class_weights, intercept=intercept)
    return Probe(weight, bias, choice.C, choice.pooling, choice.cv_accuracy, time.perf_counter() - start)


def _label_scores(
    features: np.ndarray,
    targets: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
    intercept: bool,
    weights: np.ndarray | None,
) -> dict[float, float]:
    """Return the micro-F1 of held-out rows per C."""
    if not folds:
        return {DEFAULT_C: 0.0}
    answers = {c: np.zeros(targets.shape, dtype=bool) for c in CS}
    for train, held in folds:
        x, mean, scale = standardise(features[train], centre=intercept)
        plain, new, begin = (np.zeros_like(mean), np.ones_like(scale)), (features[held] - mean) / scale, None
        for c in CS:  # from strong to weak, each a good start for the next
            weight, bias = fit_in_chunks(x, targets[train], c, weights, plain, intercept=intercept, begin=begin)
            begin = np.concatenate([weight, bias[:, None]], axis=1)
            answers[c][held] = new @ weight.T + bias > 0
    return {c: float(micro_f1(label_statistics(given, targets).sum(axis=0)[None])[0]) for c, given in answers.items()}


def fit_labels(
    features: np.ndarray,
    targets: np.ndarray,
    c: float,
    class_weights: np.ndarray | None = None,
    *,
    intercept: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [labels, d], bias [labels]) on raw features at the optimum of scikit-learn's objective, per label.

    A label without ones, or without zeros, has a weight of 0 and the log odds of its rows, half a row of each added.
    """
    n, labels = targets.shape
    counts = (targets != 0).sum(axis=0)
    weight, bias = np.zeros((labels, features.shape[1])), np.log((counts + 0.5) / (n - counts + 0.5)) * intercept
    learnt = np.flatnonzero((counts > 0) & (counts < n))
    if len(learnt):
        mean, scale = moments(features)
        mean, scale = mean if intercept else np.zeros_like(mean), np.where(scale < 1e-8, 1.0, scale)
        factors = None if class_weights is None else np.asarray(class_weights)[learnt]
        precise, y = n * len(learnt) < LARGE, targets[:, learnt]
        coef, shift = fit_in_chunks(features, y, c, factors, (mean, scale), intercept=intercept, precise=precise)
        weight[learnt] = coef / scale
        bias[learnt] = shift - weight[learnt] @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def fit_number_probe(
    features: dict[str, np.ndarray],
    targets: np.ndarray,
    width: int,
    pooling: str,
    seed: int,
    class_weights: np.ndarray | None = None,
    no_bias: Collection[str] = (),
) -> Probe:
    """Choose pooling and strength by 3-fold cross-validation on at most 3,000 rows, then fit a ridge regression on all.

    `features` maps pooling to [n, d], `targets` is [n]; weight [1, d] and bias [1] answer in their unit. `C` is one over
    the strength (scikit-learn's alpha) on standardised features; what is scored is R2. `width` is 1, and there are no
    classes to weigh.
    """
    start, targets = time.perf_counter(), np.asarray(targets, dtype=np.float64).reshape(-1)
    rows, folds = held_out_folds(len(targets), seed)
    with threads(len(rows)):
        choice = best_choice(
            {
                name: _number_scores(np.asarray(values[rows]), targets[rows], folds, name not in no_bias)
                for name, values in features.items()
                if pooling in ("auto", name)
            }
        )
    x, intercept = features[choice.pooling], choice.pooling not in no_bias
    with threads(x.size):
        weight, bias = fit_ridge(x, targets, (choice.C,), intercept=intercept)
    probe = (weight.astype(np.float32), bias.astype(np.float32))
    return Probe(*probe, choice.C, choice.pooling, choice.cv_accuracy, time.perf_counter() - start)


def _number_scores(
    features: np.ndarray, targets: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], intercept: bool
) -> dict[float, float]:
    """Return R2 of held-out rows per C."""
    if not folds:
        return {_RIDGE_DEFAULT: 0.0}
    answers = np.empty((len(targets), len(RIDGE_CS)))
    for train, held in folds:
        weight, bias = fit_ridge(features[train], targets[train], RIDGE_CS, intercept=intercept)
        answers[held] = features[held] @ weight.T + bias
    sums = [np.asarray(number_statistics(given, targets).sum(axis=0))[None] for given in answers.T]
    return {c: float(r2(one)[0]) for c, one in zip(RIDGE_CS, sums, strict=True)}


def fit_ridge(
    features: np.ndarray, targets: np.ndarray, cs: Collection[float], *, intercept: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [len(cs), d], bias [len(cs)]) on raw features: the exact ridge solution for each strength 1 / C.

    Features are standardised inside, without `intercept` scaled alone. One decomposition serves all strengths: of the
    products of the columns, or where there are fewer rows, of the rows (Hastie, Tibshirani and Friedman 2009, 3.4.1
    and 18.3.5).
    """
    n, d = features.shape
    mean, scale = moments(features)
    mean, scale = mean if intercept else np.zeros_like(mean), np.where(scale < 1e-8, 1.0, scale)
    middle = float(np.mean(targets)) if intercept else 0.0
    y, strengths = np.asarray(targets, dtype=np.float64) - middle, 1 / np.asarray(tuple(cs))[:, None]
    if n <= d:
        x = (np.asarray(features, dtype=np.float64) - mean) / scale
        values, vectors = np.linalg.eigh(x @ x.T)
        inner = (y @ vectors) / (np.maximum(values, 0) + strengths)
        coef = inner @ vectors.T @ x
    else:
        square, toward = np.zeros((d, d)), np.zeros(d)
        for begin in range(0, n, _CHUNK_ROWS):
            x = (np.asarray(features[begin : begin + _CHUNK_ROWS], dtype=np.float64) - mean) / scale
            square += x.T @ x
            toward += y[begin : begin + _CHUNK_ROWS] @ x
        values, vectors = np.linalg.eigh(square)
        coef = (toward @ vectors) / (np.maximum(values, 0) + strengths) @ vectors.T
    weight = coef / scale
    return weight, middle - weight @ mean
