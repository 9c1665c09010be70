"""The scores of masks: functions of pixel counts of each image, which add up over images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from hftl.evaluation.bootstrap import Corrected, Scores
from hftl.evaluation.metrics import share


UNASKED = -100  # of a pixel that is not counted (transformers' own sign)
CONFUSED = 64  # classes of which it is kept, 32 kB an image, what is taken for what


def pixel_counts(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Return how many pixels of each class are true, predicted and both, one after the other [3 classes].

    Pixels whose truth is `UNASKED` do not count.
    """
    asked = true != UNASKED
    true, predicted = true[asked], predicted[asked]
    parts = (true, predicted, true[true == predicted])
    return np.concatenate([np.bincount(part, minlength=classes)[:classes] for part in parts])


def pixel_cells(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Return how many pixels of each class are taken for each, true ones in rows, [classes * classes].

    Of more than `CONFUSED` classes it is empty: for every image it would be more than what else is kept.
    """
    if classes > CONFUSED:
        return np.zeros(0, dtype=np.int64)
    asked = true != UNASKED
    return np.bincount(true[asked].astype(np.int64) * classes + predicted[asked], minlength=classes**2)


def mask_statistics(counts: Any, classes: int) -> sparse.csr_array:
    """Return the pixel counts of all rows, [n, 3 classes], of rows that may hold more behind them.

    Of a model that saw no names they are [n, 3, k]: the classes behind those k were neither true nor predicted.
    """
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim == 3:
        values = np.pad(values, ((0, 0), (0, 0), (0, classes - values.shape[-1]))).reshape(len(values), -1)
    return sparse.csr_array(values[:, : 3 * classes])


def _over_classes(sums: np.ndarray, part: Any) -> np.ndarray:
    """Return the mean [b] of a share over the classes that are true or predicted anywhere."""
    true, predicted, both = np.split(sums, 3, axis=-1)
    top, bottom = part(true, predicted, both)
    there = bottom > 0
    return share(share(top, bottom).sum(axis=-1, where=there), there.sum(axis=-1))


def miou(sums: np.ndarray) -> np.ndarray:
    """Return the mean intersection over union [b] of sums [b, 3 classes]."""
    return _over_classes(sums, lambda true, predicted, both: (both, true + predicted - both))


def dice(sums: np.ndarray) -> np.ndarray:
    """Return the mean Dice coefficient [b], which is the F1 of pixels."""
    return _over_classes(sums, lambda true, predicted, both: (2 * both, true + predicted))


def pixel_accuracy(sums: np.ndarray) -> np.ndarray:
    """Return the share of right pixels [b]."""
    true, _, both = np.split(sums, 3, axis=-1)
    return share(both.sum(axis=-1), true.sum(axis=-1))


SCORES: Scores = {"miou": Corrected(miou), "pixel_accuracy": pixel_accuracy, "dice": Corrected(dice)}
COMPARED = ("miou", "pixel_accuracy", "dice")


def iou_of(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of a table of classes with their intersection over union, which follows from F1."""
    return [{**line, "iou": line["f1"] / (2 - line["f1"])} for line in lines]
