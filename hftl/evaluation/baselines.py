"""Baselines that know nothing of any pretraining: what a transferred model has to beat to have been worth it."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from hftl.errors import DataError


MAJORITY = "majority class"
TFIDF = "TF-IDF + logistic regression"
RAW_PIXELS = "raw pixels + logistic regression"

# Penalty of the text regression: unit-length TF-IDF rows want a weak one. Fixed, not searched, so that the baseline
# stays quick; measured .894 on banking77 and, on 2,000 Wikipedia summaries of 11 topics, .82 to .84 (.85 to .86 with
# the short description in front).
_TEXT_C = 10.0
# Weights of the text regression (classes x features): lbfgs holds some 35 float64 copies, so 3 million are about
# 0.9 GB (measured). Beyond that the most frequent features stay. banking77 has 1.8 million.
_MAX_TEXT_WEIGHTS = 3_000_000
_PIXEL_SIDE = 32
_PIXEL_CS = (0.01, 0.1, 1.0, 10.0)
_PIXEL_DEFAULT_C = 1.0  # where no class has enough rows to compare penalties
_CV_ROWS = 3000
_CV_FOLDS = 3
_MAX_ITERATIONS = 300
_CV_ITERATIONS = 100  # enough to rank the penalties, at a third of the time
_IMAGE_CHUNK = 256
# Scripts that put no spaces between words (Thai, Lao, Burmese, Khmer, kana, Han), where a "word" is a whole sentence.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF))
_UNSPACED_SAMPLE = 200


@dataclass(frozen=True, eq=False)
class Baseline:
    """Class ids [n_test] that a baseline predicts, and the seconds it took to fit and predict."""

    name: str
    predictions: np.ndarray
    seconds: float


def _timed(name: str, predict: Callable[[], np.ndarray]) -> Baseline:
    started = time.perf_counter()
    predictions = predict()
    return Baseline(name, predictions, time.perf_counter() - started)


def _labels(train_labels: Any, rows: int) -> np.ndarray:
    labels = np.asarray(train_labels)
    if labels.ndim != 1 or len(labels) != rows or rows == 0:
        raise DataError(f"A baseline needs one label per training row: got {labels.shape} labels for {rows} rows.")
    return labels


def _majority(labels: np.ndarray, n_test: int) -> np.ndarray:
    classes, counts = np.unique(labels, return_counts=True)
    return np.full(n_test, classes[counts.argmax()], dtype=labels.dtype)


def majority_class(train_labels: np.ndarray, n_test: int) -> Baseline:
    """Predict the most frequent training label for every test row; of equally frequent ones, the smallest."""
    labels = _labels(train_labels, len(train_labels))
    return _timed(MAJORITY, lambda: _majority(labels, n_test))


def _fit_regression(features: Any, labels: np.ndarray, c: float, max_iter: int = _MAX_ITERATIONS) -> Any:
    """Fit multinomial logistic regression.

    lbfgs at scikit-learn's tolerance of 1e-4: it stops on the size of the mean gradient, so 1e-2 ends before the
    first step when there are many classes. Running out of iterations is no fault of the user's data: no warning.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, max_iter=max_iter).fit(features, labels)


def _unspaced(texts: Sequence[str]) -> bool:
    """Tell whether most letters of the first texts belong to scripts that put no spaces between words."""
    letters = [ord(char) for text in texts[:_UNSPACED_SAMPLE] for char in text if char.isalpha()]
    inside = sum(any(low <= code <= high for low, high in _UNSPACED) for code in letters)
    return 2 * inside > len(letters)


