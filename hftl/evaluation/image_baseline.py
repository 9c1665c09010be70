"""The baselines for images: the pixels themselves, and how often which colour occurs, with a logistic regression."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hftl.errors import DataError
from hftl.evaluation.baselines import HISTOGRAM, RAW_PIXELS, Baseline, Recipe, fit_baseline


_PIXEL_SIDE = 32
_JOINT_BITS, _CHANNEL_BITS = 3, 5  # 8 x 8 x 8 colours, and 32 levels of each channel
_MAX_ITERATIONS = 300
_CV_ITERATIONS = 100  # enough to rank the penalties, at a third of the time
_IMAGE_CHUNK = 256
_PIXEL_CHUNK = 4_000_000


def raw_pixel_logistic_regression(
    train_pixels: np.ndarray, train_labels: np.ndarray, test_pixels: np.ndarray
) -> Baseline:
    """Fit logistic regression on the pixels themselves, and predict the test images.

    `train_pixels` and `test_pixels` are uint8 [n, height, width, channels] of one size. Images larger than 32 x 32 are
    area-averaged down to that; values are scaled to 0..1 by the brightest training value (255 in most data), so that
    images stored on a narrower range get the same penalties. Channels that are equal in all of them count once. C
    is chosen by cross-validation on the training rows.
    """
    return _fit(_PIXELS, train_pixels, train_labels, test_pixels)


def colour_histogram_logistic_regression(
    train_pixels: np.ndarray, train_labels: np.ndarray, test_pixels: np.ndarray
) -> Baseline:
    """Fit logistic regression on how often which colour occurs, wherever it is, and predict the test images.

    `train_pixels` and `test_pixels` are uint8 [n, height, width, channels] of one size. Counted are 32 levels of each
    channel and, of three channels, 512 colours; a feature is the root of a share (the Hellinger kernel of Arandjelovic
    and Zisserman, CVPR 2012, under which linear models suit histograms). C is chosen as for the pixels.
    """
    return _fit(_COLOURS, train_pixels, train_labels, test_pixels)


def _fit(recipe: Recipe, train_pixels: np.ndarray, train_labels: np.ndarray, test_pixels: np.ndarray) -> Baseline:
    if train_pixels.ndim != 4 or test_pixels.shape[1:] != train_pixels.shape[1:]:
        raise DataError(
            "Pixels must be [n, height, width, channels] of one size in train and test: "
            f"got {train_pixels.shape} and {test_pixels.shape}."
        )
    return fit_baseline(recipe, train_pixels, train_labels, test_pixels)


def _regression(c: float, quick: bool, products: int) -> Any:
    """Return multinomial regression by L-BFGS, at scikit-learn's tolerance of 1e-4: it stops on the size of the mean
    gradient, so 1e-2 ends before the first step when there are many classes.
    """
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=_CV_ITERATIONS if quick else _MAX_ITERATIONS)


def _learn_pixels(pixels: np.ndarray, classes: int) -> tuple[dict[str, np.ndarray], dict[str, Any], np.ndarray]:
    grey = pixels.shape[-1] > 1 and bool((pixels == pixels[..., :1]).all())
    settings = {"scale": max(1, int(pixels.max(initial=0))), "grey": grey, "shape": list(pixels.shape[1:])}
    return {}, settings, raw_pixel_features({}, settings)(pixels)


def _learn_colours(pixels: np.ndarray, classes: int) -> tuple[dict[str, np.ndarray], dict[str, Any], np.ndarray]:
    settings = {"shape": list(pixels.shape[1:])}
    return {}, settings, histogram_features({}, settings)(pixels)


def raw_pixel_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function images → float32 [n, d]: each area-averaged to at most 32 x 32, over `settings["scale"]`."""
    scale, channels = np.float32(settings["scale"]), settings["shape"][-1]

    def features(pixels: np.ndarray) -> np.ndarray:
        values = pixel_features(_checked(pixels, settings)) / scale
        if settings["grey"]:  # one value instead of three equal ones: the same model in a third of the time
            values = np.ascontiguousarray(values.reshape(len(values), -1, channels).mean(axis=-1))
        return values

    return features


