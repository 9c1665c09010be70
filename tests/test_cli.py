"""Runs from the command line: what they print, where, and with which exit code."""

import csv
import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.command import ROOT, hftl, shell, text_csv, write_csv
from tests.tiny import build, tiny_images


FIELDS = {
    "schema_version", "task", "method", "model", "data", "metrics", "baselines", "per_class", "stages", "timing",
    "environment", "warnings",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path_factory.getbasetemp() / "hftl-cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with tiny checkpoints and data."""
    folder = tmp_path_factory.mktemp("cli")
    build("bert", folder / "bert")
    build("resnet", folder / "resnet")
    text_csv(folder / "t.csv")
    tiny_images(folder / "images", per_class=10)
    return folder


@pytest.fixture(scope="module")
def text_run(place) -> Path:
    """A finished run on the tiny texts, made by the command line."""
    from hftl.cli import run_command

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(place / "cache"))
        words = ["--data", place / "t.csv", "--model", place / "bert", "--output_dir", place / "run"]
        train = [
            "train",
            "text-classification",
            *words,
            "--method",
            "full",
            "--max_steps",
            "4",
            "--learning_rate",
            "1e-4",
        ]
        assert run_command(list(map(str, train))) == 0
    return place / "run"


@pytest.fixture(scope="module")
def image_run(place) -> Path:
    from hftl.cli import run_command

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(place / "cache"))
        words = ["--data", place / "images", "--model", place / "resnet", "--output_dir", place / "image-run"]
        assert run_command(["train", "image-classification", *map(str, words), "--method", "probe"]) == 0
    return place / "image-run"


# Train


def check_report(report: dict, rows: int) -> None:
    assert set(report) >= FIELDS
    assert set(report["model"]) >= {"name", "source", "revision", "parameters"}
    assert set(report["data"]) >= {"name", "labels", "rows", "skipped"}
    assert set(report["data"]["rows"]) == {"train", "validation", "test"}
    assert sum(report["data"]["rows"].values()) == rows
    for part in ("test", "validation"):
        for metric in ("accuracy", "macro_f1"):
            bounds = report["metrics"][part][metric]
            assert 0 <= bounds["low"] <= bounds["value"] <= bounds["high"] <= 1
    for stage in report["stages"]:
        assert set(stage) >= {"name", "trainable_parameters", "learning_rates", "seconds"}
    assert set(report["timing"]) >= {"total_seconds", "features_seconds", "train_seconds"}
    assert set(report["environment"]) >= {"versions", "device", "processes"}
    assert [row["label"] for row in report["per_class"]] == report["data"]["labels"]
    assert len(report["baselines"]) == 2


def test_train_json_is_one_document(capsys, place, tmp_path):
    done = hftl(
        capsys, "train", "text-classification", "--data", place / "t.csv", "--model", place / "bert",
        "--method", "lora", "--max_steps", 4, "--output_dir", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    report = done.json
    check_report(report, 60)
    assert report["task"] == "text-classification"
    assert report["method"] == "lora"
    assert report["data"]["labels"] == ["mood0", "mood1", "mood2"]
    assert report["run_dir"] == str(tmp_path / "run")
    del report["run_dir"]
    assert report == json.loads((tmp_path / "run" / "report.json").read_text())
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "adapter", "config.yaml", "final", "report.json", "report.html", "baseline",
    }  # fmt: skip
    assert "TF-IDF" in done.err


def test_train_without_json_prints_its_tables_on_stderr(capsys, place, tmp_path):
    done = hftl(
        capsys, "train", "image_classification", "--data", place / "images", "--model", place / "resnet",
        "--method", "probe", "--output_dir", tmp_path / "run",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "")
    assert str(tmp_path / "run") in done.err


