"""How much two sets of features of the same rows have in common: neighbours, CKA, and what one tells of the other."""

from dataclasses import dataclass

import numpy as np

from hftl.errors import DataError
from hftl.evaluation.bootstrap import RESAMPLES, Interval, ends, resampled_sums


FOLDS = 5
# Ridge strengths relative to the mean eigenvalue of the rows' Gram matrix: from hardly any to nearly the mean alone.
RIDGES = tuple(np.logspace(-5, 1, 13))
CONSTANT = 1e-6  # a feature whose deviation is below this share of the largest one says nothing


@dataclass(frozen=True)
class Kept:
    """`value`: what the tuned features tell of the base's, relative to what those tell of themselves (`own`)."""

    value: Interval
    own: float


def _checked(*features: np.ndarray, rows: int) -> list[np.ndarray]:
    """Return the features in float64. Raises `DataError` unless all are finite [n, d] with at least `rows` rows."""
    arrays = [np.asarray(f, dtype=np.float64) for f in features]
    shapes = [a.shape for a in arrays]
    if any(a.ndim != 2 or a.shape[1] == 0 for a in arrays) or len({len(a) for a in arrays}) > 1:
        raise DataError(f"Features to compare must be [rows, features] of the same rows, got {shapes}.")
    if len(arrays[0]) < rows:
        raise DataError(f"{len(arrays[0])} rows are too few to compare features on: {rows} are needed.")
    if not all(np.isfinite(a).all() for a in arrays):
        raise DataError("Features to compare hold values that are not numbers.")
    return arrays


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Return the linear CKA of features `a` [n, p] and `b` [n, q] of the same n rows: 1 for equal, about 0 for unrelated.

    The cosine of the two centred Gram matrices (Kornblith et al. 2019), blind to rotation and to one common scale. Their
    estimator tends to 1 for more features than rows; this is that of the unbiased HSIC (Song et al. 2012, as Nguyen et
    al. 2021 do) by U-centring (Székely & Rizzo 2014). Features that are the same for all rows have no similarity to
    others (0), but are like each other (1). Raises `DataError` for fewer than 4 rows, and what cannot be compared.
    """
    grams = []
    for features in _checked(a, b, rows=4):
        centred = features - features.mean(0)
        scale = np.abs(centred).max()
        constant = scale <= 1e-9 * np.abs(features).max()
        grams.append(None if constant else _u_centred((centred / scale) @ (centred / scale).T))
    first, second = grams
    if first is None or second is None:
        return float(first is second)
    norms = np.sqrt((first * first).sum() * (second * second).sum())
    return float((first * second).sum() / norms) if norms > 0 else 0.0


def _u_centred(gram: np.ndarray) -> np.ndarray:
    n = len(gram)
    gram = gram.copy()
    np.fill_diagonal(gram, 0.0)
    sums = gram.sum(0)
    gram += sums.sum() / ((n - 1) * (n - 2)) - (sums[:, None] + sums) / (n - 2)
    np.fill_diagonal(gram, 0.0)
    return gram


def nearest(features: np.ndarray, k: int) -> np.ndarray:
    """Return the `k` nearest rows by cosine, [n, k], of each row of `features` [n, d], itself left out; of equals the first."""
    (features,) = _checked(features, rows=k + 1)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    distances = np.round(-(unit @ unit.T), 12)  # so that rounding does not decide between equal rows
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def knn_agreement(a: np.ndarray, b: np.ndarray, k: int = 10) -> tuple[float, float]:
    """Return the mean share of each row's `k` nearest rows (cosine) under `a` [n, p] that are also among those under `b`
    [n, q], and what it would be by chance, k / (n - 1). k is n - 1 at most. Raises `DataError` for fewer than 2 rows.
    """
    a, b = _checked(a, b, rows=2)
    k = min(k, len(a) - 1)
    member = np.zeros((2, len(a), len(a)), dtype=bool)
    for mark, features in zip(member, (a, b), strict=True):
        np.put_along_axis(mark, nearest(features, k), True, axis=1)
    return float((member[0] & member[1]).sum() / (k * len(a))), k / (len(a) - 1)


def recover(source: np.ndarray, target: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return squared errors and totals, [n] each, of `target` [n, q] predicted from `source` [n, p] of other rows.

    By ridge regression in five folds, of 13 strengths the one with the least error on held-out rows. All features are
    standardised; those that are the same for all rows are left out. Raises `DataError` for fewer than 10 rows or a
    target without variance.
    """
    source, target = (_standardised(f) for f in _checked(source, target, rows=2 * FOLDS))
    if not target.size:
        raise DataError("The features to recover are the same for all rows.")
    fold_of = np.random.default_rng(seed).permutation(len(source)) % FOLDS
    errors, totals = np.empty((len(RIDGES), len(source))), np.empty(len(source))
    for fold in range(FOLDS):
        held, rest = fold_of == fold, fold_of != fold
        mean = target[rest].mean(0)
        totals[held] = ((target[held] - mean) ** 2).sum(1)
        for i, guess in enumerate(_ridge(source[rest], target[rest] - mean, source[held])):
            errors[i, held] = ((target[held] - mean - guess) ** 2).sum(1)
    return errors[errors.sum(1).argmin()], totals


