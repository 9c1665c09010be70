"""The baselines of texts and of images: what is counted in them, for a logistic regression.

Texts: words and groups of characters. Images: the pixels themselves, and how often which colour occurs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from hftl.errors import DataError
from hftl.evaluation.baselines import (
    CLASS,
    LABEL_SET,
    NUMBER,
    Baseline,
    Goal,
    OnePerLabel,
    Recipe,
    constant_baseline,
    fit_baseline,
)
from hftl.evaluation.text_features import learn_pairs, learn_texts, pair_features, text_features


# Rows of length one want a weak penalty: on 2,000 Wikipedia summaries and on banking77 the best is 10 to 100.
_PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
_DEFAULT_PENALTY = 30.0
_EPOCHS, _CV_EPOCHS = 40, 8  # fewer rank the penalties just as well
# Products (values of the matrix x classes) of one fit, at some 500 million a second: half a minute. Past it, epochs go.
_MAX_PRODUCTS = 15e9


def _text_regression(c: float, quick: bool, products: int) -> Any:
    """Return multinomial regression by stochastic average gradient (Schmidt, Le Roux and Bach 2017).

    On rows of length one it needs a tenth of the time of L-BFGS, and four copies of the weights instead of 35.
    """
    from sklearn.linear_model import LogisticRegression

    affordable = max(2, int(_MAX_PRODUCTS / max(1, products)))
    epochs = min(_CV_EPOCHS if quick else _EPOCHS, affordable)
    return LogisticRegression(C=c, solver="sag", max_iter=epochs, tol=1e-3, random_state=0)


def _as_if_new(fit: Any, held: Any) -> Any:
    """Return the rows of `held` as they would be if the words of `fit` were all that is known, again of length one.

    Without it their unknown words shorten the known ones, which real new texts do not suffer, and C comes out high.
    """
    from sklearn.preprocessing import normalize

    known = np.bincount(fit.indices, minlength=fit.shape[1]) > 0
    return normalize(held @ sparse.diags_array(known.astype(np.float32), format="csr")).tocsr()


_PIXEL_SIDE = 32
_JOINT_BITS, _CHANNEL_BITS = 3, 5  # 8 x 8 x 8 colours, and 32 levels of each channel
_MAX_ITERATIONS = 300
_CV_ITERATIONS = 100  # enough to rank the penalties, at a third of the time
_IMAGE_CHUNK = 256
_PIXEL_CHUNK = 4_000_000


def _image_regression(c: float, quick: bool, products: int) -> Any:
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
    return {}, {"shape": list(pixels.shape[1:])}, colour_shares(_checked(pixels, {"shape": list(pixels.shape[1:])}))


def raw_pixel_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function images → float32 [n, d]: each area-averaged to at most 32 x 32, over `settings["scale"]`: the
    brightest training value (255 in most data), so that images stored on a narrower range get the same penalties.
    """
    scale, channels = np.float32(settings["scale"]), settings["shape"][-1]

    def features(pixels: np.ndarray) -> np.ndarray:
        values = pixel_features(_checked(pixels, settings)) / scale
        if settings["grey"]:  # one value instead of three equal ones: the same model in a third of the time
            values = np.ascontiguousarray(values.reshape(len(values), -1, channels).mean(axis=-1))
        return values

    return features