def test_config_repeats_the_run(capsys, text_run, tmp_path):
    text = (text_run / "config.yaml").read_text()
    assert yaml.safe_load(text)["learning_rate"] == 1e-4
    # PyYAML reads `1e-4` (no dot) as a string; people write it so
    typed = tmp_path / "config.yaml"
    typed.write_text(text.replace("learning_rate: 0.0001", "learning_rate: 1e-4"))
    done = hftl(capsys, "train", typed, "--output_dir", tmp_path / "again", "--json")
    assert done.code == 0, done.err
    first = json.loads((text_run / "report.json").read_text())
    assert done.json["metrics"] == first["metrics"]
    assert done.json["stages"][-1]["learning_rates"] == first["stages"][-1]["learning_rates"]
    assert (tmp_path / "again" / "config.yaml").read_text() == text


def test_flag_after_the_config_overrides_it(capsys, text_run, tmp_path):
    done = hftl(
        capsys, "train", text_run / "config.yaml", "--output_dir", tmp_path / "other", "--method", "probe",
        "--seed", 7, "--evidence", "off", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["method"] == "probe"
    assert done.json["seed"] == 7
    written = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert (written["method"], written["seed"], written["max_steps"]) == ("probe", 7, 4)


def test_alias_on_the_command_line_overrides_the_config(capsys, text_run, place, tmp_path):
    other = build("bert", tmp_path / "other-bert", seed=1)
    done = hftl(
        capsys, "train", text_run / "config.yaml", "--model_name_or_path", other, "--method", "probe",
        "--output_dir", tmp_path / "run", "--evidence", "off", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["model"]["name"] == str(other)


def test_default_output_dir_counts_up(capsys, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "text-classification", "--data", place / "t.csv", "--model", place / "bert", "--method", "probe"]
    words += ["--evidence", "off"]
    folders = [hftl(capsys, *words, "--json").json["run_dir"] for _ in range(2)]
    assert folders == ["runs/t-bert-probe", "runs/t-bert-probe-2"]


def test_evidence_off(capsys, place, tmp_path):
    words = ["--data", place / "t.csv", "--model", place / "bert", "--method", "probe", "--evidence", "off"]
    done = hftl(capsys, "train", "text-classification", *words, "--output_dir", tmp_path / "run", "--json")
    assert done.json["baselines"] == []


# Predict and eval


def test_predict_texts(capsys, text_run):
    done = hftl(capsys, "predict", text_run, "sad lonely day", "happy smile")
    assert done.code == 0
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[2] for line in lines] == ["sad lonely day", "happy smile"]
    assert all(line[0].startswith("mood") and 0 < float(line[1]) <= 1 for line in lines)


def test_predict_json(capsys, text_run):
    done = hftl(capsys, "predict", text_run, "sad lonely day", "--json")
    (row,) = done.json
    assert set(row) == {"input", "prediction", "probability", "not_sure", "probabilities"}
    assert set(row["probabilities"]) == {"mood0", "mood1", "mood2"}
    assert row["probability"] == max(row["probabilities"].values())
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_predict_file(capsys, text_run, tmp_path):
    rows = [(7, "happy smile", "=1+1"), (8, "@sad tears", "plain"), (9, "-", "+1"), (10, "a, b\nc", "x")]
    data = write_csv(tmp_path / "in.csv", rows, ("number", "text", "note"))
    output = tmp_path / "out.csv"
    done = hftl(capsys, "predict", text_run, "--data", data, "--output", output)
    assert (done.code, done.out) == (0, "")
    with output.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [
        "number",
        "text",
        "note",
        "prediction",
        "probability",
        "not_sure",
    ]  # the file's own order
    assert [row["number"] for row in found] == ["7", "8", "9", "10"]
    assert [row["note"] for row in found] == ["'=1+1", "plain", "+1", "x"]
    assert [row["text"] for row in found] == ["happy smile", "'@sad tears", "'-", "a, b\nc"]
    assert all(row["prediction"].startswith("mood") and 0 < float(row["probability"]) <= 1 for row in found)
    assert {p.name for p in tmp_path.iterdir()} == {"in.csv", "out.csv"}


def test_predict_file_on_stdout(capsys, text_run, place):
    done = hftl(capsys, "predict", text_run, "--data", place / "t.csv")
    assert len(done.out.splitlines()) == 60
    rows = hftl(capsys, "predict", text_run, "--data", place / "t.csv", "--json").json
    assert len(rows) == 60
    assert set(rows[0]) == {"text", "label", "prediction", "probability", "not_sure"}


def test_predict_negative_looking_text(capsys, text_run):
    done = hftl(capsys, "predict", text_run, "--json", "--", "-5 degrees", "--really")
    assert done.code == 0, done.err
    assert [row["input"] for row in done.json] == ["-5 degrees", "--really"]


def test_predict_images(capsys, image_run, place):
    images = sorted((place / "images" / "class_1").iterdir())[:2]
    done = hftl(capsys, "predict", image_run, *images)
    assert done.code == 0
    assert [line.split("\t")[2] for line in done.out.splitlines()] == [str(path) for path in images]
    rows = hftl(capsys, "predict", image_run, "--data", place / "images", "--json").json
    assert len(rows) == 30
    assert all(Path(row["image"]).is_file() for row in rows)


def test_eval(capsys, text_run, place):
    done = hftl(capsys, "eval", text_run, "--data", place / "t.csv", "--json")
    assert done.code == 0
    scores = done.json
    assert scores["rows"] == 60
    assert set(scores["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert [row["label"] for row in scores["per_class"]] == ["mood0", "mood1", "mood2"]
    plain = hftl(capsys, "eval", text_run, "--data", place / "t.csv")
    assert f"{scores['metrics']['accuracy']['value']:.4f}" in plain.out


def test_eval_says_what_it_left_out(capsys, text_run, place, tmp_path):
    lines = (place / "t.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([*lines, "a text without a label,"]))
    done = hftl(capsys, "eval", text_run, "--data", tmp_path / "t.csv", "--skip_bad_rows")
    assert "60 rows, 1 left out" in done.out


def test_eval_images(capsys, image_run, place):
    scores = hftl(capsys, "eval", image_run, "--data", place / "images", "--json").json
    assert scores["rows"] == 30
    assert scores["metrics"]["accuracy"]["value"] > 0.5


@pytest.mark.slow
def test_config_carried_to_another_folder_finds_its_data(place, tmp_path):
    """Relative paths are relative to where the command runs, as everywhere on a command line."""
    text = yaml.safe_dump(
        {"task": "text-classification", "data": "t.csv", "model": "bert", "method": "probe", "report_to": "none"}
    )
    (tmp_path / "c.yaml").write_text(text)
    done = shell(["-m", "hftl", "train", tmp_path / "c.yaml", "--output_dir", tmp_path / "run", "--json"], place)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    check_report(done.json, 60)
    assert "Traceback" not in done.err
    assert "Warning" not in done.err


def test_the_checkout_is_what_is_tested():
    import hftl as package

    assert Path(package.__file__).is_relative_to(ROOT)
    assert sys.version_info >= (3, 11)


def test_eval_of_the_baseline_of_a_run(capsys, place, text_run):
    done = hftl(capsys, "eval", text_run / "baseline", "--data", place / "t.csv", "--json")
    assert done.code == 0
    assert done.json["rows"] == 60


def test_public_names_are_functions():
    from hftl import adapt, load

    assert callable(adapt)
    assert callable(load)
    import_module("hftl.adapt")
    import hftl.adapt

    assert callable(hftl.adapt)
    from hftl import adapt as again

    assert again is adapt


def test_public_names_in_a_fresh_process(tmp_path):
    code = "import hftl.adapt, hftl; assert callable(hftl.adapt); from hftl import adapt, load, TASKS; assert callable(adapt)"
    done = shell(["-c", code], tmp_path)
    assert done.code == 0, done.err
