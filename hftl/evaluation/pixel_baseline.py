"""The baselines of masks: the majority class, and a regression of the class on a pixel's colour and position."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hftl.evaluation.baselines import LinearModel, no_features
from hftl.evaluation.mask_scores import UNASKED


PIXELS = 50_000  # that a regression learns from: it has 11 numbers a class
KIND = "pixel_regression"
_PER_IMAGE = 200  # of each image at most
_ITERATIONS = 200


def pixel_features(pixels: np.ndarray) -> np.ndarray:
    """Return colour and position of every pixel of [3, height, width] bytes, with their squares, [pixels, 10]."""
    _, height, width = pixels.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    plain = np.stack([*(pixels.astype(np.float32) / 127.5 - 1), x, y], axis=-1).reshape(-1, 5)
    return np.concatenate([plain, plain**2], axis=1).astype(np.float32)


def some_pixels(rows: Iterator[tuple[np.ndarray, np.ndarray]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes of at most `PIXELS` asked pixels, drawn alike from `count` rows of pixels and masks."""
    rng, most = np.random.default_rng(0), max(1, min(_PER_IMAGE, PIXELS // max(1, count)))
    features, classes = [], []
    for pixels, mask in rows:
        asked = np.flatnonzero(mask.ravel() != UNASKED)
        drawn = rng.choice(asked, min(most, len(asked)), replace=False)
        features.append(pixel_features(pixels)[drawn])
        classes.append(mask.ravel()[drawn])
    return np.concatenate(features), np.concatenate(classes)


def constant_class(classes: np.ndarray) -> LinearModel:
    """Return the model that answers with the most frequent class."""
    most = np.array([np.bincount(classes).argmax()])
    arrays = {"weight": np.zeros((1, 0), np.float32), "bias": np.zeros(1, np.float32), "classes": most}
    return LinearModel("majority", arrays, {}, no_features)


def fit_pixels(features: np.ndarray, classes: np.ndarray) -> LinearModel:
    """Return a regression of classes on colour and position; the majority where one class alone was drawn."""
    from sklearn.linear_model import LogisticRegression  # late: it takes a second

    if len(np.unique(classes)) < 2:
        return constant_class(classes)
    fitted = LogisticRegression(max_iter=_ITERATIONS).fit(features, classes)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # of two classes scikit-learn holds the second alone
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    arrays = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32), "classes": fitted.classes_}
    return LinearModel(KIND, arrays, {}, as_they_are)


def as_they_are(features: np.ndarray) -> np.ndarray:
    """Return the features of pixels: they are given."""
    return features


def pixel_map(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Return what a baseline puts out for every pixel of [3, height, width] bytes, [classes, height, width]."""
    outputs: np.ndarray = model.outputs(pixel_features(pixels))
    return outputs.T.reshape(-1, *pixels.shape[1:])
