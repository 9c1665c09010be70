"""Damaged data of every kind: read as it was meant, or refused in one line by whatever reads data."""

import random
import re
from pathlib import Path

import pytest

from benchmarks.wrong_data import IMAGE, TEXT
from hftl.config import DataConfig
from hftl.data.load import load_rows, load_splits
from hftl.doctor import doctor
from hftl.errors import HftlError
from tests.bad_input.refusals import as_nobody
from tests.command import text_csv
from tests.tiny import tiny_images


HEAVY = {"many_columns", "long_text", "picture_bomb"}  # of seconds each
READERS = {
    "train": lambda data, column: load_splits(column, DataConfig(data=data)),
    "predict": lambda data, column: load_rows(column, DataConfig(data=data), None),
    "eval": lambda data, column: load_rows(column, DataConfig(data=data), ["mood0", "mood1", "mood2"]),
    "doctor": lambda data, column: doctor(data),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    tiny_images(folder / "images", per_class=4)
    return {"text": text_csv(folder / "t.csv"), "image": folder / "images"}


def _damage(kind: str, name: str, good: dict[str, Path], folder: Path, seed: int) -> str:
    damage = (TEXT if kind == "text" else IMAGE)[name]
    return damage(good[kind], folder, random.Random(f"{name} {seed}"))


def _answers(data: str, kind: str, limit: int = 1_500) -> dict[str, str]:
    """What each reader said; anything but an `HftlError` is raised."""
    answers = {}
    for reader, read in READERS.items():
        try:
            read(data, kind)
        except HftlError as error:
            answers[reader] = str(error)
    assert all(len(said.splitlines()) == 1 and len(said) < limit for said in answers.values()), answers
    return answers


@pytest.mark.parametrize("name", sorted({*TEXT, *IMAGE} - HEAVY))
def test_every_damage(name, good, tmp_path):
    kind = "text" if name in TEXT else "image"
    _answers(_damage(kind, name, good, tmp_path, 0), kind)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("name", sorted({*TEXT, *IMAGE} - HEAVY))
def test_every_damage_in_many_ways(name, seed, good, tmp_path):
    kind = "text" if name in TEXT else "image"
    _answers(_damage(kind, name, good, tmp_path, seed), kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HEAVY))
def test_heavy_damage(name, good, tmp_path):
    kind = "text" if name in TEXT else "image"
    _answers(_damage(kind, name, good, tmp_path, 0), kind)


# The true cause is named


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_read(good, tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(good["text"].read_text(encoding="utf-8").encode(encoding))
    wanted = load_splits("text", DataConfig(data=good["text"]))
    assert load_splits("text", DataConfig(data=path)).train["text"][:] == wanted.train["text"][:]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"\0" * 5000, "zero bytes"),
        ("t.jsonl", b'{"text": "a", "label": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
        ("t.json", b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        ("t.jsonl", b'{"text": "a \\ud800", "label": "x"}\n', r"half a character pair in row 0"),
        ("t.jsonl", b'{"text": "a", "label": 1' + b"0" * 30 + b"}\n", "beyond 64 bits"),
        ("t.csv", b"text,label,label\na,b,c\nd,e,f\n", "two columns called 'label'"),
        ("t.csv", b"it was a good day,pos\nit was a bad day,neg\nfine by all of us,pos\n", "no header"),
    ],
    ids=["zeros", "deep jsonl", "deep json", "surrogate", "huge", "two labels", "no header"],
)
def test_the_cause_is_named(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    for reader, said in _answers(str(path), "text").items():
        assert re.search(words, said), (reader, said)
    assert set(_answers(str(path), "text")) == set(READERS)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("0,1", ["it was a good day,1", "it was a bad day,0"]),  # as pandas numbers columns
        ("kommentar,spam", ["gut,spam", "schlecht,ham"]),  # a class that is called like its column
        ("kommentar,klasse", ["gut,a", "kommentar,klasse", "schlecht,b"]),  # files joined, with their headers
    ],
)
def test_headers_that_are_headers(tmp_path, header, rows):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows * 10]))
    assert len(load_rows("text", DataConfig(data=path, text_column=header.split(",")[0]), None).table) == 10 * len(
        rows
    )


@pytest.mark.parametrize("content", ["{}", "not json", "[1]", '{"splits": ["train"]}'])
@pytest.mark.parametrize("name", ["dataset_dict.json", "state.json"])
def test_a_damaged_folder_of_save_to_disk(tmp_path, name, content):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / name).write_text(content)
    answers = _answers(str(tmp_path / "saved"), "text")
    assert set(answers) == set(READERS)
    assert all("save_to_disk" in said and "save it again" in said for said in answers.values())


def test_a_class_whose_images_are_all_broken(good, tmp_path):
    for number in (1, 2):
        path = Path(_damage("image", "class_all_broken", good, tmp_path / str(number), number))
        with pytest.raises(HftlError, match=r"no row of the class 'class_\d' can be used, such as .*\.png: "):
            load_splits("image", DataConfig(data=path))


def test_a_picture_of_too_many_pixels_is_left_out_and_named(good, tmp_path):
    path = _damage("image", "picture_bomb", good, tmp_path, 3)
    skipped = load_splits("image", DataConfig(data=path)).skipped
    assert len(skipped) == 1
    assert "bomb.png" in skipped[0]
    assert "pixels" in skipped[0]
    findings = {finding.check: finding for finding in doctor(path)}
    assert findings["broken_images"].count == 1
    with pytest.raises(HftlError, match=r"bomb\.png.*pixels"):
        load_splits("image", DataConfig(data=path, strict=True))


def test_a_long_label_is_cut_in_the_line(good, tmp_path):
    path = _damage("text", "long_label", good, tmp_path, 0)
    assert all(len(said) < 600 for said in _answers(path, "text").values())


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "~nouser/x.csv", "a\0b.csv", "d/" + "y" * 256])
def test_names_that_no_file_can_have(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert set(_answers(name, "text")) == set(READERS)


def test_what_may_not_be_read(good, tmp_path):
    """In a process of its own, which gives up the rights of root."""
    for name in ("t.csv", "folder/train.csv", "closed/t.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(good["text"].read_bytes())
    (tmp_path / "c.yaml").write_text("task: text-classification\n")
    shut = [tmp_path / name for name in ("t.csv", "folder", "closed", "c.yaml")]
    for path in shut:
        path.chmod(0)
    lines = as_nobody(_READ_DATA, tmp_path)
    for path in shut:
        path.chmod(0o700)
    assert len(lines) == 11
    assert all("permission" in line.lower() for line in lines), lines


_READ_DATA = """
from functools import partial
from pathlib import Path
from hftl.config import DataConfig, read_yaml
from hftl.data.load import load_rows, load_splits
from hftl.doctor import doctor
def calls():
    yield partial(read_yaml, Path("c.yaml"))
    yield partial(read_yaml, Path("closed/c.yaml"))
    for data in ("t.csv", "folder", "closed/t.csv"):
        config = DataConfig(data=data)
        yield partial(load_splits, "text", config)
        yield partial(load_rows, "text", config, None)
        yield partial(doctor, data)
"""
