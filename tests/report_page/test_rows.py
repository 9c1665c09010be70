"""Which rows stand behind a cell, and how much of them is kept."""

import base64
import itertools
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from hftl.report.rows import (
    IMAGES_PER_CELL,
    MAX_BYTES,
    MAX_CLASSES,
    MAX_IMAGES,
    ROWS_PER_CELL,
    PageRows,
    confusion,
    rows_by_cell,
    rows_to_show,
    thumbnail,
)
from hftl.report.rows import (
    page_content as shown,
)
from tests.report_page.example import image_rows, outcome, picture, text_rows


def all_cells(classes: int) -> list[tuple[int, int]]:
    return list(itertools.product(range(classes), repeat=2))


def test_rows_of_each_cell_in_order():
    rows = text_rows(200)
    by_cell = rows_by_cell(rows)
    assert sum(map(len, by_cell.values())) == 200
    for (true, predicted), of_cell in by_cell.items():
        expected = [
            i for i in range(200) if rows.references[i] == true and rows.predictions[i] == predicted
        ]  # fmt: skip
        expected.sort(key=lambda i: rows.probabilities[i], reverse=true != predicted)
        assert of_cell == expected


def test_cells_are_filled_in_turns():
    rows = text_rows(600)
    found = rows_to_show(rows, all_cells(3))
    by_cell = rows_by_cell(rows)
    assert set(found) == {f"{t},{p}" for t, p in by_cell}
    for (true, predicted), of_cell in by_cell.items():
        entries = found[f"{true},{predicted}"]
        assert [e["row"] for e in entries] == of_cell[:ROWS_PER_CELL]
        assert [e["text"] for e in entries] == [f"the text of row {i}" for i in of_cell[:ROWS_PER_CELL]]
        np.testing.assert_allclose([e["p"] for e in entries], rows.probabilities[of_cell[:ROWS_PER_CELL]], atol=5e-5)


def test_bytes_are_bounded_and_shared():
    labels = tuple(f"c{i}" for i in range(30))
    rows = text_rows(60_000, labels, "\u65e5" * 300 + "{}")
    cells = all_cells(30)
    found = rows_to_show(rows, cells)
    depths = [len(found.get(f"{t},{p}", [])) for t, p in cells]
    assert sum(len(e["text"].encode()) for entries in found.values() for e in entries) <= MAX_BYTES
    assert sum(depths) > 1000
    assert max(depths) - min(depths) <= 1


def test_images_are_bounded():
    found = rows_to_show(image_rows(900), all_cells(3))
    depths = [len(entries) for entries in found.values()]
    assert len(depths) == 9
    assert max(depths) == IMAGES_PER_CELL
    labels = tuple(f"c{i}" for i in range(40))
    references, predictions, sure = outcome(3000, 40, right=0)
    many = PageRows(labels, references, predictions, sure, lambda i: picture(0), lambda i: picture(0))
    assert sum(map(len, rows_to_show(many, all_cells(40)).values())) == MAX_IMAGES


@pytest.mark.parametrize(("mode", "size"), [("RGB", (640, 480)), ("L", (8, 8)), ("P", (30, 90)), ("RGBA", (1, 500))])
def test_thumbnail(mode, size):
    found = thumbnail(picture(1, size).convert(mode))
    head, data = found["image"].split(",")
    image = Image.open(BytesIO(base64.b64decode(data)))
    assert head == "data:image/webp;base64"
    assert (found["width"], found["height"]) == size
    assert max(image.size) == min(max(size), 200)
    ratio = size[0] / size[1]
    assert image.size[0] / image.size[1] == pytest.approx(ratio, rel=0.02) or min(image.size) == 1


def test_small_images_keep_every_pixel():
    found = thumbnail(picture(3))
    image = Image.open(BytesIO(base64.b64decode(found["image"].split(",")[1])))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(picture(3)))
    assert found["tiny"]


def test_content_that_is_cut_or_gone():
    assert shown(lambda i: "x" * 3_000_000, 0) == {"text": "x" * 300 + "\u2026", "length": 3_000_000}
    assert shown(lambda i: "", 0) == {"text": ""}

    def gone(i: int) -> str:
        raise OSError("broken: \u202e7.png")

    assert shown(gone, 0) == {"unreadable": "broken: [U+202E]7.png"}


def test_probability_that_is_no_number():
    rows = text_rows(20)
    found = rows_to_show(replace(rows, probabilities=np.full(20, np.nan)), all_cells(3))
    assert {e["p"] for entries in found.values() for e in entries} == {None}


def test_confusion_against_scikit_learn():
    rows = text_rows(300)
    found = confusion(rows)
    expected = confusion_matrix(rows.references, rows.predictions)
    assert [[cell["count"] for cell in line] for line in found.matrix] == expected.tolist()
    assert found.errors == (rows.references != rows.predictions).sum()
    assert found.outside == found.hidden_classes == 0
    pairs = {(p["true"], p["predicted"]): p["count"] for p in found.pairs}
    assert pairs == {(t, p): expected[t, p] for t, p in all_cells(3) if t != p and expected[t, p]}
    assert [p["count"] for p in found.pairs] == sorted(pairs.values(), reverse=True)
    assert next(iter(found.cells)) == (found.pairs[0]["true"], found.pairs[0]["predicted"])
    for pair in found.pairs:
        assert pair["share"] == pytest.approx(pair["count"] / expected[pair["true"]].sum())


def test_many_classes_show_the_most_confused():
    labels = tuple(f"c{i}" for i in range(500))
    references = np.repeat(np.arange(500), 4)
    predictions = references.copy()
    predictions[references == 490] = 3  # four errors of one kind
    predictions[references == 7] = 8
    predictions[np.flatnonzero(references > 100)[::40]] = 99  # many rare ones
    sure = np.full(2000, 0.9)
    found = confusion(PageRows(labels, references, predictions, sure, str, str))
    expected = confusion_matrix(references, predictions, labels=np.arange(500))
    assert len(found.classes) <= MAX_CLASSES
    assert {490, 3, 7, 8} <= set(found.classes)
    block = expected[np.ix_(found.classes, found.classes)]
    assert [[cell["count"] for cell in line] for line in found.matrix] == block.tolist()
    errors = (references != predictions).sum()
    assert found.outside == errors - (block.sum() - np.trace(block))
    seen = len(np.union1d(references, predictions))
    assert found.hidden_classes == seen - len(found.classes)


def test_one_class_and_no_error():
    sure = np.array([1.0, 0.5])
    found = confusion(PageRows(("a", "b"), np.array([1, 1]), np.array([1, 1]), sure, str, str))
    assert (found.classes, found.pairs, found.errors) == ([1], [], 0)
    assert found.cells == {(1, 1): 2}
