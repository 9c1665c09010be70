"""Answers in a file: the user's cells stay as they are, and labels are understood when they are read again."""

import csv
import logging

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hftl.adapt import adapt
from hftl.cli import VERBS
from hftl.config import DataConfig
from hftl.data.columns import as_it_was, no_formula
from hftl.data.load import load_rows, load_splits
from hftl.doctor import doctor
from hftl.errors import ConfigError, DataError
from hftl.predict import load_predictor
from hftl.predict_file import evaluate_data, predict_data
from tests.tiny import build, tiny_text_rows


LABELS = ("-1", "=A", "@x", "+1")
PLAIN = ["-3.5", "+49 30 1234", "-1", "+1", "-1.5e-3", "+49 (30) 12-34", "-5%", "a=b", "'quoted", "", "x -1"]
RUN = ["=1+1", "@x", "+a", "-cmd|' /C calc'!A0", "\t=1", "\r=1", "-2+3+cmd|' /C calc'!A0", "+SUM(A1)"]


@pytest.mark.parametrize("cell", PLAIN)
def test_plain_cells_stay(cell):
    assert no_formula(cell) == cell
    assert as_it_was(cell) == cell


@pytest.mark.parametrize("cell", RUN)
def test_formulas_get_a_quote_that_can_be_taken_off(cell):
    assert no_formula(cell) == "'" + cell
    assert as_it_was(no_formula(cell)) == cell


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build("bert", tmp_path_factory.mktemp("m") / "bert", num_labels=4, id2label=dict(enumerate(LABELS)))


def test_the_users_cells_stay_and_the_labels_come_back(model, tmp_path, caplog):
    frame = pd.DataFrame(
        {
            "text": [f"sad day {'walk ' * (i % 7)}{i}" for i in range(40)],
            "amount": ["-3.5"] * 40,
            "phone": ["+49 30 1234"] * 40,
            "formula": ["=1+1"] * 40,
            "=cmd|x": ["a"] * 40,
            "prediction": ["mine"] * 40,
        }
    )
    frame.to_csv(tmp_path / "in.csv", index=False)
    out = tmp_path / "out.csv"
    with caplog.at_level(logging.WARNING, logger="hftl"):
        rows, _ = predict_data(load_predictor(str(model)), {"data": str(tmp_path / "in.csv"), "output": str(out)})
    assert "'prediction'" in caplog.text
    with out.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["text"] for row in written] == frame["text"].tolist()
    first = written[0]
    assert (first["amount"], first["phone"], first["formula"]) == ("-3.5", "+49 30 1234", "'=1+1")
    assert first["'=cmd|x"] == "a"
    assert first["prediction"] == "mine"
    assert [as_it_was(row["hftl_prediction"]) for row in written] == [row["hftl_prediction"] for row in rows]
    scores = evaluate_data(str(model), {"data": str(out), "label_column": "hftl_prediction"})
    assert scores["metrics"]["accuracy"]["value"] == 1.0


def test_each_label_comes_back_from_a_file(tmp_path):
    frame = pd.DataFrame({"text": [f"t {i}" for i in range(8)], "prediction": [no_formula(x) for x in LABELS] * 2})
    frame.to_csv(tmp_path / "out.csv", index=False)
    config = DataConfig(data=str(tmp_path / "out.csv"), label_column="prediction")
    assert load_rows("text", config, LABELS).labels.tolist() == [0, 1, 2, 3] * 2
    assert set(load_splits("text", DataConfig(data=frame.sort_values("prediction"))).labels) == set(LABELS)


def test_numbers_and_lines_of_other_formats_stay(model, tmp_path):
    frame = pd.DataFrame({"text": ["one\rline", "two\r\nlines", "three"], "n": pd.array([1, None, 3], dtype="Int64")})
    frame.to_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out.csv"
    predict_data(load_predictor(str(model)), {"data": str(tmp_path / "in.parquet"), "output": str(out)})
    again = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert again["n"].tolist() == ["1", "", "3"]
    assert again["text"].tolist() == frame["text"].tolist()


def test_a_name_that_is_too_long_is_refused_before_any_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr("hftl.predict.load_rows", None)
    for name in ("x" * 300 + ".csv", "y" * 248 + ".csv"):  # the second only with .partial
        with pytest.raises(ConfigError, match="too long"):
            predict_data(load_predictor(str(model)), {"data": "in.csv", "output": str(tmp_path / name)})


def test_the_data_are_never_replaced(model, tmp_path):
    written = "text\nlove home\n"
    (tmp_path / "in.csv").write_text(written)
    paths = {"data": str(tmp_path / "in.csv"), "output": str(tmp_path / "x" / ".." / "in.csv")}
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match="would replace the data: name another file"):
        predict_data(load_predictor(str(model)), paths)
    assert (tmp_path / "in.csv").read_text() == written


# Labels of other splits and files follow train


