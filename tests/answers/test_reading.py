"""Which answer the columns of the data speak for, and what is said of columns that do not go with it."""

import json

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hftl.config import DataConfig, build_config
from hftl.data.load import load_rows, load_task
from hftl.data.settle import find_task
from hftl.errors import ConfigError, DataError
from hftl.tasks import LABELS, get_task
from tests.answers.rows import labelled, measured, paired
from tests.runs import text_frame
from tests.tiny import tiny_images


TEXT = "text-classification"


def settled(data, **flags):
    return load_task(TEXT, DataConfig(data=data, **flags))


def kinds(data, **flags):
    task, _ = settled(data, **flags)
    return task.inputs.kind, {"softmax": "class", "sigmoid": "labels", "none": "number"}[task.output.link]


def refused(data, *parts, **flags):
    with pytest.raises(DataError) as caught:
        settled(data, **flags)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_the_columns_say_what_is_answered(tmp_path):
    assert kinds(text_frame(30)) == ("text", "class")
    assert kinds(labelled()) == ("text", "labels")
    assert kinds(measured()) == ("text", "number")
    assert kinds(paired()) == ("pair", "class")
    measured().to_csv(tmp_path / "numbers.csv", index=False)
    assert kinds(tmp_path / "numbers.csv") == ("text", "number")
    few = pd.DataFrame(
        {"text": [f"text {i}" for i in range(40)], "label": [(1.0, 1.5, 2.0)[i % 3] for i in range(40)]}
    )
    assert settled(few)[1].labels == ("1", "1.5", "2")
    assert kinds(few, problem_type="regression") == ("text", "number")
    whole = few.assign(label=range(40))
    refused(whole, "40 of 40 classes have a single row", "To learn a number: --problem_type regression")
    assert kinds(whole, problem_type="regression") == ("text", "number")


@pytest.mark.parametrize(
    "names",
    [("premise", "hypothesis"), ("question1", "question2"), ("question", "answer"), ("Sentence1", "Sentence2")],
)
def test_two_usual_columns_are_a_pair(names):
    data = paired().rename(columns=dict(zip(("sentence1", "sentence2"), names, strict=True)))
    task, splits = settled(data)
    assert task.inputs.kind == "pair"
    row = splits.train[0]
    source = data.iloc[row["row"]]
    assert (row["text"], row["text_pair"]) == (source[names[0]], source[names[1]])
    assert kinds(data, text_column=names[0]) == ("text", "class")  # the one that was named, by itself


def test_a_pair_is_what_its_flags_name():
    data = paired().rename(columns={"sentence1": "a", "sentence2": "b"})
    assert kinds(data, text_column="a", text_pair_column="b") == ("pair", "class")
    refused(data, "text_pair_column: there is no column 'c'", text_column="a", text_pair_column="c")
    data.loc[[3, 7], "b"] = None
    refused(
        data,
        "(2 with one text of the pair missing or empty): rows 3, 7 counted from 0",
        text_column="a",
        text_pair_column="b",
    )


def test_labels_in_three_forms(tmp_path):
    frame = labelled()
    task, lists = settled(frame)
    joined = frame.assign(labels=["|".join(row) for row in frame["labels"]])
    columns = frame[["text"]].assign(
        **{c: [int(c in row) for row in frame["labels"]] for c in ("red", "blue", "green")}
    )
    for data, flags in ((joined, {"label_separator": "|"}), (columns, {"label_columns": ("blue", "green", "red")})):
        other, splits = settled(data, **flags)
        assert other.output is LABELS is task.output
        assert splits.labels == lists.labels == ("blue", "green", "red")
        assert splits.train["label"][:] == lists.train["label"][:]
    columns.assign(label="another column").to_csv(tmp_path / "columns.csv", index=False)
    _, splits = settled(tmp_path / "columns.csv", label_columns=("blue", "green", "red"))
    assert splits.train["label"][:] == lists.train["label"][:]
    row = lists.train[0]
    assert [lists.labels[i] for i in np.flatnonzero(row["label"])] == frame["labels"][row["row"]]
    without = sum(not names for names in frame["labels"])  # of all rows: what is cut off comes later
    assert any(f"train split on average. Rows without any: {without}." in note for note in lists.warnings)


def test_labels_of_the_hub():
    feature = List(ClassLabel(names=["x", "y", "z"]))
    rows = {"text": [f"text {i}" for i in range(30)], "labels": [[i % 3] if i % 2 else [] for i in range(30)]}
    data = Dataset.from_dict(rows, features=Features({"text": Value("string"), "labels": feature}))
    assert settled(data)[1].labels == ("x", "y", "z")


def test_rare_labels_are_in_every_split():
    frame = labelled(200)
    for i in range(0, 200, 20):
        frame.at[i, "labels"] = ["rare"]
    splits = settled(frame)[1]
    place = splits.labels.index("rare")
    assert all(np.asarray(part["label"][:])[:, place].any() for part in (splits.train, splits.validation, splits.test))


