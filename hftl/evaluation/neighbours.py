"""k nearest neighbours on frozen features: what the features alone say, with nothing learned on top of them."""

from dataclasses import dataclass

import numpy as np

from hftl.errors import DataError
from hftl.evaluation import CV_ROWS


KS = (1, 5, 10, 20)
_CHUNK_ROWS = 4096
_CHUNK_VALUES = 16_000_000  # similarities at once, in float32: 64 MB


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Class ids [n_test], the k that was chosen, and its accuracy when each training row is left out in turn.

    `cv_accuracy` is None with a single training row.
    """

    predictions: np.ndarray
    k: int
    cv_accuracy: float | None


def nearest_neighbours(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, seed: int = 0
) -> Neighbours:
    """Predict the test rows by the labels of their k most similar training rows (cosine), k one of 1, 5, 10 and 20.

    Features are [n, d], labels [n] class ids from 0. Of equally frequent labels the one with the higher summed
    similarity wins. k is the best, of equals the smallest, when at most 3,000 of the training rows are predicted from
    all others. Raises `DataError` for no training rows, shapes that do not pair up, and values that are not finite.
    """
    train, test = _directions(train_features), _directions(test_features)
    labels = np.asarray(train_labels)
    if len(train) == 0 or labels.shape != (len(train),) or train.shape[1] != test.shape[1]:
        raise DataError(
            "Neighbours need training rows with one label each, and features of one width: got features of "
            f"{train.shape} and {test.shape} with labels of {labels.shape}."
        )
    classes, codes = np.unique(labels, return_inverse=True)
    rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:CV_ROWS])
    k, accuracy = 1, None
    if len(train) > 1:
        ks = tuple(k for k in KS if k < len(train))
        votes = _vote(train[rows], train, codes, len(classes), ks, rows)
        hits = (votes == codes[rows]).mean(axis=1)
        k, accuracy = ks[int(hits.argmax())], float(hits.max())
    return Neighbours(classes[_vote(test, train, codes, len(classes), (k,))[0]], k, accuracy)


def _directions(features: np.ndarray) -> np.ndarray:
    """Return the rows [n, d] float32 at length one; a row of zeros stays, and is similar to nothing."""
    x: np.ndarray = np.array(features, dtype=np.float32)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"Features must be finite numbers [rows, d], got an array of {x.shape}.")
    for start in range(0, len(x), _CHUNK_ROWS):  # in place: of many rows every further copy would show
        rows = x[start : start + _CHUNK_ROWS]
        for measure in (_largest, _length):  # the largest value first: squares of large values overflow
            size = measure(rows)
            rows /= np.where(size > 0, size, 1)
    return x


def _largest(rows: np.ndarray) -> np.ndarray:
    largest: np.ndarray = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    return largest


def _length(rows: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.linalg.norm(rows, axis=1, keepdims=True)
    return length


def _vote(
    queries: np.ndarray,
    train: np.ndarray,
    codes: np.ndarray,
    classes: int,
    ks: tuple[int, ...],
    themselves: np.ndarray | None = None,
) -> np.ndarray:
    """Return class codes [len(ks), queries]; `themselves` are the training rows that the queries are, left out."""
    winners = np.empty((len(ks), len(queries)), dtype=np.int64)
    step = max(1, _CHUNK_VALUES // max(len(train), classes))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        similar = queries[part] @ train.T
        at = np.arange(len(similar))[:, None]
        if themselves is not None:
            similar[at[:, 0], themselves[part]] = -np.inf
        most = ks[-1]
        near = np.argpartition(similar, len(train) - most, axis=1)[:, len(train) - most :]
        near = near[at, np.argsort(-similar[at, near], axis=1, kind="stable")]
        strength, voted = similar[at, near], codes[near]
        # A vote weighs more than all similarities together (each at most 1), which only decide between equals.
        ballots = strength.astype(np.float64) + 4 * most
        for i, k in enumerate(ks):
            places = (voted[:, :k] + classes * at).ravel()
            scores = np.bincount(places, weights=ballots[:, :k].ravel(), minlength=classes * len(similar))
            winners[i, part] = scores.reshape(len(similar), classes).argmax(axis=1)
    return winners