def histogram_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function images → float32 [n, d] of the roots of the shares of levels and colours."""
    return lambda pixels: colour_shares(_checked(pixels, settings))


def _checked(pixels: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    if pixels.dtype != np.uint8 or list(pixels.shape[1:]) != settings["shape"]:
        size = " x ".join(str(side) for side in settings["shape"])
        raise DataError(
            f"This baseline reads uint8 images of {size} (height, width, channels): got {pixels.dtype} "
            f"{pixels.shape[1:]}. Resize them as the training images were."
        )
    return pixels


def area_weights(size: int, target: int) -> np.ndarray:
    """Return [target, size] weights, each row the share of every source pixel in one target pixel (rows sum to 1)."""
    edges = np.linspace(0, size, target + 1)
    source = np.arange(size)
    overlap = np.minimum(edges[1:, None], source + 1) - np.maximum(edges[:-1, None], source)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def pixel_features(pixels: np.ndarray) -> np.ndarray:
    """Return [n, features] float32: each image area-averaged to at most 32 x 32, values kept on 0 to 255."""
    n, height, width, channels = pixels.shape
    rows = area_weights(height, min(height, _PIXEL_SIDE))
    columns = area_weights(width, min(width, _PIXEL_SIDE))
    features = np.empty((n, len(rows) * len(columns) * channels), dtype=np.float32)
    for start in range(0, n, _IMAGE_CHUNK):  # in chunks: float32 copies of large images are four times their size
        chunk = pixels[start : start + _IMAGE_CHUNK].astype(np.float32)
        small = np.einsum("ih,nhwc,jw->nijc", rows, chunk, columns, optimize=True)
        features[start : start + len(chunk)] = small.reshape(len(chunk), -1)
    return features


def colour_shares(pixels: np.ndarray) -> np.ndarray:
    """Return [n, features] float32: roots of the shares of 32 levels per channel and, of three channels, 512 colours."""
    n, height, width, channels = pixels.shape
    flat = pixels.reshape(n, height * width, channels)
    step = max(1, _PIXEL_CHUNK // (height * width))
    colours = 1 << (3 * _JOINT_BITS) if channels == 3 else 0
    features = np.empty((n, (channels << _CHANNEL_BITS) + colours), dtype=np.float32)
    for start in range(0, n, step):
        levels = (flat[start : start + step] >> (8 - _CHANNEL_BITS)).astype(np.int64)
        counts = [_count(levels[..., channel], 1 << _CHANNEL_BITS) for channel in range(channels)]
        if channels == 3:
            red, green, blue = np.moveaxis(levels >> (_CHANNEL_BITS - _JOINT_BITS), -1, 0)
            joint = (red << (2 * _JOINT_BITS)) + (green << _JOINT_BITS) + blue
            counts.append(_count(joint, colours))
        features[start : start + step] = np.sqrt(np.concatenate(counts, axis=1) / (height * width))
    return features


def _count(values: np.ndarray, kinds: int) -> np.ndarray:
    """Return [n, kinds]: how often each of 0 to kinds - 1 occurs in each row of `values` [n, m]."""
    shifted = values + kinds * np.arange(len(values))[:, None]
    return np.bincount(shifted.ravel(), minlength=kinds * len(values)).reshape(len(values), kinds)


_PIXELS = Recipe("raw_pixels", RAW_PIXELS, _learn_pixels, raw_pixel_features, _regression, (0.01, 0.1, 1.0, 10.0), 1.0)
_COLOURS = Recipe(
    "colour_histogram", HISTOGRAM, _learn_colours, histogram_features, _regression, (1.0, 10.0, 100.0), 10.0
)
