"""The confusion matrix as the page shows it: all classes where they fit, else the most confused ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from hftl.report.rows import Cell, PageRows


MAX_CLASSES = 30  # in the matrix; beyond that it shows the most confused 24
CONFUSED_CLASSES = 24
MAX_PAIRS = 20
SHADES = 9


@dataclass(frozen=True)
class Confusion:
    """What the section shows. `pairs` are the most frequent errors of all classes, most frequent first."""

    classes: list[int]  # class ids of the matrix, in label order
    matrix: list[list[dict[str, int]]]  # [true][predicted]: count, shade 0 to 9
    totals: list[int]  # test rows of each class of the matrix
    pairs: list[dict[str, Any]]  # true, predicted, count, share (of the rows of the true class)
    errors: int
    outside: int  # errors that the matrix does not show
    hidden_classes: int  # classes among the test rows or the answers that the matrix does not show

    @property
    def cells(self) -> list[Cell]:
        """The cells that can be opened, the most important first: errors by their number, then right answers."""
        errors = {(p["true"], p["predicted"]): p["count"] for p in self.pairs}
        right: dict[Cell, int] = {}
        for true, line in zip(self.classes, self.matrix, strict=True):
            for predicted, cell in zip(self.classes, line, strict=True):
                if cell["count"]:
                    (right if true == predicted else errors)[true, predicted] = cell["count"]
        return [*sorted(errors, key=lambda c: -errors[c]), *sorted(right, key=lambda c: -right[c])]


def confusion(rows: PageRows) -> Confusion:
    """Count which classes were taken for which among the test rows."""
    references, predictions = np.asarray(rows.references), np.asarray(rows.predictions)
    size = len(rows.labels)
    ones = np.ones(len(references), dtype=np.int64)
    counts = sparse.csr_array((ones, (references, predictions)), shape=(size, size))
    counts.sum_duplicates()
    of_true = np.bincount(references, minlength=size)
    entries = counts.tocoo()
    wrong = entries.row != entries.col
    true, predicted, count = entries.row[wrong], entries.col[wrong], entries.data[wrong]
    order = np.lexsort((predicted, true, -count))
    pairs = [(int(true[i]), int(predicted[i]), int(count[i])) for i in order]
    present = np.flatnonzero(of_true + np.bincount(predictions, minlength=size))
    classes = _classes_to_show([int(c) for c in present], pairs, of_true)
    block = counts[classes][:, classes].toarray()
    return Confusion(
        classes=classes,
        matrix=[
            [{"count": int(c), "shade": _shade(int(c), int(of_true[i]))} for c in line]
            for i, line in zip(classes, block, strict=True)
        ],
        totals=[int(of_true[i]) for i in classes],
        pairs=[{"true": t, "predicted": p, "count": c, "share": c / int(of_true[t])} for t, p, c in pairs[:MAX_PAIRS]],
        errors=int(count.sum()),
        outside=int(count.sum()) - int(block.sum() - np.trace(block)),
        hidden_classes=len(present) - len(classes),
    )


def _classes_to_show(present: list[int], pairs: list[tuple[int, int, int]], of_true: np.ndarray) -> list[int]:
    """Return all present classes if they fit, else those of the most frequent errors, filled up with large classes."""
    if len(present) <= MAX_CLASSES:
        return present
    chosen: dict[int, None] = {}  # a set that keeps its order
    for true, predicted, _ in pairs:
        chosen.update({true: None, predicted: None})
        if len(chosen) >= CONFUSED_CLASSES:
            break
    for i in sorted(present, key=lambda c: -int(of_true[c])):
        chosen[i] = None
    return sorted(list(chosen)[:CONFUSED_CLASSES])


def _shade(count: int, total: int) -> int:
    """Return 0 for none to 9 for all rows of the class; by the square root, so that a few rows can be seen."""
    return int(np.ceil(SHADES * np.sqrt(min(count / total, 1.0)))) if count else 0
