"""Which classes are taken for which, and on which rows the model is most wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hftl.errors import ConfigError
from hftl.evaluation.row_scores import check_ids, row_scores


@dataclass(frozen=True)
class ConfusedPair:
    """`count` rows of class `true` that were taken for `predicted`: `share` of the rows of that class."""

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class WorstRow:
    """A row (its position among the scored rows) that the model gets wrong."""

    row: int
    true: int
    predicted: int
    loss: float  # nats
    probability: float  # of the predicted class
    true_probability: float


def confusion(predictions: np.ndarray, references: np.ndarray, n_classes: int) -> list[tuple[int, int, int]]:
    """Return the cells of the confusion matrix that are not 0, as (true, predicted, count) in that order.

    There are at most as many as rows, where the matrix of 1,000 classes would have a million. `predictions` and
    `references` are class ids [n]. Raises `DataError` when they do not pair up or are not below `n_classes`.
    """
    true = check_ids("references", references, len(np.atleast_1d(references)), n_classes)
    predicted = check_ids("predictions", predictions, len(true), n_classes)
    cells, counts = np.unique(true * n_classes + predicted, return_counts=True)
    return [(int(c // n_classes), int(c % n_classes), int(n)) for c, n in zip(cells, counts, strict=True)]


def most_confused(cells: Sequence[tuple[int, int, int]], limit: int = 20) -> list[ConfusedPair]:
    """Return the up to `limit` largest cells of `confusion` off the diagonal; of equal ones the larger share first."""
    rows_of: dict[int, int] = {}
    for true, _, count in cells:
        rows_of[true] = rows_of.get(true, 0) + count
    pairs = [ConfusedPair(t, p, count, count / rows_of[t]) for t, p, count in cells if t != p]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.true, pair.predicted))[:limit]


def worst_rows(logits: np.ndarray, references: np.ndarray, limit: int, temperature: float = 1.0) -> list[WorstRow]:
    """Return the at most `limit` wrong rows with the highest loss, the highest first, of equal ones the first row first.

    `logits` is [n, classes], `references` [n] class ids; the loss of logits / `temperature` is exact however large.
    Rows that the model gets right are never among them, so the list may be shorter than `limit`. Raises `DataError` for bad input.
    """
    if limit < 0:
        raise ConfigError(f"limit must be 0 or more, got {limit}.")
    scores = row_scores(logits, references, temperature)
    order = np.argsort(-scores.loss, kind="stable")
    order = order[~scores.correct[order]][:limit]
    return [
        WorstRow(
            int(row),
            int(scores.true[row]),
            int(scores.predicted[row]),
            float(scores.loss[row]),
            float(scores.confidence[row]),
            float(scores.true_probability[row]),
        )
        for row in order
    ]
