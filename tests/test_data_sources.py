"""Every kind of source of texts becomes the same splits."""

import json

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict, Features, Value

from hftl.data.sources import read_file, read_source
from hftl.data.splits import recognise_splits
from tests.small_data import all_rows, frame, load, write


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_splits(tmp_path, suffix):
    splits = load(write(frame(), tmp_path / f"rows{suffix}"))
    expected = load(frame())
    assert splits.train.column_names == ["text", "label", "row"]
    assert splits.train.features == Features({"text": Value("string"), "label": Value("int64"), "row": Value("int64")})
    assert splits.train[:] == expected.train[:]
    assert splits.test[:] == expected.test[:]
    assert splits.labels == ("c0", "c1")
    assert splits.name == f"rows{suffix}"
    assert all_rows(splits) == list(range(40))
    assert (len(splits.test), len(splits.validation), len(splits.train)) == (8, 3, 29)
    assert splits.origins["validation"] == "cut from train: 10%, stratified, seed 42"
    assert splits.origins["test"] == "cut from train: 20%, stratified, seed 42"


def test_objects_are_read_as_they_are():
    table = Dataset.from_pandas(frame())
    assert load(table).train[:] == load(frame()).train[:]
    splits = load(DatasetDict(train=table, test=table.select(range(4)), unlabelled=table.select(range(9))))
    assert splits.test["row"][:] == [0, 1, 2, 3]
    assert splits.origins["test"] == "the source's test split"
    assert splits.whole == {"test": "test"}
    assert load(DatasetDict(train=table, test=table), max_eval_samples=4).whole == {}
    assert len(splits.train) + len(splits.validation) == 40
    indexed = load(table.select(range(20, 40)))
    assert all_rows(indexed) == list(range(20))


def test_cells_of_a_csv_file_stay_as_written(tmp_path):
    path = tmp_path / "x.csv"
    texts = ["NA", "None", "null", " nan ", 'a "quoted", comma', "two\nlines", "007", "1.50"]
    pd.DataFrame({"text": texts * 2, "label": ["NA", "None"] * 8}).to_csv(path, index=False)
    splits = load(path)
    found = dict(zip(*(splits.train[:][key] for key in ("row", "text")), strict=True))
    assert all(text == (texts * 2)[row] for row, text in found.items())
    assert splits.labels == ("NA", "None")


def test_csv_with_semicolons_and_byte_order_mark(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("Text;Label\n" + "".join(f"hi, {i};{i % 2}\n" for i in range(20)), encoding="utf-8-sig")
    splits = load(path)
    assert splits.labels == ("0", "1")
    assert splits.train[0]["text"].startswith("hi, ")


@pytest.mark.parametrize("separator", ["\t", "|", ";"])
def test_separators_of_csv_files(tmp_path, separator):
    path = tmp_path / "x.csv"
    frame(12).to_csv(path, index=False, sep=separator)
    assert load(path).train[:] == load(frame(12)).train[:]


def test_json_shapes(tmp_path):
    records = frame(12).to_dict("records")
    expected = load(frame(12)).train[:]
    for content in (records, {"data": records}, frame(12).to_dict("list")):
        path = tmp_path / "x.json"
        path.write_text(json.dumps(content))
        assert load(path).train[:] == expected
    path.write_text("\n".join(map(json.dumps, records)))
    assert load(path).train[:] == expected


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train.csv", "dev.csv", "test.csv"),
        ("training.jsonl", "valid.jsonl", "eval.jsonl"),
        ("reviews_train.parquet", "reviews-val.parquet", "reviews.test.parquet"),
        ("data/train.csv", "data/validation.csv", "data/test.csv"),
        ("train/a.csv", "val/a.csv", "test/a.csv"),
    ],
)
def test_folder_of_split_files(tmp_path, train, validation, test):
    for name, rows in ((train, 20), (validation, 6), (test, 8)):
        write(frame(rows), tmp_path / name)
    (tmp_path / "meta.json").write_text("{}")
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 6, 8)
    assert splits.name == tmp_path.name


def test_shards_are_joined_in_order(tmp_path):
    write(frame(20).iloc[:12], tmp_path / "train-00000-of-00002.parquet")
    write(frame(20).iloc[12:], tmp_path / "train-00001-of-00002.parquet")
    write(frame(6), tmp_path / "test-00000-of-00001.parquet")
    splits = load(tmp_path)
    assert all(row["text"] == f"the text number {row['row']}" for row in splits.train)
    assert len(splits.test) == 6


def test_a_saved_dataset(tmp_path):
    DatasetDict(train=Dataset.from_pandas(frame(20)), test=Dataset.from_pandas(frame(6))).save_to_disk(tmp_path / "d")
    assert len(load(tmp_path / "d").test) == 6


def test_sample_names(monkeypatch):
    made = lambda name: DatasetDict(train=Dataset.from_pandas(frame(20)), test=frame_of(name))  # noqa: E731
    monkeypatch.setattr("hftl.data.sources.load_sample", made)
    splits = load("sample:cards")
    assert splits.name == "sample:cards"
    assert splits.test["text"][:] == ["sample:cards"] * 2


def frame_of(name: str) -> Dataset:
    return Dataset.from_dict({"text": [name, name], "label": ["c0", "c1"]})


@pytest.mark.parametrize(
    ("name", "config", "revision"),
    [
        ("ag_news", None, None),
        ("org/set:config@v1.2", "config", "v1.2"),
        ("org/set-v1.5@refs/convert", None, "refs/convert"),
    ],
)
def test_hub_ids(monkeypatch, tmp_path, name, config, revision):
    calls = []

    def load_dataset(*args, **options):
        calls.append((*args, options))
        return DatasetDict(train=Dataset.from_pandas(frame(20)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hftl.data.sources.hub_reachable", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert load(name).name == name
    assert calls == [(name.partition(":")[0].partition("@")[0], config, {"revision": revision})]
    if "/" not in name:  # what exists as a path wins
        write(frame(30), tmp_path / name / "train.csv")
        assert len(all_rows(load(name))) == 30


def test_split_names():
    assert recognise_splits(["train", "eval"]) == {"train": "train", "test": "eval"}
    assert recognise_splits(["train", "eval", "test"]) == {"train": "train", "test": "test", "validation": "eval"}
    assert recognise_splits(["train", "validation_matched", "unsupervised"])["validation"] == "validation_matched"
    assert recognise_splits(["anything"]) == {"train": "anything"}
    assert recognise_splits(["test"]) == {"test": "test"}


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("orient", ["columns", "index", "split", "records", "table", "lines"])
def test_what_pandas_writes_as_json(tmp_path, orient, rows):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(rows)], "label": [*"aabbb", *"ab" * rows][:rows]})
    how = {"orient": "records", "lines": True} if orient == "lines" else {"orient": orient}
    frame.to_json(tmp_path / "x.json", **how)
    table = read_source(tmp_path / "x.json", "text").tables["train"]
    assert table.select_columns(["text", "label"]).to_list() == frame.to_dict("records")


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ('text\na\n""\n  \nb\n', ["a", None, "  ", "b"]),
        ("text\na\n\nb\n\n\n", ["a", None, "b"]),
        ("\n\ntext\na\n", ["a"]),
        ("text\n\n\n", []),
        ("text,label\na,b\n\nc,d\n", ["a", "c"]),
    ],
)
def test_an_only_column_keeps_its_empty_rows(tmp_path, written, texts):
    (tmp_path / "x.csv").write_text(written)
    assert list(read_file(tmp_path / "x.csv")["text"]) == texts
