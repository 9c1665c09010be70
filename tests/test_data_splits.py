"""How rows become splits: labels, columns, cuts, samples, and rows to predict and evaluate."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hftl.config import DataConfig, build_config
from hftl.data.load import load_rows, load_splits, load_task
from hftl.data.splits import allocate, cut, sample
from hftl.errors import DataError
from hftl.tasks.outputs.number import NUMBER
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


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        ("${},{:03d}.50", 1000.5),
        ("{}.{:03d},25 €", 1000.25),
        ("{} {:03d},5", 1000.5),
        ("-{}{:03d}.5%", -1000.5),
        ("{}'{:03d}.5", 1000.5),
        ("{}{:03d},5", None),  # a comma alone may be a list: asked for below
    ],
)
def test_numbers_as_people_write_them(cells, first):
    rows = [{"text": f"text {i}", "price": cells.format(i // 50 + 1, i % 50)} for i in range(200)]
    config = build_config("text-classification", {"data": rows}).data
    if first is not None:
        task, splits = load_task("text-classification", config)
        assert task.output.problem_type == "regression"
        where = [*splits.train["row"]].index(0) if 0 in splits.train["row"] else None
        assert where is None or splits.train["label"][where] == first
        assert min(map(abs, splits.train["label"])) >= 1000
        assert any("Numbers were read from text (price)" in line for line in splits.readings)
    else:
        with pytest.raises(DataError, match="--problem_type regression"):
            load_task("text-classification", config)
    splits = load_task("text-classification", replace(config, problem_type="regression"))[1]
    assert len({*map(abs, splits.train["label"]), *map(abs, splits.test["label"])}) > 150
    labelled = [{"text": "a", "label": cells.format(1, 7)}, {"text": "b", "label": cells.format(1, 19)}]
    few = load_rows(
        "text", replace(config, data=labelled * 2), ("price",), NUMBER
    )  # one way to read them in few rows too
    assert abs(few.labels[1] - few.labels[0]) == 12


def test_numbers_that_can_be_read_in_two_ways_or_none():
    rows = [{"text": f"text {i}", "price": f"{i // 50 + 1},{i % 50:03d}"} for i in range(200)]
    asked = build_config("text-classification", {"data": rows, "problem_type": "regression"}).data
    with pytest.raises(DataError, match="two ways: '1,000' is 1000 or 1"):
        load_task("text-classification", asked)
    rated = [{"text": f"text {i}", "rating": f"{i % 21},000"} for i in range(64)]
    with pytest.raises(
        DataError, match=r"1 of 21 classes has a single row.* To learn a number: --problem_type regression"
    ):
        load_splits("text", build_config("text-classification", {"data": rated[:20] * 4 + rated[20:21]}).data)
    rows[7]["price"] = "1,007.0"
    assert max(load_task("text-classification", asked)[1].train["label"]) > 4000
    rows[7]["price"] = "about 7"
    with pytest.raises(DataError, match="holds 'about 7', and a number for a row is asked for"):
        load_task("text-classification", asked)
    few = [{"text": f"text {i}", "label": f"${i % 3 + 1}.50"} for i in range(60)]
    assert load_splits("text", build_config("text-classification", {"data": few}).data).labels == (
        "$1.50",
        "$2.50",
        "$3.50",
    )


def test_labels_that_look_like_lists_are_told():
    names = ["red", "blue", "green", "white"]
    rows = [{"text": f"text {i}", "label": ", ".join(sorted({names[i % 4], names[i // 4 % 4]}))} for i in range(160)]
    config = build_config("text-classification", {"data": rows}).data
    splits = load_splits("text", config)
    assert any("--label_separator ','" in line for line in splits.readings)
    rows.append({"text": "once", "label": "red, blue, white"})
    with pytest.raises(DataError, match="lists of labels: --label_separator ','"):
        load_splits("text", config)
    plain = [{"text": f"text {i}", "label": ["Arts, Crafts", "Food, Drink", "Toys"][i % 3]} for i in range(60)]
    assert not load_splits("text", build_config("text-classification", {"data": plain}).data).readings


def test_numbers_that_differ_by_less_than_a_model_can_say():
    rows = [{"text": f"text {i}", "when": 1.7e9 + 1.5 * i} for i in range(100)]
    with pytest.raises(DataError, match=r"near 1,700,000,000 and differ by 43 .*subtract 1,700,000,000 from all"):
        load_task("text-classification", build_config("text-classification", {"data": rows}).data)
    wide = [{"text": f"text {i}", "when": 1.7e9 + 51.5 * i} for i in range(100)]
    assert load_task("text-classification", build_config("text-classification", {"data": wide}).data)
