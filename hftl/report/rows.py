"""The confusion matrix and the rows behind it, texts or thumbnails: bounded, so that a page of any run opens at once.

The matrix has all classes where they fit, else the most confused ones.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from hftl.evaluation.row_scores import confusion as confusion_cells
from hftl.report.visible import one_line, shorten


ROWS_PER_CELL, IMAGES_PER_CELL = 20, 12
TEXT_CHARACTERS, TEXT_LINES = 300, 12
THUMBNAIL_SIDE = 200  # pixels
MAX_BYTES = 1_200_000  # of all rows behind the confusion matrix, as they stand in the page
MAX_IMAGES = 400  # each is decoded once more, about 5 ms for a photo of 500 pixels
MAX_CLASSES, CONFUSED_CLASSES = 30, 24  # in the matrix; beyond the first it shows as many as the second
MAX_PAIRS = 20
SHADES = 5

Content = str | Image.Image
Cell = tuple[int, int]  # (true class id, predicted class id)


@dataclass(frozen=True)
class PageRows:
    """The test rows' outcome, and how to get at the content of any row.

    `references`, `predictions` (class ids) and `probabilities` (of the predicted class, 0 to 1) are [n], in the order
    of the test split; numbers without probabilities are drawn, and None is for answers that are neither.
    `test_content(i)` and `train_content(i)` return the text of row i of that split, or its image.
    """

    labels: Sequence[str]
    references: Any
    predictions: Any
    probabilities: Any
    test_content: Callable[[int], Content]
    train_content: Callable[[int], Content]
    overlaid: Callable[[list[int]], list[dict[str, Any]]] | None = None  # test rows -> `overlay` of each, of maps
    colours: Sequence[Sequence[int]] = ()  # of the classes, where they have such


def thumbnail(image: Image.Image) -> dict[str, Any]:
    """Return the image as a data URI of at most 200 pixels a side, with its own size; it is never enlarged."""
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


def rows_by_cell(rows: PageRows) -> dict[Cell, list[int]]:
    """Return the test rows of each cell: the most certain errors first, of right answers the least certain first."""
    references, predictions = np.asarray(rows.references), np.asarray(rows.predictions)
    certainty = np.nan_to_num(np.asarray(rows.probabilities, dtype=np.float64))
    by_cell: dict[Cell, list[int]] = {}
    for row in np.argsort(np.where(references == predictions, certainty, -certainty), kind="stable").tolist():
        by_cell.setdefault((int(references[row]), int(predictions[row])), []).append(row)
    return by_cell


def rows_to_show(rows: PageRows, cells: Iterable[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows behind each cell as "true,predicted": [{row, p, text | image | unreadable}, ...].

    The cells come in order of importance. They are filled in turns, one row each, up to 20 texts or 12 images a
    cell and 1.2 MB or 400 images in all, so that what is cut off is the depth of a cell and not whole cells.
    """
    by_cell = rows_by_cell(rows)
    entries: dict[str, list[dict[str, Any]]] = {}
    used = images = 0
    for depth in range(ROWS_PER_CELL):
        for cell in cells:
            of_cell = by_cell.get(cell, [])
            if depth >= len(of_cell) or (depth >= IMAGES_PER_CELL and images):
                continue
            row, sure = of_cell[depth], float(rows.probabilities[of_cell[depth]])
            p = round(sure, 4) if np.isfinite(sure) else None
            entry = {"row": row, "p": p, **page_content(rows.test_content, row)}
            used += len(entry.get("text", "").encode()) + len(entry.get("image", "")) + 60
            images += "image" in entry
            if used > MAX_BYTES or images > MAX_IMAGES:
                return entries
            entries.setdefault(f"{cell[0]},{cell[1]}", []).append(entry)
    return entries


@dataclass(frozen=True)
class Confusion:
    """What the section shows. `pairs` are the most frequent errors of all classes, most frequent first."""

    classes: list[int]  # class ids of the matrix, in label order
    matrix: list[list[dict[str, int]]]  # [true][predicted]: count, shade 0 to 5
    totals: list[int]  # test rows of each class of the matrix
    pairs: list[dict[str, Any]]  # true, predicted, count, share (of the rows of the true class)
    cells: dict[Cell, int]  # those that can be opened, the most important first: errors by their count, then the rest
    errors: int
    outside: int  # errors that the matrix does not show
    hidden_classes: int  # classes among the test rows or the answers that the matrix does not show


def confusion(rows: PageRows) -> Confusion:
    """Return which classes were taken for which among the test rows."""
    size = len(rows.labels)
    return confusion_of(confusion_cells(np.asarray(rows.predictions), np.asarray(rows.references), size), size)


def confusion_of(cells: Sequence[Sequence[int]], n_classes: int) -> Confusion:
    """Return what the section shows of the counts (true, predicted, count); each pair stands there once.

    Raises `ValueError` where they name a class that is not below `n_classes`.
    """
    counts = {(int(true), int(predicted)): int(count) for true, predicted, count in cells if count}
    if any(not 0 <= i < n_classes for cell in counts for i in cell):
        raise ValueError("the confusion names classes that the report lacks")
    of_true: Counter[int] = Counter()
    for (true, _), count in counts.items():
        of_true[true] += count
    order = sorted(counts, key=lambda cell: (-counts[cell], cell))
    wrong = [cell for cell in order if cell[0] != cell[1]]
    present = sorted({i for cell in counts for i in cell})
    classes = _classes_to_show(present, wrong, of_true)
    inside = {cell for cell in counts if set(cell) <= set(classes)}
    opened = [*wrong[:MAX_PAIRS], *(cell for cell in wrong[MAX_PAIRS:] if cell in inside)]
    opened += [cell for cell in order if cell in inside and cell[0] == cell[1]]
    pairs = [{"true": t, "predicted": p, "count": counts[t, p], "share": counts[t, p] / of_true[t]} for t, p in wrong]
    return Confusion(
        classes=classes,
        matrix=[[_shaded(counts.get((t, p), 0), of_true[t]) for p in classes] for t in classes],
        totals=[of_true[i] for i in classes],
        pairs=pairs[:MAX_PAIRS],
        cells={cell: counts[cell] for cell in opened},
        errors=sum(counts[cell] for cell in wrong),
        outside=sum(counts[cell] for cell in wrong if cell not in inside),
        hidden_classes=len(present) - len(classes),
    )


def _classes_to_show(present: list[int], wrong: list[Cell], of_true: Mapping[int, int]) -> list[int]:
    """Return all present classes if they fit, else those of the most frequent errors, filled up with large classes."""
    if len(present) <= MAX_CLASSES:
        return present
    confused = [i for cell in wrong for i in cell]
    order = dict.fromkeys([*confused, *sorted(present, key=lambda c: -of_true[c])])
    return sorted(list(order)[:CONFUSED_CLASSES])


def _shaded(count: int, total: int) -> dict[str, int]:
    """Shade 0 is none and 5 all rows of the class; by the square root, so that a few rows can be seen."""
    return {"count": count, "shade": int(np.ceil(SHADES * np.sqrt(min(count / total, 1.0)))) if count else 0}
