"""Closed-form heads for several labels (one logistic regression each) and for numbers (ridge), chosen as `fit_probe` does."""

from collections.abc import Collection
from functools import partial

import numpy as np

from hftl.evaluation.folds import Folds, held_out_folds, some_rows, threads
from hftl.evaluation.label_scores import SCORES, label_statistics, log_odds
from hftl.evaluation.logistic import CS, DEFAULT_C, LARGE, Probe, choose_and_fit, fit_in_chunks, moments, standardise
from hftl.evaluation.metrics import total
from hftl.evaluation.number_scores import number_statistics, r2


_CV_LABELS = 100  # the most frequent ones: of 1,000, each fit would take ten times as long
# 1 / strength, on standardised features. The strength suits noise over signal of a single feature: 0.01 to 100,000.
RIDGE_CS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_RIDGE_DEFAULT = 1e-2
_CHUNK_ROWS = 8192


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

    The arguments are `fit_probe`'s, `targets` 0 and 1 [n, width]; `class_weights` [width] weighs the ones of each label as
    torch's `pos_weight` does. What is scored is micro-F1, over the 100 most frequent labels. One C for all labels: a
    rare label alone has too few rows to choose.
    """
    targets, rows = np.asarray(targets)[:, :width], some_rows(len(targets), seed)
    folds = held_out_folds(len(rows), seed)
    often = np.sort(np.argsort(-targets.sum(axis=0), kind="stable")[:_CV_LABELS])
    some, weights = targets[rows][:, often], None if class_weights is None else np.asarray(class_weights)[often]
    score = partial(_label_scores, targets=some, folds=folds, weights=weights)
    fit = partial(fit_labels, targets=targets, class_weights=class_weights)
    return choose_and_fit(features, pooling, no_bias, rows, some.size, score, fit)


def _label_scores(
    features: np.ndarray, targets: np.ndarray, folds: Folds, weights: np.ndarray | None, *, intercept: bool
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
    return {c: total(label_statistics(given, targets), SCORES["micro_f1"]) for c, given in answers.items()}


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
    weight, bias = np.zeros((labels, features.shape[1])), log_odds(targets) * intercept
    learnt = np.flatnonzero((counts > 0) & (counts < n))
    if len(learnt):
        standard = mean, scale = moments(features, centre=intercept)
        factors = None if class_weights is None else np.asarray(class_weights)[learnt]
        precise, y = n * len(learnt) < LARGE, targets[:, learnt]
        with threads(targets.size):
            coef, shift = fit_in_chunks(features, y, c, factors, standard, intercept=intercept, precise=precise)
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

    The arguments are `fit_probe`'s, `targets` [n] without weights, `width` 1. `C` is one over the strength (scikit-learn's
    alpha) on standardised features; what is scored is R2.
    """
    y, rows = np.asarray(targets, dtype=np.float64).reshape(-1), some_rows(len(targets), seed)
    score = partial(_number_scores, targets=y[rows], folds=held_out_folds(len(rows), seed))

    def fit(x: np.ndarray, *, c: float, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
        with threads(x.size):
            weight, bias = fit_ridge(x, y, (c,), intercept=intercept)
        return weight.astype(np.float32), bias.astype(np.float32)

    return choose_and_fit(features, pooling, no_bias, rows, len(rows), score, fit)


def _number_scores(features: np.ndarray, targets: np.ndarray, folds: Folds, *, intercept: bool) -> dict[float, float]:
    """Return R2 of held-out rows per C."""
    if not folds:
        return {_RIDGE_DEFAULT: 0.0}
    answers = np.empty((len(targets), len(RIDGE_CS)))
    for train, held in folds:
        weight, bias = fit_ridge(features[train], targets[train], RIDGE_CS, intercept=intercept)
        answers[held] = features[held] @ weight.T + bias
    return {c: total(number_statistics(given, targets), r2) for c, given in zip(RIDGE_CS, answers.T, strict=True)}


def fit_ridge(
    features: np.ndarray, targets: np.ndarray, cs: Collection[float], *, intercept: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [len(cs), d], bias [len(cs)]) on raw features: the exact ridge solution for each strength 1 / C.

    Features are standardised inside. One decomposition serves all strengths: of the products of the columns, or where
    there are fewer rows, of the rows (Hastie, Tibshirani and Friedman 2009, 3.4.1 and 18.3.5).
    """
    n, d = features.shape
    mean, scale = moments(features, centre=intercept)
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
