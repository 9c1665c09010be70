"""Corrections: whole rows whoever writes, and data that training reads."""

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from datasets import load_dataset
from PIL import Image

from hftl.config import DataConfig
from hftl.data.load import load_splits
from hftl.demo import feedback as module
from hftl.demo.feedback import NONE_OF_THESE, open_feedback
from hftl.errors import DataError, RunError
from hftl.predict import Prediction
from tests.command import environment


def said(label: str = "a") -> Prediction:
    return Prediction(label, 0.75, {label: 0.75})


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_texts_can_be_trained_on(tmp_path):
    feedback = open_feedback(tmp_path / "kept", "text")
    texts = [f'line one {i}\nline, "two" \u00e9 \U0001f600' for i in range(12)]
    for i, text in enumerate(texts):
        feedback.save(text, said(), "ab"[i % 2], "runs-x")
    feedback.save("neither", said(), NONE_OF_THESE, "runs-x")
    feedback.save("nor this", said(), NONE_OF_THESE, "runs-x")
    splits = load_splits("text", DataConfig(data=str(feedback.folder)))
    assert splits.labels == ("a", "b", NONE_OF_THESE)
    read = [t for part in (splits.train, splits.validation, splits.test) for t in part["text"][:]]
    assert sorted(read) == sorted([*texts, "neither", "nor this"])
    first = rows(feedback.folder / "feedback.csv")[0]
    assert list(first) == ["text", "predicted", "probability", "label", "time", "model"]
    assert (first["predicted"], first["probability"], first["model"]) == ("a", "0.750000", "runs-x")


def test_images_can_be_trained_on(tmp_path):
    feedback = open_feedback(tmp_path / "kept", "image")
    colours = {"a": (200, 30, 30), "b": (30, 30, 200)}
    for i in range(12):
        label = "ab"[i % 2]
        image = Image.new("RGB", (12, 9), colours[label])
        image.putpixel((0, 0), (i, i, i))
        feedback.save(image, said(), label, "runs-x")
    feedback.save(image, said(), "a", "runs-x")  # the same image again: one file, one row more
    assert len(list((feedback.folder / "images").glob("*.png"))) == 12
    assert len(rows(feedback.folder / "metadata.csv")) == 13
    splits = load_splits("image", DataConfig(data=str(feedback.folder)))
    assert splits.labels == ("a", "b")
    assert splits.skipped == ()
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 13
    theirs = load_dataset(
        "imagefolder", data_dir=str(feedback.folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert theirs[0]["image"].size == (12, 9)
    assert theirs[0]["label"] == "a"


def test_nothing_of_the_file_but_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8), (9, 99, 199)).save(path, exif=exif)
    from hftl.demo.served import read_image

    feedback = open_feedback(tmp_path / "kept", "image")
    feedback.save(read_image({"path": path}), said(), "b", "m")
    kept = next((feedback.folder / "images").glob("*.png"))
    assert b"taken at home" not in kept.read_bytes()
    assert Image.open(kept).info.get("exif") is None


def test_no_formula_and_no_broken_bytes(tmp_path):
    feedback = open_feedback(tmp_path / "kept", "text")
    feedback.save("=HYPERLINK(1)", said("-1"), "-1", "m")
    feedback.save("nul \x00 and \r\n lines", said("@x"), "=b", "m")
    first, second = rows(feedback.folder / "feedback.csv")
    assert first["text"] == "'=HYPERLINK(1)"
    assert (first["predicted"], first["label"]) == ("-1", "-1")  # numbers, which no spreadsheet runs
    assert (second["predicted"], second["label"]) == ("'@x", "'=b")
    assert b"\x00" not in (feedback.folder / "feedback.csv").read_bytes()


def test_many_threads_and_processes(tmp_path):
    feedback = open_feedback(tmp_path / "kept", "text")
    code = (
        "import sys; from hftl.demo.feedback import open_feedback; from hftl.predict import Prediction\n"
        "feedback = open_feedback(sys.argv[1], 'text')\n"
        "for i in range(8): feedback.save(f'other {i} ' + 'x' * 3000, Prediction('a', .5, {}), 'b', 'm')"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(feedback.folder)], env=environment()) as other:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: feedback.save(f"own {i} " + "y" * 3000, said(), "b", "m"), range(24)))
        assert other.wait(timeout=120) == 0
    found = rows(feedback.folder / "feedback.csv")
    assert sorted(row["text"].rsplit(" ", 1)[0] for row in found) == sorted(
        [*(f"own {i}" for i in range(24)), *(f"other {i}" for i in range(8))]
    )
    assert all(row["label"] == "b" for row in found)


def test_folders_that_are_refused(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be used"):
        open_feedback(tmp_path / "file", "text")
    other = tmp_path / "other"
    other.mkdir()
    (other / "feedback.csv").write_text("text,label\na,b\n", encoding="utf-8")
    with pytest.raises(RunError, match="other columns"):
        open_feedback(other, "text")
    assert (other / "feedback.csv").read_text(encoding="utf-8") == "text,label\na,b\n"


def test_a_full_folder_takes_no_more(tmp_path, monkeypatch):
    feedback = open_feedback(tmp_path / "kept", "text")
    feedback.save("one", said(), "b", "m")
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="no more are taken"):
        feedback.save("two", said(), "b", "m")
    assert len(rows(feedback.folder / "feedback.csv")) == 1


def test_a_carriage_return_ends_no_row(tmp_path):
    """Python's csv quotes a lone one only from 3.13 on: the text would have become two rows, and a visitor's own."""
    feedback = open_feedback(tmp_path / "kept", "text")
    feedback.save("one\rtwo\r\nthree", said(), "b", "runs-x")
    assert [(row["text"], row["label"]) for row in rows(feedback.folder / "feedback.csv")] == [
        ("one\ntwo\nthree", "b")
    ]
