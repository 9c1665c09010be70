"""What the logits of each test row come to, in one pass: class, probability and loss; and the mistakes among them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hftl.errors import ConfigError, DataError


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
    are no class and logits that are not finite, `ConfigError` for a temperature that is not above 0.
    """
    scores, true = check_logits(logits, references)
    if not 0 < temperature < np.inf:
        raise ConfigError(f"A temperature is a finite number above 0, got {temperature}.")
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
    scores = np.asarray(logits)
    if scores.ndim != 2 or 0 in scores.shape:
        raise DataError(f"logits must have shape [rows, classes], at least one each, got {scores.shape}.")
    return scores, check_ids("references", references, len(scores), scores.shape[1])


def check_ids(name: str, ids: Any, rows: int, classes: int | None = None) -> np.ndarray:
    """Return `ids` as int64 [rows]. Raises `DataError` for another shape, for other than whole numbers, and for ids
    outside 0 to `classes` - 1.
    """
    array = np.asarray(ids)
    if array.shape != (rows,):
        raise DataError(f"{name} must be {rows} class ids, one per row, got an array of shape {array.shape}.")
    if array.dtype.kind not in "iub" and rows:
        raise DataError(f"{name} must be whole class ids, got {array.dtype}.")
    if classes is not None and rows and not 0 <= array.min() <= array.max() < classes:
        raise DataError(
            f"{name} hold class ids {array.min()} to {array.max()}, but the classes are 0 to {classes - 1}."
        )
    return array.astype(np.int64)


def paired_ids(predictions: Any, references: Any, classes: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return class ids [n] and true ones as `check_ids` does."""
    true = check_ids("references", references, len(np.atleast_1d(references)), classes)
    return check_ids("predictions", predictions, len(true), classes), true


def confusion(predictions: np.ndarray, references: np.ndarray, n_classes: int) -> list[tuple[int, int, int]]:
    """Return the cells of the confusion matrix that are not 0, as (true, predicted, count) in that order.

    There are at most as many as rows, where the matrix of 1,000 classes would have a million. Raises `DataError` for
    class ids [n] that do not pair up or are not below `n_classes`.
    """
    predicted, true = paired_ids(predictions, references, n_classes)
    cells, counts = np.unique(true * n_classes + predicted, return_counts=True)
    return [(int(c // n_classes), int(c % n_classes), int(n)) for c, n in zip(cells, counts, strict=True)]


def worst_first(loss: np.ndarray, wrong: np.ndarray, limit: int) -> list[int]:
    """Return the at most `limit` rows that are `wrong` [n], by falling `loss` [n], of equal ones the first row first.

    Raises `ConfigError` for a limit below 0.
    """
    if limit < 0:
        raise ConfigError(f"limit must be 0 or more, got {limit}.")
    order = np.argsort(-loss, kind="stable")
    rows: list[int] = order[wrong[order]][:limit].tolist()
    return rows


def worst_rows(logits: np.ndarray, references: np.ndarray, limit: int) -> list[dict[str, Any]]:
    """Return row, true, predicted, loss (nats), probability (of the predicted class) and true_probability of
    `worst_first`, of logits [n, classes] and class ids [n].
    """
    scores = row_scores(logits, references)
    columns = {
        "true": scores.true,
        "predicted": scores.predicted,
        "loss": scores.loss,
        "probability": scores.confidence,
        "true_probability": scores.true_probability,
    }
    return [
        {"row": row, **{name: column[row].item() for name, column in columns.items()}}
        for row in worst_first(scores.loss, ~scores.correct, limit)
    ]
