"""k nearest neighbours on frozen features: what the features alone say, with nothing learned on top of them."""

from collections.abc import Callable

import numpy as np

from hftl.evaluation.folds import some_rows


KS = (1, 5, 10, 20)
_CHUNK_ROWS = 4096
_CHUNK_VALUES = 16_000_000  # similarities at once, in float32: 64 MB
# (nearest rows [m, most], how similar they are [m, most], ks) → what the k nearest say [len(ks), m, ...]
_Answer = Callable[[np.ndarray, np.ndarray, tuple[int, ...]], np.ndarray]


def nearest_neighbours(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Predict the class ids of the test rows by the labels of their k most similar training rows (cosine).

    Features are [n, d], labels [n] class ids from 0. Of equally frequent labels the one with the higher summed
    similarity wins. k is 1, 5, 10 or 20: the best, of equals the smallest, when at most 3,000 of the training rows are
    predicted from all others.
    """
    classes, codes = np.unique(np.asarray(train_labels), return_inverse=True)

    def vote(near: np.ndarray, similar: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
        # A vote weighs more than all similarities together (each at most 1), which only decide between equals.
        ballots, places = similar.astype(np.float64) + 4 * ks[-1], codes[near] + len(classes) * _column(near)
        winners = np.empty((len(ks), len(near)), dtype=np.int64)
        for i, k in enumerate(ks):
            of_class = np.bincount(places[:, :k].ravel(), ballots[:, :k].ravel(), len(classes) * len(near))
            winners[i] = of_class.reshape(len(near), len(classes)).argmax(axis=1)
        return winners

    features = _directions(train_features), _directions(test_features)
    return classes[_by_best_k(*features, codes, len(classes), seed, vote, lambda voted, true: voted != true)]


def neighbour_means(
    train_features: np.ndarray, train_targets: np.ndarray, test_features: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return for the test rows the mean [m, ...] of the targets [n, ...] of their k most similar training rows (cosine).

    Of labels, 0 and 1, it is the share of those rows that have each. k has the smallest squared error; it is chosen as
    `nearest_neighbours` does.
    """
    targets = np.asarray(train_targets, dtype=np.float64)
    features = _directions(train_features), _directions(test_features)
    flat = targets.reshape(len(targets), -1)

    def mean(near: np.ndarray, similar: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
        return np.stack([flat[near[:, :k]].mean(axis=1) for k in ks])

    width = KS[-1] * flat.shape[1]
    means = _by_best_k(*features, flat, width, seed, mean, lambda answers, true: (answers - true) ** 2)
    return means.reshape(len(means), *targets.shape[1:])


def _column(rows: np.ndarray) -> np.ndarray:
    return np.arange(len(rows))[:, None]


def _directions(features: np.ndarray) -> np.ndarray:
    """Return the rows [n, d] float32 at length one; a row of zeros stays, and is similar to nothing."""
    x: np.ndarray = np.array(features, dtype=np.float32)
    for start in range(0, len(x), _CHUNK_ROWS):  # in place: of many rows every further copy would show
        rows = x[start : start + _CHUNK_ROWS]
        for order in (np.inf, 2):  # the largest value first: squares of large values overflow
            size = np.linalg.norm(rows, order, axis=1, keepdims=True)
            rows /= np.where(size > 0, size, 1)
    return x


def _by_best_k(
    train: np.ndarray,
    test: np.ndarray,
    targets: np.ndarray,
    width: int,
    seed: int,
    answer: _Answer,
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Answer to the test rows with the k of the least summed error on training rows that are left out in turn."""
    width, k = max(len(train), width), 1
    if len(train) > 1:
        ks, rows = tuple(k for k in KS if k < len(train)), some_rows(len(train), seed)
        errors = error(_answers(train[rows], train, ks, width, answer, rows), targets[rows])
        k = ks[int(errors.reshape(len(ks), -1).sum(axis=1).argmin())]
    return _answers(test, train, (k,), width, answer)[0]


def _answers(
    queries: np.ndarray,
    train: np.ndarray,
    ks: tuple[int, ...],
    width: int,
    answer: _Answer,
    themselves: np.ndarray | None = None,
) -> np.ndarray:
    """Return answers [len(ks), queries, ...]; `themselves` are the training rows that the queries are, left out.

    So many queries are looked at together that `width` values for each of them fit.
    """
    step, first, parts = max(1, _CHUNK_VALUES // width), len(train) - ks[-1], []
    for start in range(0, max(1, len(queries)), step):
        similar = queries[start : start + step] @ train.T
        at = _column(similar)
        if themselves is not None:
            similar[at[:, 0], themselves[start : start + step]] = -np.inf
        near = np.argpartition(similar, first, axis=1)[:, first:]
        near = near[at, np.argsort(-similar[at, near], axis=1, kind="stable")]
        parts.append(answer(near, similar[at, near], ks))
    return np.concatenate(parts, axis=1)
