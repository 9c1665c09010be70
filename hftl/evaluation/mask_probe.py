"""The probe of masks: multinomial regression of the classes of a patch on the body's features of that patch.

A patch is a place of the body's last map. Its target are the shares of its pixels that each class has, not the most
frequent class: then the loss is that of its pixels under one answer for all of them, and a class that is thinner than a
patch is learned too.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from hftl.evaluation.folds import Folds, held_out_folds, threads
from hftl.evaluation.logistic import ABSENT, CS, DEFAULT_C, Probe, choose_and_fit, fit_in_chunks, moments
from hftl.evaluation.mask_scores import mask_statistics, miou


PATCHES = 30_000  # that the probe learns from, over all images: as many as words of tags
CV_PATCHES = 6_000  # among which its strength is chosen
LEAST_SHARE = 1e-6  # below it a class is not there
EXACT = 4_000_000  # patches x classes x features up to which the fit ends exactly, in float64; above, near its optimum


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
        for c in CS:
            weight, bias = fit_patches(features[learn], shares[learn], c, intercept=intercept, near=True)
            whole = np.array([0, len(held)])
            counts[c] += patch_counts(features[held] @ weight.T + bias, shares[held], whole)[0]
    return {c: float(miou(mask_statistics(sums[None], shares.shape[1]).toarray())[0]) for c, sums in counts.items()}


def _fit_asked(
    features: np.ndarray, shares: np.ndarray, rows: np.ndarray, *, c: float, intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    return fit_patches(features[rows], shares[rows], c, intercept=intercept)


def fit_patches(
    features: np.ndarray, shares: np.ndarray, c: float, *, intercept: bool = True, near: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on raw features at the optimum of scikit-learn's objective.

    It is that of a row for every class of a patch, weighed by its share, on features standardised over the patches. With
    `near`, or of more than `EXACT` numbers, the fit stops near the optimum.
    """
    patch, classes = np.nonzero(shares > LEAST_SHARE)
    weights = shares[patch, classes]
    present, codes = np.unique(classes, return_inverse=True)
    mean, scale = moments(features, centre=intercept)
    weight, bias = np.zeros((shares.shape[1], features.shape[1])), np.full(shares.shape[1], ABSENT)
    if len(present) > 1:
        precise = not near and len(patch) * len(present) * features.shape[1] <= EXACT
        with threads(len(patch) * len(present)):
            coef, shift = fit_in_chunks(
                features[patch], codes, c, weights, (mean, scale), intercept=intercept, precise=precise
            )
        weight[present] = coef / scale
        bias[present] = shift - weight[present] @ mean
    else:
        bias[present] = 0.0
    return weight.astype(np.float32), bias.astype(np.float32)