def test_truth_values_of_label_columns():
    one = pd.Series([i % 2 for i in range(60)])
    for ticks in (one.astype(bool), one.astype(bool).astype(str), one.astype(bool).astype(str).str.upper()):
        frame = labelled()[["text"]].assign(a=ticks, b=1 - one)
        assert settled(frame, label_columns=("a", "b"))[1].labels == ("a", "b")


def test_one_column_is_no_pair():
    frame = text_frame(30).assign(other="x")
    refused(frame, "'text' cannot be both texts of a pair", text_column="text", text_pair_column="text")


def test_wrong_labels():
    frame = labelled()
    refused(frame, "holds lists", "multi-label", problem_type="single_label_classification")
    refused(text_frame(30), "lists are needed, or --label_separator", problem_type="multi_label_classification")
    refused(measured(), "different numbers with fractions (regression)", problem_type="single_label_classification")
    refused(text_frame(30), "a number for a row is asked for", problem_type="regression")
    refused(text_frame(30), "--label_separator ';' occurs in no label", label_separator=";")
    columns = frame[["text"]].assign(a=0, b=1)
    refused(columns, "has no column 'bb'", "Did you mean 'b'?", label_columns=("a", "bb"))
    refused(columns.assign(b=[7] + [1] * 59), "the column 'b' holds 7 in 1 row", label_columns=("a", "b"))
    refused(columns, "one for each label is needed", label_columns=("a",))
    refused(columns, "only the label 'b'", label_columns=("a", "b"))
    refused(frame.assign(labels=[[["a"]]] * 60), "holds no names")


def test_numbers_that_are_none():
    frame = measured()
    frame.loc[[2, 5], "score"] = float("nan")
    refused(frame, "(2 without a finite number): rows 2, 5 counted from 0")
    refused(measured().assign(score=3.25), "the same number", problem_type="regression")


@pytest.mark.parametrize("value", ["0", "1", "1.2", "-0.5", "many", "nan"])
def test_thresholds_outside_of_0_to_1(value):
    with pytest.raises(ConfigError, match="--thresholds is auto or a number between 0 and 1"):
        build_config(TEXT, {"data": "x.csv", "thresholds": value})


def test_rows_to_evaluate():
    labels = load_rows("text", DataConfig(data=labelled()), ("red", "green", "blue"), LABELS)
    assert labels.labels.shape == (60, 3)
    with pytest.raises(DataError, match="labels that the model does not know: 'green'"):
        load_rows("text", DataConfig(data=labelled()), ("red", "blue"), LABELS)
    number = get_task(TEXT, "regression").output
    assert load_rows("text", DataConfig(data=measured()), ("score",), number).labels.dtype == np.float64


def test_the_task_is_found(tmp_path):
    assert find_task(DataConfig(data=text_frame(20))) == TEXT
    assert find_task(DataConfig(data=paired())) == TEXT
    assert find_task(DataConfig(data="sample:digits")) == "image-classification"
    assert find_task(DataConfig(data=str(tiny_images(tmp_path / "images")))) == "image-classification"
    spans = [{"text": f"Ada is {i}", "entities": [{"start": 0, "end": 3, "label": "PER"}]} for i in range(9)]
    (tmp_path / "spans.jsonl").write_text("\n".join(map(json.dumps, spans)))
    assert find_task(DataConfig(data=str(tmp_path / "spans.jsonl"))) == "token-classification"
    with pytest.raises(DataError, match="column found"):
        find_task(DataConfig(data=pd.DataFrame({"a": [1, 2], "b": [3, 4]})))


@pytest.mark.parametrize(
    "written",
    [
        lambda names: str(names),  # pandas' to_csv of a column of lists
        lambda names: json.dumps(names),
        lambda names: str(np.array(names, dtype=object)),
    ],
)
def test_lists_that_a_csv_holds_as_text_are_lists(written, tmp_path):
    frame = labelled()
    expected = settled(frame)[1]
    frame.assign(labels=[written(list(names)) for names in frame["labels"]]).to_csv(tmp_path / "d.csv", index=False)
    task, splits = settled(tmp_path / "d.csv")
    assert (task.output.link, splits.labels) == ("sigmoid", expected.labels)
    assert list(splits.train["label"]) == list(expected.train["label"])


@pytest.mark.parametrize("kind", [int, float, bool])
def test_a_0_or_1_for_each_label_is_no_name(kind):
    rows = [[i % 2, i % 3 == 0, 1] for i in range(60)]
    frame = pd.DataFrame(
        {"text": [f"text {i}" for i in range(60)], "labels": [[kind(x) for x in row] for row in rows]}
    )
    task, splits = settled(frame)
    assert (task.output.link, splits.labels) == ("sigmoid", ("LABEL_0", "LABEL_1", "LABEL_2"))


def test_names_in_brackets_are_classes():
    frame = pd.DataFrame(
        {"text": [f"text {i}" for i in range(60)], "label": [("[urgent]", "[later]")[i % 2] for i in range(60)]}
    )
    assert settled(frame)[1].labels == ("[later]", "[urgent]")