def explained_share(errors: np.ndarray, totals: np.ndarray) -> float:
    """Return the explained share of the variance of held-out rows (R squared; below 0 where the mean does better)."""
    return float(1 - errors.sum() / totals.sum())


def _standardised(features: np.ndarray) -> np.ndarray:
    """Over all rows, not fold by fold: a feature that fires for few of them would be all but constant in some folds."""
    deviation = features.std(0)
    varies = deviation > max(CONSTANT * deviation.max(), 1e-12 * np.abs(features).max())
    return (features[:, varies] - features[:, varies].mean(0)) / deviation[varies]


def _ridge(rows: np.ndarray, targets: np.ndarray, new: np.ndarray) -> list[np.ndarray]:
    """Return the predictions for `new`, one array per ridge strength; `targets` are centred."""
    mean = rows.mean(0)
    x, z = rows - mean, new - mean
    values, vectors = np.linalg.eigh(x @ x.T)
    values = values.clip(0)
    new_rows, known = (z @ x.T) @ vectors, vectors.T @ targets
    unit = values.mean() or 1.0  # 1.0: nothing to learn from, and every strength predicts the mean
    return [(new_rows / (values + strength * unit)) @ known for strength in RIDGES]


def kept_share(base: np.ndarray, tuned: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Kept:
    """Return how much of what a linear model could read from `base` [n, p] it still can from `tuned` [n, q].

    That is the share that `recover` explains of the base by the tuned features over that by the base itself (with few
    rows not all of it), cut off at 0 and 1. The 95% interval is a percentile bootstrap over the rows, whose predictions
    stay as they are. Raises `DataError` where the base recovers next to nothing of itself: too few rows, or noise.
    """
    (errors, totals), (tuned_errors, _) = recover(base, base, seed), recover(tuned, base, seed)
    own, rows = explained_share(errors, totals), len(errors)
    if own < 0.05:
        raise DataError(f"{rows} rows are too few to compare features on: the base's do not even predict themselves.")
    # Of each row, what the mean leaves over and a regression explains: by the base itself, and by the tuned features.
    explained = np.stack([totals - errors, totals - tuned_errors], axis=1)
    draws = resampled_sums(explained, np.ones(rows, dtype=int), np.random.default_rng(seed), times=resamples)
    low, high = ends(draws[:, 1] / np.maximum(draws[:, 0], 1e-12))
    value = explained[:, 1].sum() / explained[:, 0].sum()
    return Kept(Interval(*(float(np.clip(v, 0.0, 1.0)) for v in (value, low, high))), own)
