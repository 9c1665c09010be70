"""The probe of masks: multinomial regression of the classes of a patch on the body's features of that patch.

A patch is a place of the body's last map. Its targets are the shares of its pixels that each class has, not the most
frequent class: then the loss is that of its pixels under one answer for all of them, and a class that is thinner than a
patch is learned too.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize

from hftl.evaluation.folds import Folds, held_out_folds, threads
from hftl.evaluation.logistic import ABSENT, CS, DEFAULT_C, Probe, choose_and_fit, moments
from hftl.evaluation.mask_scores import mask_statistics, miou


PATCHES = 30_000  # that the probe learns from, over all images: as many as words of tags
CV_PATCHES = 3_000  # among which its strength is chosen
LEAST_SHARE = 1e-6  # below it a class is not there
EXACT = 2_000_000  # patches x classes x features up to which the fit ends exactly, in float64; above, near its optimum


def patches_of(images: int, places: int, most: int = PATCHES) -> np.ndarray:
    """Return how many of the `places` of each image are taken, [images]: at most `most` of all, spread evenly."""
    ends = np.arange(images + 1, dtype=np.int64) * most // max(1, images)
    return np.minimum(np.diff(ends), places)


def patch_counts(logits: np.ndarray, shares: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return for each image how much of each class is true, predicted and both, [images, 3 classes], in patches.

    `logits` and `shares` are [patches, classes]; image i has the patches from `starts[i]` on. It is what `pixel_counts`
    gives where all pixels of a patch get one answer.
    """
    classes = shares.shape[1]
    guess = np.eye(classes)[logits[:, :classes].argmax(axis=1)]
    rows = np.concatenate([shares, guess * shares.sum(axis=1, keepdims=True), guess * shares], axis=1)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    counts: np.ndarray = sums[starts[1:]] - sums[starts[:-1]]
    return counts


def fit_patch_probe(
    features: dict[str, Any],
    targets: Any,
    width: int,
    pooling: str,
    seed: int,
    class_weights: np.ndarray | None = None,
    no_bias: Collection[str] = (),
) -> Probe:
    """Choose C by 3-fold cross-validation over images by mIoU on at most `CV_PATCHES` patches, then fit on all patches.

    The arguments are `fit_probe`'s; the features are `Patches`, which hold the targets. A class of no patch gets a bias
    that no input outweighs.
    """
    known = features["native"]
    asked = np.flatnonzero(known.shares.sum(axis=1) > LEAST_SHARE)
    images = np.repeat(np.arange(len(known)), known.lengths)
    rows = asked
    if len(asked) > CV_PATCHES:
        rows = np.sort(np.random.default_rng(seed).permutation(asked)[:CV_PATCHES])
    shares = np.asarray(known.shares[:, :width], dtype=np.float64)
    folds = _by_image(images[rows], seed)
    score = partial(_scores, shares=shares[rows], folds=folds)
    values = {"native": np.asarray(known.values)}
    fit = partial(_fit_asked, shares=shares, rows=asked)
    return choose_and_fit(values, "native", no_bias, rows, len(rows) * width, score, fit)


def _by_image(images: np.ndarray, seed: int) -> Folds:
    """Return folds of patches in which no image is on both sides."""
    known, codes = np.unique(images, return_inverse=True)
    folds = held_out_folds(len(known), seed)
    return [(np.flatnonzero(np.isin(codes, learn)), np.flatnonzero(np.isin(codes, held))) for learn, held in folds]


def _scores(features: np.ndarray, shares: np.ndarray, folds: Folds, *, intercept: bool) -> dict[float, float]:
    """Return the mIoU of held-out patches per C."""
    if not folds:
        return {DEFAULT_C: 0.0}
    counts: dict[float, np.ndarray] = {c: np.zeros(3 * shares.shape[1]) for c in CS}
    for learn, held in folds:
        mean, scale = moments(features[learn], centre=intercept)
        x, new = (((features[part] - mean) / scale).astype(np.float32) for part in (learn, held))
        begin = None
        for c in CS:  # from strong to weak, each a good start for the next
            begin = _minimise(x, shares[learn], c, begin, intercept=intercept, precise=False)
            logits = new @ begin[:, :-1].T + begin[:, -1]
            counts[c] += patch_counts(logits, shares[held], np.array([0, len(held)]))[0]
    return {c: float(miou(mask_statistics(sums[None], shares.shape[1]).toarray())[0]) for c, sums in counts.items()}


def _fit_asked(
    features: np.ndarray, shares: np.ndarray, rows: np.ndarray, *, c: float, intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    return fit_patches(features[rows], shares[rows], c, intercept=intercept)


def fit_patches(
    features: np.ndarray, shares: np.ndarray, c: float, *, intercept: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on raw features at the optimum of scikit-learn's objective.

    It is that of multinomial regression with a row for every class of a patch, weighed by its share, on features that are
    standardised over the patches. Of more than `EXACT` numbers the fit stops near the optimum. A class that no patch has
    gets a bias that no input outweighs.
    """
    present = np.flatnonzero(shares.sum(axis=0) > LEAST_SHARE)
    mean, scale = moments(features, centre=intercept)
    precise = features.size * len(present) <= EXACT
    x = ((features - mean) / scale).astype(np.float64 if precise else np.float32)
    weight, bias = (
        np.zeros((shares.shape[1], features.shape[1])),
        np.full(shares.shape[1], ABSENT if intercept else 0.0),
    )
    with threads(len(x) * len(present)):
        both = _minimise(x, shares[:, present], c, None, intercept=intercept, precise=precise)
    weight[present] = both[:, :-1] / scale
    if intercept:
        bias[present] = both[:, -1] - weight[present] @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def _minimise(
    x: np.ndarray, shares: np.ndarray, c: float, begin: np.ndarray | None, *, intercept: bool, precise: bool
) -> np.ndarray:
    """Return weights and, in the last column, biases [classes, d + 1] for standardised features, by L-BFGS."""
    classes, d = shares.shape[1], x.shape[1]
    whole, total = shares.sum(axis=1, keepdims=True).astype(x.dtype), float(shares.sum())
    soft = shares.astype(x.dtype)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = flat.reshape(classes, d + 1)
        logits = x @ both[:, :d].T.astype(x.dtype) + both[:, d].astype(x.dtype)
        logits -= logits.max(axis=1, keepdims=True)
        loss = -float((soft * logits).sum(dtype=np.float64))
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1, keepdims=True)
        loss += float((whole * np.log(sums)).sum(dtype=np.float64))
        residual = logits * (whole / sums) - soft
        gradient = np.zeros_like(both)
        gradient[:, :d] = residual.T @ x + both[:, :d] / c
        if intercept:
            gradient[:, d] = residual.sum(axis=0, dtype=np.float64)
        return (loss + 0.5 * float((both[:, :d] ** 2).sum()) / c) / total, gradient.ravel() / total

    start = np.zeros((classes, d + 1)) if begin is None else begin
    tight = (
        {"maxiter": 3000, "gtol": 1e-8, "ftol": 0.0}
        if precise
        else {"maxiter": 300, "gtol": 3e-4 / classes, "ftol": 1e-11}
    )
    solution: np.ndarray = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=tight).x
    return solution.reshape(classes, d + 1)