def _table(labels, feature=None) -> Dataset:
    labels = list(labels)
    features = None if feature is None else Features({"text": Value("string"), "label": feature})
    return Dataset.from_dict({"text": [f"text {i}" for i in range(len(labels))], "label": labels}, features=features)


HALVES = ["1.0", "1.5", "2.0"] * 8


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (_table(HALVES), _table(["1.0", "2.0"]), ("1.0", "1.5", "2.0")),
        (_table(HALVES), _table([1, 2]), ("1.0", "1.5", "2.0")),
        (_table(HALVES), _table([1.5, 2.0]), ("1.0", "1.5", "2.0")),
        (_table(["1", "2"] * 10), _table(["1.0", "2.0"]), ("1", "2")),
        (_table(["1", "2"] * 10), _table([1.0, 2.0]), ("1", "2")),
        (_table([1.0, 2.0] * 10), _table(["1", "2"]), ("1", "2")),
        (_table([True, False] * 10), _table(["true", "FALSE"]), ("False", "True")),
        (_table(["007", "7"] * 10), _table(["7", "007"]), ("007", "7")),
        (_table([0, 1] * 10, ClassLabel(names=["no", "yes"])), _table(["yes", "no"]), ("no", "yes")),
    ],
    ids=["halves", "ints", "floats", "strings", "numbers", "back", "bools", "zeros", "classes"],
)
def test_labels_that_are_the_same(train, test, names):
    splits = load_splits("text", DataConfig(data=DatasetDict(train=train, test=test)))
    assert set(splits.labels) == set(names)
    mine = [splits.labels[i] for i in splits.test["label"][:]]
    rows = load_rows("text", DataConfig(data=test), splits.labels)
    assert [splits.labels[i] for i in rows.labels] == mine
    findings = {finding.check: finding for finding in doctor(DatasetDict(train=train, test=test))}
    assert findings["missing_classes"].by_split.keys() <= {"test"}  # none is called missing in train


def test_labels_that_are_not_the_same():
    for wrong in (["2.5"], [2.5], ["7"], ["01.0"]):
        with pytest.raises(DataError, match=f"does not know: '{wrong[0]}'"):
            load_rows("text", DataConfig(data=_table(wrong)), ["1.0", "1.5", "2.0", "007"])


# Switches


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("On", True), ("0", False), ("no", False)])
def test_switches(value, on):
    assert VERBS["export"].make_context("export", ["run", f"--int8={value}"]).params["int8"] is on


def test_a_value_that_is_none_of_a_switch():
    with pytest.raises(ConfigError, match="--share stands alone, or needs true or false"):
        VERBS["demo"].make_context("demo", ["run", "--share=maybe"])


def test_a_run_reads_the_columns_that_it_was_trained_on(tmp_path):
    """A file with another text of a usual name would otherwise be answered by that text, without a word."""
    rows = [(text, f"class_{label}") for text, label in tiny_text_rows(60, 2)]
    frame = pd.DataFrame({"text": "walk", "label": "none", "body": [t for t, _ in rows], "kind": [k for _, k in rows]})
    frame.to_csv(tmp_path / "d.csv", index=False)
    data, named = str(tmp_path / "d.csv"), {"text_column": "body", "label_column": "kind"}
    base = str(build("bert", tmp_path / "bert"))
    run = adapt(data=data, model=base, method="probe", output_dir=tmp_path / "run", evidence=False, **named).run_dir
    for place in (str(run), str(run / "final")):
        predictor = load_predictor(place)
        by_body = [answer.label for answer in predictor.predict(frame["body"].tolist())]
        assert len({*by_body}) == 2
        assert [row["prediction"] for row in predict_data(predictor, {"data": data}).rows] == by_body
        assert [answer.label for answer in predictor.predict(frame)] == by_body
        plain = predict_data(predictor, {"data": data, "text_column": "text"}).rows
        assert len({row["prediction"] for row in plain}) == 1
        other = frame[["body", "kind"]].rename(
            columns={"body": "text", "kind": "label"}
        )  # no such columns: the usual ones
        assert [answer.label for answer in predictor.predict(other)] == by_body
        scores = evaluate_data(place, {"data": data})
        assert scores["rows"] == 60
        assert scores["metrics"] == predictor.evaluate(frame)["metrics"] == predictor.evaluate(other)["metrics"]


def test_a_run_splits_the_labels_that_it_was_trained_on(tmp_path):
    rows = [(text, f"class_{label}|x") for text, label in tiny_text_rows(60, 2)]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    base = str(build("bert", tmp_path / "bert"))
    run = adapt(
        data=frame, label_separator="|", model=base, method="probe", output_dir=tmp_path / "run", evidence=False
    )
    predictor = load_predictor(str(run.run_dir))
    assert predictor.evaluate(frame)["metrics"] == predictor.evaluate(frame, label_separator="|")["metrics"]
    single = frame.assign(label="x")  # the separator need not occur
    assert predictor.evaluate(single)["rows"] == 60
