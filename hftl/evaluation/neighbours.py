"""k nearest neighbours on frozen features: what the features alone say, with nothing learned on top of them."""

from collections.abc import Iterator
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
    labels = np.asarray(train_labels)
    train, test = _pair(train_features, test_features, labels)
    if labels.ndim != 1:
        raise DataError(f"Neighbours that vote need one label each, got labels of {labels.shape}.")
    classes, codes = np.unique(labels, return_inverse=True)
    rows = _some_rows(len(train), seed)
    k, accuracy = 1, None
    if len(train) > 1:
        ks = tuple(k for k in KS if k < len(train))
        votes = _vote(train[rows], train, codes, len(classes), ks, rows)
        hits = (votes == codes[rows]).mean(axis=1)
        k, accuracy = ks[int(hits.argmax())], float(hits.max())
    return Neighbours(classes[_vote(test, train, codes, len(classes), (k,))[0]], k, accuracy)


def neighbour_means(
    train_features: np.ndarray, train_targets: np.ndarray, test_features: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return for the test rows the mean [m, ...] of the targets [n, ...] of their k most similar training rows (cosine).

    Of labels, 0 and 1, it is the share of those rows that have each. k is one of 1, 5, 10 and 20: the one with the
    smallest squared error, of equals the smallest, when at most 3,000 of the training rows are predicted from all
    others. Raises what `nearest_neighbours` raises.
    """
    targets = np.asarray(train_targets, dtype=np.float64)
    train, test = _pair(train_features, test_features, targets)
    flat, rows, k = targets.reshape(len(train), -1), _some_rows(len(train), seed), 1
    if len(train) > 1:
        ks = tuple(k for k in KS if k < len(train))
        errors = ((_means(train[rows], train, flat, ks, rows) - flat[rows]) ** 2).sum(axis=(1, 2))
        k = ks[int(errors.argmin())]
    return _means(test, train, flat, (k,))[0].reshape(len(test), *targets.shape[1:])


def _some_rows(rows: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:CV_ROWS])


def _pair(train_features: np.ndarray, test_features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    train, test = _directions(train_features), _directions(test_features)
    if len(train) == 0 or targets.shape[:1] != (len(train),) or train.shape[1] != test.shape[1]:
        raise DataError(
            "Neighbours need training rows with one label each, and features of one width: got features of "
            f"{train.shape} and {test.shape} with labels of {targets.shape}."
        )
    return train, test


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
    most = ks[-1]
    for part, near, strength in _nearest(queries, train, most, max(len(train), classes), themselves):
        at, voted = np.arange(len(near))[:, None], codes[near]
        # A vote weighs more than all similarities together (each at most 1), which only decide between equals.
        ballots = strength.astype(np.float64) + 4 * most
        for i, k in enumerate(ks):
            places = (voted[:, :k] + classes * at).ravel()
            scores = np.bincount(places, weights=ballots[:, :k].ravel(), minlength=classes * len(near))
            winners[i, part] = scores.reshape(len(near), classes).argmax(axis=1)
    return winners


def _means(
    queries: np.ndarray,
    train: np.ndarray,
    targets: np.ndarray,
    ks: tuple[int, ...],
    themselves: np.ndarray | None = None,
) -> np.ndarray:
    """Return the means [len(ks), queries, t] of the targets [n, t] of the most similar rows."""
    means = np.empty((len(ks), len(queries), targets.shape[1]))
    width = max(len(train), ks[-1] * targets.shape[1])
    for part, near, _ in _nearest(queries, train, ks[-1], width, themselves):
        for i, k in enumerate(ks):
            means[i, part] = targets[near[:, :k]].mean(axis=1)
    return means


def _nearest(
    queries: np.ndarray, train: np.ndarray, most: int, width: int, themselves: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield chunks of the queries with the `most` similar rows of each, the most similar first, and how similar.

    A chunk has so many queries that `width` values for each of them fit.
    """
    step = max(1, _CHUNK_VALUES // width)
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        similar = queries[part] @ train.T
        at = np.arange(len(similar))[:, None]
        if themselves is not None:
            similar[at[:, 0], themselves[part]] = -np.inf
        near = np.argpartition(similar, len(train) - most, axis=1)[:, len(train) - most :]
        near = near[at, np.argsort(-similar[at, near], axis=1, kind="stable")]
        yield part, near, similar[at, near]
