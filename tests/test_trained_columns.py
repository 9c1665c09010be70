"""A run answers and scores new files by the columns that it was trained on."""

import pandas as pd
import pytest

import hftl
from hftl.predict_file import evaluate_data
from tests.runs import text_frame, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of tiny texts in `body`, beside a column `text` of numbers, with what it learns in `target`, beside `label`."""
    folder = tmp_path_factory.mktemp("columns")
    frame = text_frame(40).rename(columns={"text": "body", "label": "target"})
    frame = frame.assign(text=[f"number {i}" for i in range(40)], label=["odd", "even"] * 20)
    frame.to_csv(folder / "two.csv", index=False)
    flags = {"text_column": "body", "label_column": "target", "data": str(folder / "two.csv")}
    tiny_run("bert", "probe", folder, "run", **flags)
    return folder / "run"


def test_a_file_with_the_columns_of_training_is_read_as_in_training(run):
    model, frame = hftl.load(run), pd.read_csv(run.parent / "two.csv")
    assert [one.label for one in model.predict(frame)] == [one.label for one in model.predict(list(frame["body"]))]
    told = evaluate_data(str(run), {"data": str(run.parent / "two.csv")})
    named = model.evaluate(frame, text_column="body", label_column="target")
    assert told["metrics"] == named["metrics"] == evaluate_data(str(run / "final"), {"data": frame})["metrics"]


def test_other_columns_are_found_or_named(run):
    model, frame = hftl.load(run), text_frame(12)
    assert model.evaluate(frame)["rows"] == 12  # its columns have other names: the usual ones are read
    both = pd.read_csv(run.parent / "two.csv")
    ours = model.predict(both[["text"]])
    assert [one.label for one in model.predict(both[["text", "label"]])] == [one.label for one in ours]


def test_columns_of_labels_are_those_of_training(tmp_path):
    frame = text_frame(40)
    ticks = {name: (frame["label"] == name).astype(int) for name in sorted({*frame["label"]})}
    frame = frame[["text"]].assign(**ticks)
    tiny_run("bert", "probe", tmp_path, "run", data=frame, label_columns=[*ticks])
    run = tmp_path / "run"
    shuffled = frame[["text", *reversed(ticks)]]
    named = hftl.load(run).evaluate(frame, label_columns=[*ticks])["metrics"]
    assert hftl.load(run).evaluate(shuffled)["metrics"] == named


def test_a_model_with_a_config_yaml_of_somebody_else_answers(run, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for file in (run / "final").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    (model / "config.yaml").write_text("theirs: true\n")
    assert hftl.load(model).predict(["hello"])[0].label in hftl.load(model).labels
