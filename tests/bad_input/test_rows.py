"""Data to train on that is broken, lacks something or does not go together."""

from pathlib import Path

import pytest

from tests.bad_input.refusals import ROWS, refused
from tests.command import write_csv
from tests.tiny import tiny_images


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        ([], ("text", "label"), ["empty"]),
        ([(t, "same") for t, _ in ROWS], ("text", "label"), ["one class", "'same'", "two are needed"]),
        ([*ROWS, ("once", "rare")], ("text", "label"), ["single row", "'rare'"]),
        (
            [(t, y if i % 9 else "") for i, (t, y) in enumerate(ROWS)],
            ("text", "label"),
            ["7 of 60 rows cannot be used (7 without label)", "hftl doctor x.csv"],
        ),
        ([(i, y) for i, (_, y) in enumerate(ROWS)], ("text", "label"), ["numbers, not text", "--text-column"]),
        (
            [(t if i % 9 else "", y) for i, (t, y) in enumerate(ROWS)],
            ("text", "label"),
            ["(7 without text)", "rows 0, 9, ", "(rows 2, 11, "],
        ),
        ([(t, y, i) for i, (t, y) in enumerate(ROWS)], ("text", "foo", "bar"), ["no label column", "foo", "bar"]),
    ],
    ids=["no rows", "one class", "single row", "missing labels", "numbers", "missing texts", "no label column"],
)
def test_tables(capsys, place, rows, header, says):
    refused(capsys, place, "--data", write_csv(Path("x.csv"), rows, header), says=tuple(says))


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x93garbage", b'text,label\n"a,b\n'], ids=range(3))
@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.parquet"])
def test_broken_files(capsys, place, name, content):
    Path(name).write_bytes(content)
    refused(capsys, place, "--data", name, says=(name,))


def test_unknown_class_in_test(capsys, place):
    Path("d").mkdir()
    write_csv(Path("d/train.csv"), ROWS[:40])
    write_csv(Path("d/test.csv"), [*ROWS[40:], ("strange", "mood9")])
    refused(capsys, place, "--data", "d", says=("test holds the class 'mood9'", "train lacks"))


def test_image_folders(capsys, place):
    Path("none").mkdir()
    refused(capsys, place, "--data", "none", task="image-classification", says=("none",))
    tiny_images(Path("some"), per_class=4)
    (Path("some") / "hollow").mkdir()
    refused(capsys, place, "--data", "some", task="image-classification", says=("'hollow'", "no images"))


def test_broken_images(capsys, place):
    tiny_images(Path("some"), per_class=4)
    next(Path("some/class_0").iterdir()).write_bytes(b"no image")
    words = ("--data", "some", "--strict")
    refused(capsys, place, *words, task="image-classification", says=("broken image", "class_0"))
