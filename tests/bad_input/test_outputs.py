"""Folders and files that hftl must not or cannot write, and runs that do not fit their rows."""

import json
import os
from pathlib import Path

import pytest

from tests.bad_input.refusals import ROWS, check, train
from tests.command import hftl, write_csv


def test_existing_run(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    before = Path("run/report.json").read_text()
    check(train(capsys, place, "--output_dir", "run", "--seed", 3), "run exists already", "--overwrite")
    assert Path("run/report.json").read_text() == before
    assert train(capsys, place, "--output_dir", "run", "--seed", 3, "--overwrite").code == 0
    assert json.loads(Path("run/report.json").read_text())["seed"] == 3
    assert not Path("run.partial").exists()


def test_overwrite_that_fails_keeps_the_old_run(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    flags = ("--output_dir", "run", "--overwrite", "--method", "full", "--learning_rate", "1e30")
    check(train(capsys, place, *flags), "nan")
    assert Path("run/final/model.safetensors").is_file()
    assert not Path("run.partial").exists()


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_folder_that_is_no_run_stays(capsys, place, overwrite):
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    check(train(capsys, place, "--output_dir", "mine", *overwrite), "mine")
    assert Path("mine/letter.txt").read_text() == "dear"
    assert not Path("mine.partial").exists()


def test_empty_folder_is_used(capsys, place):
    Path("run").mkdir()
    assert train(capsys, place, "--output_dir", "run").code == 0
    assert Path("run/report.json").is_file()


@pytest.mark.parametrize("where", [".", "..", "/"])
def test_folders_that_cannot_be_a_run(capsys, place, where):
    check(train(capsys, place, "--output_dir", where), "--output_dir")


def test_partial_that_is_no_run_stays(capsys, place):
    Path("run.partial").mkdir()
    Path("run.partial/letter.txt").write_text("dear")
    check(train(capsys, place, "--output_dir", "run", "--overwrite"), "run.partial")
    check(train(capsys, place, "--output_dir", "run", "--resume"), "run.partial")
    assert Path("run.partial/letter.txt").read_text() == "dear"


def test_output_under_a_file(capsys, place):
    Path("file").write_text("x")
    check(train(capsys, place, "--output_dir", "file"), "is a file")
    check(train(capsys, place, "--output_dir", "file/run"), "file")
    assert Path("file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(capsys, place):
    Path("locked").mkdir(mode=0o500)
    check(train(capsys, place, "--output_dir", "locked/run"), "permission")


def test_unwritable_folder_of_the_kernel(capsys, place):
    check(train(capsys, place, "--output_dir", "/proc/run"), "/proc/run")


def test_prediction_that_cannot_be_written(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    words = ["predict", "run", "--data", place / "t.csv", "--output"]
    check(hftl(capsys, *words, "none/out.csv"), "no folder none")
    Path("folder").mkdir()
    check(hftl(capsys, *words, "folder"), "folder")
    check(hftl(capsys, *words, "/proc/out.csv"), "/proc/out.csv")
    assert {p.name for p in Path().iterdir()} == {"run", "folder"}


def test_rows_that_do_not_fit_the_run(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    check(hftl(capsys, "predict", "run", "--data", place / "images"), "text")
    check(hftl(capsys, "predict", "run", "--data", "none.csv"), "no such file")
    strange = write_csv(Path("x.csv"), [*ROWS, ("strange", "mood9")])
    check(hftl(capsys, "eval", "run", "--data", strange), "'mood9'", "the model does not know")
    unlabelled = write_csv(Path("y.csv"), [(text, 1, 2) for text, _ in ROWS], ("text", "foo", "bar"))
    check(hftl(capsys, "eval", "run", "--data", unlabelled), "no label column")
    check(hftl(capsys, "eval", "run", "--data", place / "t.csv", "--text_column", "txt"), "Did you mean 'text'?")


def test_image_arguments_that_are_none(capsys, place):
    words = ["--data", place / "images", "--model", place / "resnet", "--method", "probe", "--output_dir", "run"]
    assert hftl(capsys, "train", "image-classification", *words).code == 0
    check(hftl(capsys, "predict", "run", "none.png"), "no image file none.png")
    Path("x.png").write_bytes(b"no image")
    check(hftl(capsys, "predict", "run", "x.png"), "x.png")


def test_predictions_that_would_replace_the_data_or_misname_their_format(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    rows = write_csv(Path("rows.csv"), ROWS)
    before = rows.read_bytes()
    words = ["predict", "run", "--data", rows, "--output"]
    check(hftl(capsys, *words, "./rows.csv"), "would replace the data")
    check(hftl(capsys, *words, "rows.xlsx"), "rows.csv", "--json")
    check(hftl(capsys, "predict", "run", "a text", "--text_pair", "another"), "--text_pair", "leave it out")
    check(hftl(capsys, "predict", "run", "a text", "--output", "answers.csv"), "--output", "--data")
    check(hftl(capsys, "predict", "run", "rows.csv"), "rows.csv is a file", "--data rows.csv")
    assert rows.read_bytes() == before


def test_a_model_of_pairs_names_both_columns(capsys, place):
    rows = [(f"one {i}", f"two {i}", "ab"[i % 2]) for i in range(30)]
    write_csv(Path("pairs.csv"), rows, ("sentence1", "sentence2", "label"))
    assert train(capsys, place, "--data", "pairs.csv", "--output_dir", "run").code == 0
    write_csv(Path("other.csv"), [("a", "b"), ("c", "d")], ("q1", "q2"))
    message = check(hftl(capsys, "predict", "run", "--data", "other.csv"), "no pair column", "text_pair_column")
    assert "use the task" not in message