def _text_features(
    train_texts: Sequence[str], test_texts: Sequence[str], classes: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix] | None:
    """Return TF-IDF rows of both sets, or None when the training texts hold no usable character at all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    by_character = {"analyzer": "char_wb", "ngram_range": (1, 3)}
    by_word = {"analyzer": "word", "ngram_range": (1, 2)}
    # Two classes share one row of weights.
    max_features = _MAX_TEXT_WEIGHTS // (classes if classes > 2 else 1)
    for options in [by_character] if _unspaced(train_texts) else [by_word, by_character]:
        vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=max_features, **options)
        try:
            train = vectorizer.fit_transform(train_texts)
        except ValueError:  # an empty vocabulary: one-letter words, digits, symbols
            continue
        return train, vectorizer.transform(test_texts)
    return None


def tfidf_logistic_regression(
    train_texts: Sequence[str], train_labels: np.ndarray, test_texts: Sequence[str]
) -> Baseline:
    """Fit TF-IDF of words and word pairs with logistic regression, and predict the test texts.

    Character 1- to 3-grams take the place of words in scripts without spaces, and where the texts have no word of two
    letters. Texts with nothing in them, or one class only, give the majority class.
    """
    labels = _labels(train_labels, len(train_texts))

    def predict() -> np.ndarray:
        classes = len(np.unique(labels))
        if classes < 2 or len(test_texts) == 0:
            return _majority(labels, len(test_texts))
        features = _text_features(train_texts, test_texts, classes)
        if features is None:
            return _majority(labels, len(test_texts))
        return _fit_regression(features[0], labels, _TEXT_C).predict(features[1])

    return _timed(TFIDF, predict)


def _area_weights(size: int, target: int) -> np.ndarray:
    """Return [target, size] weights, each row the share of every source pixel in one target pixel (rows sum to 1)."""
    edges = np.linspace(0, size, target + 1)
    source = np.arange(size)
    overlap = np.minimum(edges[1:, None], source + 1) - np.maximum(edges[:-1, None], source)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _pixel_features(pixels: np.ndarray) -> np.ndarray:
    """Return [n, features] float32: each image area-averaged to at most 32 x 32, values kept on 0 to 255."""
    n, height, width, channels = pixels.shape
    rows = _area_weights(height, min(height, _PIXEL_SIDE))
    columns = _area_weights(width, min(width, _PIXEL_SIDE))
    features = np.empty((n, len(rows) * len(columns) * channels), dtype=np.float32)
    for start in range(0, n, _IMAGE_CHUNK):  # in chunks: float32 copies of large images are four times their size
        chunk = pixels[start : start + _IMAGE_CHUNK].astype(np.float32)
        small = np.einsum("ih,nhwc,jw->nijc", rows, chunk, columns, optimize=True)
        features[start : start + len(chunk)] = small.reshape(len(chunk), -1)
    return features


def _choose_c(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the penalty with the best accuracy in 3-fold stratified cross-validation on at most 3,000 rows.

    Classes with fewer rows than folds cannot be in every fold and sit this out. The first best is the smallest C,
    the strongest penalty.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = np.random.default_rng(0).permutation(len(labels))[:_CV_ROWS]
    _, codes, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
    rows = rows[counts[codes] >= _CV_FOLDS]
    if len(np.unique(labels[rows])) < 2:
        return _PIXEL_DEFAULT_C
    x, y = features[rows], labels[rows]
    folds = list(StratifiedKFold(_CV_FOLDS, shuffle=True, random_state=0).split(x, y))
    hits: list[int] = []
    for c in _PIXEL_CS:
        models = [(_fit_regression(x[fit], y[fit], c, _CV_ITERATIONS), held) for fit, held in folds]
        hits.append(sum(int(np.sum(model.predict(x[held]) == y[held])) for model, held in models))
    return _PIXEL_CS[int(np.argmax(hits))]


def raw_pixel_logistic_regression(
    train_pixels: np.ndarray, train_labels: np.ndarray, test_pixels: np.ndarray
) -> Baseline:
    """Fit logistic regression on the pixels themselves, and predict the test images.

    `train_pixels` and `test_pixels` are uint8 [n, height, width, channels] of one size. Images larger than 32 x 32 are
    area-averaged down to that; values are scaled to 0..1 by the brightest training value (255 in most data), so that
    images stored on a narrower range get the same penalties. C is chosen by cross-validation on the training rows.
    """
    if train_pixels.ndim != 4 or test_pixels.shape[1:] != train_pixels.shape[1:]:
        raise DataError(
            "Pixels must be [n, height, width, channels] of one size in train and test: "
            f"got {train_pixels.shape} and {test_pixels.shape}."
        )
    labels = _labels(train_labels, len(train_pixels))

    def predict() -> np.ndarray:
        if len(np.unique(labels)) < 2 or len(test_pixels) == 0:
            return _majority(labels, len(test_pixels))
        scale = np.float32(max(1, int(train_pixels.max())))
        train = _pixel_features(train_pixels) / scale
        test = _pixel_features(test_pixels) / scale
        return _fit_regression(train, labels, _choose_c(train, labels)).predict(test)

    return _timed(RAW_PIXELS, predict)
