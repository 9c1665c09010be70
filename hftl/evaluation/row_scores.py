"""What the logits of each test row come to, in one pass: class, probability and loss; and which class is taken for which."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hftl.errors import DataError


# Logits in float64 at once: 32 MB. All of them would be gigabytes for many rows and classes.
_CHUNK_VALUES = 4_000_000


@dataclass(frozen=True, eq=False)
class RowScores:
    """One value per row, each [n]."""

    true: np.ndarray  # class ids
    predicted: np.ndarray  # class ids; of equally high ones the smallest
    confidence: np.ndarray  # probability of the predicted class, 0 to 1
    true_probability: np.ndarray
    loss: np.ndarray  # nats: minus the log-probability of the true class
    brier: np.ndarray  # squared distance of the probabilities from the one-hot truth, 0 to 2 (Brier 1950)

    @property
    def correct(self) -> np.ndarray:
        """Whether the prediction is right, [n] bool."""
        return self.predicted == self.true


def row_scores(logits: np.ndarray, references: np.ndarray, temperature: float = 1.0) -> RowScores:
    """Score `logits` [n, classes] divided by `temperature` under softmax against the true class ids [n].

    A loss is exact where the probability has become 0 or 1. Raises `DataError` for shapes that do not pair up, ids that
    are no class and logits that are not finite.
    """
    scores, true = check_logits(logits, references)
    rows, classes = scores.shape
    values = np.empty((4, rows))
    predicted = np.empty(rows, dtype=np.int64)
    step = max(1, _CHUNK_VALUES // classes)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        predicted[part], values[:, part] = _score_chunk(scores[part], true[part], temperature)
    return RowScores(true, predicted, *values)


def _score_chunk(logits: np.ndarray, true: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted ids [m] and [4, m]: confidence, probability of the truth, loss, Brier score."""
    shifted = logits.astype(np.float64)
    if not np.isfinite(shifted).all():
        raise DataError("logits hold values that are not finite numbers: the model's weights or inputs are broken.")
    at = np.arange(len(true))
    best = shifted.argmax(axis=1)
    shifted -= shifted[at, best][:, None]
    shifted /= temperature
    gap = shifted[at, true]
    probabilities = np.exp(shifted, out=shifted)
    total = probabilities.sum(axis=1)
    probabilities /= total[:, None]
    confidence, of_truth = probabilities[at, best], probabilities[at, true]
    probabilities[at, true] -= 1
    squared = np.einsum("ij,ij->i", probabilities, probabilities)
    return best, np.stack([confidence, of_truth, np.log(total) - gap, squared])


def check_logits(logits: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays, the ids as int64. Raises `DataError` unless they are [n, k] and n ids below k, n >= 1."""
    scores, ids = np.asarray(logits), np.asarray(references)
    if scores.ndim != 2 or 0 in scores.shape:
        raise DataError(f"logits must have shape [rows, classes], at least one each, got {scores.shape}.")
    if ids.shape != scores.shape[:1] or ids.dtype.kind not in "iub":
        raise DataError(f"references must be {len(scores)} class ids, got {ids.dtype} of shape {ids.shape}.")
    if not 0 <= ids.min() <= ids.max() < scores.shape[1]:
        raise DataError(
            f"references hold ids {ids.min()} to {ids.max()}, and the classes are 0 to {scores.shape[1] - 1}."
        )
    return scores, ids.astype(np.int64)


def confusion(predictions: np.ndarray, references: np.ndarray, n_classes: int) -> list[tuple[int, int, int]]:
    """Return the cells of the confusion matrix that are not 0, as (true, predicted, count) in that order.

    There are at most as many as rows [n], where the matrix of 1,000 classes would have a million.
    """
    cells, counts = np.unique(references * n_classes + predictions, return_counts=True)
    return [(int(c // n_classes), int(c % n_classes), int(n)) for c, n in zip(cells, counts, strict=True)]