def histogram_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function images → float32 [n, d] of the roots of the shares of levels and colours (the Hellinger kernel of
    Arandjelovic and Zisserman, CVPR 2012, under which linear models suit histograms).
    """
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
    flat, step = pixels.reshape(n, height * width, channels), max(1, _PIXEL_CHUNK // (height * width))
    colours = 1 << (3 * _JOINT_BITS) if channels == 3 else 0
    features = np.empty((n, (channels << _CHANNEL_BITS) + colours), dtype=np.float32)
    for start in range(0, n, step):
        levels = (flat[start : start + step] >> (8 - _CHANNEL_BITS)).astype(np.int64)
        counts = [_count(levels[..., channel], 1 << _CHANNEL_BITS) for channel in range(channels)]
        if colours:
            red, green, blue = np.moveaxis(levels >> (_CHANNEL_BITS - _JOINT_BITS), -1, 0)
            counts.append(_count((red << (2 * _JOINT_BITS)) + (green << _JOINT_BITS) + blue, colours))
        features[start : start + step] = np.sqrt(np.concatenate(counts, axis=1) / (height * width))
    return features


def _count(values: np.ndarray, kinds: int) -> np.ndarray:
    """Return [n, kinds]: how often each of 0 to kinds - 1 occurs in each row of `values` [n, m]."""
    shifted = values + kinds * np.arange(len(values))[:, None]
    return np.bincount(shifted.ravel(), minlength=kinds * len(values)).reshape(len(values), kinds)


# Texts: words and word pairs make one half of the features, 2 to 5 characters inside words the other (Zhang, Zhao and
# LeCun, NeurIPS 2015, for counts as the baseline to beat). In cross-validation the words of all rows are known.
_TEXTS = (learn_texts, text_features, _text_regression, _PENALTIES, _DEFAULT_PENALTY, _as_if_new)
_PAIRS = (learn_pairs, pair_features, _text_regression, _PENALTIES, _DEFAULT_PENALTY)
_COLOURS = (_learn_colours, histogram_features, _image_regression, (1.0, 10.0, 100.0), 10.0)
_PIXELS = (_learn_pixels, raw_pixel_features, _image_regression, (0.01, 0.1, 1.0, 10.0), 1.0)
_RECIPES = {
    "tfidf": Recipe("tfidf", "TF-IDF + logistic regression", *_TEXTS),
    "tfidf_pair": Recipe("tfidf_pair", "TF-IDF of both texts + logistic regression", *_PAIRS),
    "colour_histogram": Recipe("colour_histogram", "colour histogram + logistic regression", *_COLOURS),
    "raw_pixels": Recipe("raw_pixels", "raw pixels + logistic regression", *_PIXELS),
}
# One over ridge's strength, on features as the logistic regression has them, and the one in the middle.
_RIDGE = {
    **dict.fromkeys(("tfidf", "tfidf_pair"), ((0.1, 0.3, 1.0, 3.0, 10.0, 30.0), 1.0)),
    "colour_histogram": ((0.03, 0.3, 3.0, 30.0, 300.0), 3.0),
    "raw_pixels": ((1e-4, 1e-3, 1e-2, 1e-1, 1.0), 1e-2),
}


def plain_baselines(goal: Goal, kinds: Sequence[str], train: Any, targets: np.ndarray, test: Any) -> list[Baseline]:
    """Return the baseline that looks at nothing, and a `linear_baseline` for each of the `kinds` of features."""
    return [
        constant_baseline(goal, targets, test),
        *(linear_baseline(kind, train, targets, test, goal) for kind in kinds),
    ]


class_baselines = partial(plain_baselines, CLASS)
label_baselines = partial(plain_baselines, LABEL_SET)
number_baselines = partial(plain_baselines, NUMBER)


def linear_baseline(kind: str, train: Any, targets: np.ndarray, test: Any, goal: Goal = CLASS) -> Baseline:
    """Fit a regression on one kind of features of the training inputs, and predict the test inputs.

    Classes: multinomial logistic. Labels, 0 and 1 [n, labels]: logistic for each, with one C. Numbers: ridge. Inputs of
    "tfidf" are texts, of "tfidf_pair" pairs of them; of "raw_pixels" and "colour_histogram" uint8 images [n, height,
    width, channels] of one size.
    """
    recipe = _RECIPES[kind]
    if goal is LABEL_SET:
        name, of_one = f"{recipe.name}, one per label", recipe.regression
        recipe = replace(recipe, name=name, regression=lambda *how: OnePerLabel(of_one(*how)), goal=goal)
    elif goal is not CLASS:
        (penalties, default), name = _RIDGE[kind], recipe.name.replace("logistic", "ridge")
        recipe = replace(recipe, name=name, regression=_ridge, penalties=penalties, default=default, goal=goal)
    return fit_baseline(recipe, train, targets, test)


def _ridge(c: float, quick: bool, products: int) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1 / c, random_state=0)
