"""The confusion matrix and the rows behind it, texts or thumbnails: bounded, so that a page of any run opens at once.

The matrix has all classes where they fit, else the most confused ones.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from hftl.evaluation.row_scores import confusion as confusion_cells
from hftl.report.visible import one_line, shorten


ROWS_PER_CELL = 20
IMAGES_PER_CELL = 12
TEXT_CHARACTERS = 300
TEXT_LINES = 12
THUMBNAIL_SIDE = 96  # pixels
MAX_BYTES = 1_200_000  # of all rows behind the confusion matrix, as they stand in the page
MAX_IMAGES = 400  # each is decoded once more, about 5 ms for a photo of 500 pixels

MAX_CLASSES = 30  # in the matrix; beyond that it shows the most confused 24
CONFUSED_CLASSES = 24
MAX_PAIRS = 20
SHADES = 9

Content = str | Image.Image
Cell = tuple[int, int]  # (true class id, predicted class id)


@dataclass(frozen=True)
class PageRows:
    """The test rows' outcome, and how to get at the content of any row.

    `references`, `predictions` (class ids) and `probabilities` (of the predicted class, 0 to 1) are [n], in the order
    of the test split. `test_content(i)` and `train_content(i)` return the text of row i of that split, or its image.
    """

    labels: Sequence[str]
    references: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    test_content: Callable[[int], Content]
    train_content: Callable[[int], Content]


def thumbnail(image: Image.Image) -> dict[str, Any]:
    """Return the image as a data URI of at most 96 pixels a side, with its own size; it is never enlarged."""
    width, height = image.size
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = BytesIO()
    tiny = max(small.size) <= 32  # a digit of 8 x 8 pixels is smaller without loss
    small.save(buffer, "WEBP", lossless=tiny, quality=75, method=4)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"image": f"data:image/webp;base64,{data}", "width": width, "height": height, "tiny": tiny}


def page_content(read: Callable[[int], Content], row: int) -> dict[str, Any]:
    """Return what the page shows of a row: `text` (cut), or `image` (a data URI), or `unreadable` (why)."""
    try:
        content = read(row)
        if isinstance(content, Image.Image):
            return thumbnail(content)
    except OSError as error:  # the file of an image may have gone since the run read it
        return {"unreadable": one_line(str(error), 120)}
    text, cut = shorten(content, TEXT_CHARACTERS, TEXT_LINES)
    return {"text": text, "length": len(content)} if cut else {"text": text}


def rows_by_cell(rows: PageRows, cells: Iterable[Cell]) -> dict[Cell, np.ndarray]:
    """Return the test rows of each cell: the most certain errors first, of right answers the least certain first."""
    references, predictions = np.asarray(rows.references), np.asarray(rows.predictions)
    classes = max(len(rows.labels), 1)
    codes = references.astype(np.int64) * classes + predictions
    certainty = np.nan_to_num(np.asarray(rows.probabilities, dtype=np.float64))
    order = np.lexsort((np.where(references == predictions, certainty, -certainty), codes))
    ordered = codes[order]
    positions = {}
    for true, predicted in cells:
        start, stop = np.searchsorted(ordered, true * classes + predicted + np.arange(2))
        positions[true, predicted] = order[start:stop]
    return positions


def rows_to_show(rows: PageRows, cells: Sequence[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows behind each cell as "true,predicted": [{row, p, text | image | unreadable}, ...].

    The cells are given in order of importance. They are filled in turns, one row each, up to 20 texts or 12 images a
    cell and 1.2 MB or 400 images in all, so that what is cut off is the depth of a cell and not whole cells.
    """
    by_cell = rows_by_cell(rows, cells)
    entries: dict[str, list[dict[str, Any]]] = {}
    used = images = 0
    for depth in range(ROWS_PER_CELL):
        for cell in cells:
            if depth >= len(by_cell[cell]) or (depth >= IMAGES_PER_CELL and images):
                continue
            row = int(by_cell[cell][depth])
            entry = {"row": row, "p": certainty_of(rows, row), **page_content(rows.test_content, row)}
            used += len(entry.get("text", "").encode()) + len(entry.get("image", "")) + 60
            images += "image" in entry
            if used > MAX_BYTES or images > MAX_IMAGES:
                return entries
            entries.setdefault(f"{cell[0]},{cell[1]}", []).append(entry)
    return entries


def certainty_of(rows: PageRows, row: int) -> float | None:
    """Return the probability that the model gave its answer on a test row, or None when it is no number."""
    value = float(rows.probabilities[row])
    return round(value, 4) if np.isfinite(value) else None


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
    """Return which classes were taken for which among the test rows."""
    size = len(rows.labels)
    return confusion_of(confusion_cells(np.asarray(rows.predictions), np.asarray(rows.references), size), size)


def confusion_of(cells: Sequence[Sequence[int]], n_classes: int) -> Confusion:
    """Return what the section shows of the counts (true, predicted, count); each pair stands there once.

    Raises `ValueError` where they name a class that is not below `n_classes`.
    """
    true, predicted, count = np.asarray(cells, dtype=np.int64).reshape(-1, 3).T
    if len(count) and (min(true.min(), predicted.min()) < 0 or max(true.max(), predicted.max()) >= n_classes):
        raise ValueError("the confusion names classes that the report lacks")
    of_true = np.bincount(true, weights=count, minlength=n_classes).astype(np.int64)
    order = np.lexsort((predicted, true, -count))
    pairs = [(int(true[i]), int(predicted[i]), int(count[i])) for i in order if true[i] != predicted[i]]
    present = np.union1d(true, predicted)
    classes = _classes_to_show([int(c) for c in present], pairs, of_true)
    counts = {(int(t), int(p)): int(c) for t, p, c in zip(true, predicted, count, strict=True)}
    block = [[counts.get((t, p), 0) for p in classes] for t in classes]
    errors = sum(c for _, _, c in pairs)
    return Confusion(
        classes=classes,
        matrix=[
            [{"count": c, "shade": _shade(c, int(of_true[i]))} for c in line]
            for i, line in zip(classes, block, strict=True)
        ],
        totals=[int(of_true[i]) for i in classes],
        pairs=[{"true": t, "predicted": p, "count": c, "share": c / int(of_true[t])} for t, p, c in pairs[:MAX_PAIRS]],
        errors=errors,
        outside=errors - sum(c for i, line in enumerate(block) for j, c in enumerate(line) if i != j),
        hidden_classes=len(present) - len(classes),
    )


def _classes_to_show(present: list[int], pairs: list[tuple[int, int, int]], of_true: np.ndarray) -> list[int]:
    """Return all present classes if they fit, else those of the most frequent errors, filled up with large classes."""
    if len(present) <= MAX_CLASSES:
        return present
    order: dict[int, None] = {}  # a set that keeps its order
    for true, predicted, _ in pairs:
        order.update({true: None, predicted: None})
        if len(order) >= CONFUSED_CLASSES:
            break
    for i in sorted(present, key=lambda c: -int(of_true[c])):
        order[i] = None
    return sorted(list(order)[:CONFUSED_CLASSES])


def _shade(count: int, total: int) -> int:
    """Return 0 for none to 9 for all rows of the class; by the square root, so that a few rows can be seen."""
    return int(np.ceil(SHADES * np.sqrt(min(count / total, 1.0)))) if count else 0
