"""How rows become splits: labels, columns, cuts, samples, and rows to predict and evaluate."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hftl.config import DataConfig
from hftl.data.load import load_rows
from hftl.data.splits import allocate, cut, sample
from tests.small_data import all_rows, frame, load, write


# Labels and columns


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a"], ("a", "b")),
        ([10, 9, 2], ("2", "9", "10")),
        ([True, False], ("False", "True")),
        ([1.0, 0.0], ("0", "1")),
        (["10", "9", "-1"], ("-1", "9", "10")),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", None])
def test_kinds_of_labels(tmp_path, values, labels, suffix):
    table = pd.DataFrame({"text": [f"text {i}" for i in range(30)], "label": (values * 30)[:30]})
    splits = load(write(table, tmp_path / f"x{suffix}") if suffix else table)
    assert splits.labels == labels
    for row in splits.train:
        value = table["label"][row["row"]]
        assert splits.labels[row["label"]] == str(int(value) if isinstance(value, float) else value)


def test_class_label_keeps_its_order_and_drops_what_is_unused():
    table = Dataset.from_dict({"text": [f"t {i}" for i in range(20)], "label": [i % 2 * 2 for i in range(20)]})
    splits = load(table.cast_column("label", ClassLabel(names=["zebra", "unused", "ant"])))
    assert splits.labels == ("zebra", "ant")
    assert "'unused'" in splits.warnings[0]
    assert all(row["label"] == row["row"] % 2 for row in splits.train)


def test_a_test_split_without_labels_is_cut_instead():
    table = Dataset.from_pandas(frame()).class_encode_column("label")
    hidden = Dataset.from_dict({"text": ["a", "b"], "label": [-1, -1]}, features=table.features)
    splits = load(DatasetDict(train=table, test=hidden))
    assert splits.origins["test"].startswith("cut from train")
    assert "no labels" in splits.warnings[0]


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"Sentence": "s", "Label": "l"}, "Sentence", "Label"),
        ({"id": "i", "remark": "s", "intent": "l"}, "remark", "intent"),
        ({"summary": "s", "topic": "l", "title": "i"}, "summary", "topic"),
        ({"foo": "s", "bar": "l"}, None, "bar"),
    ],
)
def test_columns_are_found(columns, text, label):
    values = {
        "s": [f"a fairly long text {i}" for i in range(20)],
        "l": list("ab") * 10,
        "i": [f"{i}" for i in range(20)],
    }
    table = pd.DataFrame({name: values[kind] for name, kind in columns.items()})
    options = {} if text else {"text_column": "foo", "label_column": "bar"}
    splits = load(table, **options)
    assert splits.labels == ("a", "b")
    assert splits.train[0]["text"].startswith("a fairly long")


# Cuts and samples


def test_cuts_are_stratified_and_seeded():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    kept, taken = cut(labels, 3, 0.2, seed=1)
    assert np.bincount(labels[taken]).tolist() == [14, 4, 2]
    assert sorted([*kept, *taken]) == list(range(100))
    assert (cut(labels, 3, 0.2, seed=1)[1] == taken).all()
    assert (cut(labels, 3, 0.2, seed=2)[1] != taken).any()


def test_a_cut_table_is_in_one_piece():
    """Not in a piece for every row, which makes each later read of it slow."""
    splits = load(frame(60, 2))
    assert [table.data.column("text").num_chunks for table in (splits.train, splits.validation, splits.test)] == [
        1
    ] * 3


@pytest.mark.parametrize("classes", [2, 7, 77])
@pytest.mark.parametrize("each", [2, 3])
def test_few_rows_and_many_classes_leave_every_class_in_train(classes, each):
    splits = load(frame(classes * each, classes))
    assert len(splits.labels) == classes
    assert set(splits.train["label"][:]) == set(range(classes))
    assert len(splits.test) >= 1
    assert len(splits.validation) >= 1
    assert all_rows(splits) == list(range(classes * each))


def test_allocation_is_exact_fair_and_within_bounds():
    rng = np.random.default_rng(0)
    for seed in range(200):
        counts = rng.integers(1, 40, rng.integers(2, 12))
        low, high = np.minimum(counts, 1), counts
        total = int(rng.integers(len(counts), counts.sum() + 1))
        quota = allocate(counts, total, low, high, seed)
        assert quota.sum() == total
        assert ((quota >= low) & (quota <= high)).all()
        unbounded = allocate(counts, total, 0 * counts, high, seed)
        assert (np.abs(unbounded - counts * total / counts.sum()) < 1).all()


def test_a_sorted_file_is_sampled_from_everywhere():
    table = frame(200, 4).sort_values("label", ignore_index=True)
    splits = load(table, max_train_samples=20, max_eval_samples=8)
    assert Counter(splits.train["label"][:]) == dict.fromkeys(range(4), 5)
    assert Counter(splits.test["label"][:]) == dict.fromkeys(range(4), 2)
    assert len(splits.validation) == 8
    assert "20 of 144 rows, stratified, seed 42" in splits.origins["train"]
    assert splits.train[:] == load(table, max_train_samples=20, max_eval_samples=8).train[:]
    assert splits.train["row"][:] != load(table, max_train_samples=20, seed=7).train["row"][:]
    # The limits come after the cuts: they do not change which rows are tested on.
    assert set(splits.test["row"][:]) <= set(load(table).test["row"][:])


def test_a_sample_keeps_rare_classes():
    labels = np.repeat([0, 1, 2], [500, 2, 2])
    chosen = sample(labels, 3, 10, seed=0, every_class=True)
    assert np.bincount(labels[chosen]).tolist() == [8, 1, 1]
    assert len(sample(labels, 3, 10_000, seed=0, every_class=True)) == 504


def test_sizes_of_cuts_can_be_set():
    splits = load(frame(100), test_size=0.5, validation_size=0.2)
    assert (len(splits.test), len(splits.validation), len(splits.train)) == (50, 10, 40)


# Rows to predict and evaluate


def test_rows_to_predict_keep_every_column(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,sentence,note\n007,NA,a\n008,42,\n")
    rows = load_rows("text", DataConfig(data=path), None)
    assert rows.labels is None
    assert rows.table[:] == {
        "id": ["007", "008"],
        "sentence": ["NA", "42"],
        "note": ["a", None],
    }
    assert rows.inputs[:] == {"text": ["NA", "42"]}


def test_rows_to_evaluate_take_the_models_order_and_the_test_split(tmp_path):
    write(frame(20), tmp_path / "train.csv")
    write(frame(6), tmp_path / "test.csv")
    rows = load_rows("text", DataConfig(data=tmp_path), ["c1", "other", "c0"])
    assert rows.labels.tolist() == [2, 0] * 3
    assert rows.inputs["text"][:] == frame(6)["text"].tolist()


def test_a_text_column_of_another_name_does_not_clobber_text():
    table = pd.DataFrame({"text": ["short"], "body": ["the real one"]})
    rows = load_rows("text", DataConfig(data=table, text_column="body"), None)
    assert rows.table[0] == {"text": "short", "body": "the real one"}
    assert rows.inputs[0] == {"text": "the real one"}
