"""Every fault of the data is one line that names the cause and the mend."""

import socket
import time
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hftl.config import DataConfig
from hftl.data.images import decode_image
from hftl.data.load import load_rows, load_splits
from hftl.errors import DataError


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def refused(data, *words: str, column="text", labels=..., **options) -> str:
    """Check that loading fails with one DataError line that holds the words."""
    config = DataConfig(data=data, **options)
    with pytest.raises(DataError) as caught:
        load_splits(column, config) if labels is ... else load_rows(column, config, labels)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "Traceback" not in message
    assert len(message) < 700
    for word in words:
        assert word in message
    return message


def table(**columns) -> pd.DataFrame:
    base = {"text": [f"text number {i}" for i in range(20)], "label": ["a", "b"] * 10}
    return pd.DataFrame({key: value for key, value in {**base, **columns}.items() if value is not None})


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def image_folder(root: Path, classes=("cat", "dog"), count: int = 4) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            PILImage.new("RGB", (4, 4), (i, i, i)).save(root / name / f"{i}.png")
    return root


# Sources


@pytest.mark.parametrize("name", ["reveiws.csv", "./reveiws.csv", "sub/reveiws.csv"])
def test_no_such_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "reviews.csv").touch()
    refused(name, "no such file", name, "Did you mean 'reviews.csv'?")
    refused("nowhere/reviews.csv", "no such file", "no folder 'nowhere'")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "", ("x.csv is empty",)),
        ("x.csv", "text,label\n", ("is empty", "no rows")),
        ("x.jsonl", "\n", ("is empty",)),
        ("x.csv", b"PK\3\4 and more", ("no text file, but zip or Excel data", "CSV, TSV")),
        ("x.csv", bytes(range(1, 32)), ("no text file, but binary data",)),
        ("x.csv", "text,label\na,b\nc,d,e\n", ("cannot be parsed", "line 3")),
        ("x.csv", "text,label\na,b,c\nd,e,f\n", ("cannot be parsed",)),
        ("x.csv", 'text,label\n"a,b\n', ("cannot be parsed", "EOF")),
        ("x.jsonl", '{"text": "a", "label": 1}\n{"text": \n', ("cannot be parsed", "line 2", '{"text":')),
        ("x.json", '{"text": ', ("cannot be parsed",)),
        ("x.json", "[1, 2]", ("list of records",)),
        ("x.json", '[{"text": 1}, {"text": "a"}]', ("'text'", "int, str", "one kind")),
        ("x.parquet", "not parquet", ("cannot be parsed",)),
        ("x.csv", "text,label\n\u043d\u0435\u0442,a\n".encode("cp1251"), ("UTF-8",)),
        ("x.csv", "text,label\nna\xefve,a\n".encode("latin-1"), ("UTF-8",)),
        ("x.xlsx", "a", (".xlsx", "CSV, TSV, JSON, JSONL or parquet")),
        ("x.csv", "text,text,label\n", ("two columns called 'text'",)),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, words):
    refused(written(tmp_path / name, content), *words)


def test_folders_that_cannot_be_read(tmp_path):
    refused(tmp_path, "holds no files of data", "CSV")
    refused(tmp_path, "holds no images", column="image")
    written(tmp_path / "one.csv", "text,label\n")
    written(tmp_path / "two.csv", "text,label\n")
    refused(tmp_path, "one.csv, two.csv", "Name one 'train'")
    (tmp_path / "one.csv").rename(tmp_path / "test.csv")
    refused(tmp_path, "no train split", "its splits are: test", "Call one 'train'")
    written(tmp_path / "train.csv", "text,label\na,b\n")
    written(tmp_path / "train.jsonl", '{"text": "a", "label": "b"}')
    refused(tmp_path, "train in two formats", "train.csv, train.jsonl", "keep one")


def test_shards_that_do_not_go_together(tmp_path):
    written(tmp_path / "train-0.jsonl", '{"text": "a", "label": "b"}')
    written(tmp_path / "train-1.jsonl", '{"text": "a", "label": 1}')
    refused(tmp_path, "2 files of train", "different columns")


@pytest.mark.parametrize("data", [None, 3, "", ("a",)])
def test_things_that_are_no_data(data):
    refused(data, "give a path", "Hub id")


def test_a_stream_is_refused():
    refused(Dataset.from_pandas(table()).to_iterable_dataset(), "streaming=True")


@pytest.mark.parametrize("name", ["ag_news", "some/set:config@main", "glue:sst2"])
@pytest.mark.parametrize("offline", [True, False])
def test_the_hub_out_of_reach_is_told_at_once(monkeypatch, tmp_path, name, offline):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)

    def no_network(*args, **kwargs):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "create_connection", no_network)
    start = time.monotonic()
    refused(name, name, "cannot be reached", "a file", "folder", "'sample:'")
    assert time.monotonic() - start < 2
    assert huggingface_hub.constants.HF_HUB_OFFLINE is offline


def test_a_mistyped_folder_beside_a_real_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "reviews").mkdir()
    refused("reveiws", "Did you mean 'reviews'?")
    refused("two words", "not a Hub id either")


# Columns


def test_no_label_column():
    refused(
        table(label=None, a=["x"] * 20, b=["y"] * 20), "no label column", "text (string), a (string)", "--label-column"
    )
    refused(table(label=None), "no label column", labels=["a"])


def test_wrong_overrides():
    refused(table(), "no column 'txet'", "text (string)", "Did you mean 'text'?", text_column="txet")
    refused(table(), "no column 'lable'", "Did you mean 'label'?", label_column="lable")
    refused(table(), "no column 'imag'", column="image", image_column="imag")
    refused(table(), "cannot be both", text_column="label", label_column="label")


def test_the_other_kind_of_data():
    refused(table(), "no image column", "text (string)", "text-classification", column="image")
    picture = [{"bytes": b"x", "path": None}] * 4
    images = Dataset.from_dict(
        {"image": picture, "label": ["a", "b"] * 2},
        features=Features({"image": Image(decode=False), "label": Value("string")}),
    )
    refused(images, "no text column", "image (image)", "image-classification")


def test_an_image_folder_for_a_text_task_and_the_reverse(tmp_path):
    refused(image_folder(tmp_path / "x"), "holds images, not text", "image-classification")
    (tmp_path / "y").mkdir()
    table().to_csv(tmp_path / "y" / "train.csv", index=False)
    refused(tmp_path / "y", "no image column", "text-classification", column="image")


def test_texts_that_are_none():
    refused(table(text=range(20)), "'text'", "int64", "not text", "--text-column")
    refused(table(text=[str(i / 3) for i in range(20)]), "'text' holds numbers", "--text-column")
    refused(table(text=[["a", "b"]] * 20), "'text' holds list values")
    refused(table(text=[None] * 20), "20 of 20 rows cannot be used (20 without text)", "No row of train is left")
    texts = table()["text"].tolist()
    texts[3], texts[7], texts[9] = None, "", " \n"
    refused(table(text=texts), "3 of 20 rows cannot be used (1 without text, 2 empty): rows 3, 7, 9 counted from 0.")
    assert load_rows("text", DataConfig(data=table(text=texts)), None).numbers.tolist() == sorted(
        {*range(20)} - {3, 7, 9}
    )


# Labels


@pytest.mark.parametrize("missing", [None, "", float("nan")])
def test_missing_labels(missing):
    labels = table()["label"].tolist()
    labels[4] = labels[11] = missing
    refused(table(label=labels), "2 of 20 rows cannot be used (2 without label): rows 4, 11 counted from 0.")
    refused(table(label=labels), "(2 without label)", "--skip_bad_rows", labels=["a", "b"])


def test_labels_that_name_no_class():
    refused(table(label=["a"] * 20), "one class ('a')", "two are needed")
    many = pd.DataFrame({"text": [f"text {i}" for i in range(24)], "label": [i / 4 for i in range(24)]})
    refused(many, "24 different numbers with fractions (regression)", "--problem_type")
    refused(table(label=[["a", "b"]] * 20), "lists", "multi-label", "--problem_type")
    refused(table(label=[None] * 20), "no labelled rows")


def test_classes_of_one_row():
    refused(table(label=["a", "b", "c"] + ["a", "b", "b"] * 5 + ["a", "b"]), "1 of 3 classes", "single row", "'c'")
    refused(table(label=[f"id{i}" for i in range(20)]), "20 of 20 classes", "right column", "--label-column")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_class_that_train_lacks(split):
    other = Dataset.from_pandas(table(label=["a", "B"] * 10))
    data = DatasetDict({"train": Dataset.from_pandas(table()), split: other})
    refused(data, f"{split} holds the class 'B' (10 rows)", "train lacks", "add such rows")


def test_a_split_without_the_text():
    other = Dataset.from_pandas(table().rename(columns={"text": "body"}))
    refused(DatasetDict(train=Dataset.from_pandas(table()), test=other), "test has no column 'text'", "body, label")


def test_labels_that_the_model_does_not_know():
    refused(table(), "'b' (10 rows)", "does not know", "it knows 'a', 'bb'", labels=["a", "bb"])


def test_limits_that_are_too_low():
    refused(table(), "max_train_samples is 1", "2 classes", max_train_samples=1)
    refused(table(), "max_eval_samples is 0", max_eval_samples=0)


def test_too_few_rows_to_cut():
    data = table().iloc[:4]
    refused(DatasetDict(train=Dataset.from_pandas(data.iloc[:2])), "single row")
    assert len(load_splits("text", DataConfig(data=data)).train) == 2


# Images


def test_image_folders_that_lack_something(tmp_path):
    root = image_folder(tmp_path / "x")
    (root / "bird").mkdir()
    refused(root, "no images in the class folder 'bird'", "fill or remove", column="image")
    (tmp_path / "y").mkdir()
    PILImage.new("L", (2, 2)).save(tmp_path / "y" / "a.png")
    refused(tmp_path / "y", "no label column", column="image")
    image_folder(tmp_path / "z" / "train")
    image_folder(tmp_path / "z" / "test", ("cat", "bird"))
    refused(tmp_path / "z", "test holds the class 'bird' (4 rows)", column="image")


def test_broken_images(tmp_path):
    root = image_folder(tmp_path / "x")
    written(root / "dog" / "2.png", b"nothing")
    message = refused(root, "broken image", "2.png", "unknown format", "strict off", column="image", strict=True)
    assert message.count(":") >= 1
    assert len(load_splits("image", DataConfig(data=root)).skipped) == 1
    for path in root.rglob("*.png"):
        written(path, b"nothing")
    refused(root, "none of the 8 images", "the first", column="image")


def test_images_that_a_table_names_but_that_are_not_there(tmp_path):
    data = pd.DataFrame({"image": ["a.png", "b.png"] * 2, "label": ["a", "b"] * 2})
    data.to_csv(tmp_path / "x.csv", index=False)
    refused(tmp_path / "x.csv", "none of the 4 images", "a.png", "no such file", column="image")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"GIF89a",
        "nowhere.png",
        None,
        3,
        {"bytes": None, "path": None},
        {"bytes": b"\x89PNG\r\n\x1a\n", "path": None},
    ],
)
def test_decoding_fails_with_one_clear_line(value):
    with pytest.raises(OSError, match=r"^.+$") as caught:
        decode_image(value)
    assert len(str(caught.value).splitlines()) == 1
    assert "object at 0x" not in str(caught.value)


def test_truncated_and_oversized_images(tmp_path, monkeypatch):
    noise = PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "bmp"):
        path = tmp_path / f"x.{suffix}"
        noise.save(path)
        written(path, path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(OSError, match="truncated"):
            decode_image(path)
    noise.save(tmp_path / "big.png")
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match="limit of"):
        decode_image(tmp_path / "big.png")


# Real sets of other tasks


@pytest.mark.parametrize(("name", "words"), [("nlupp_multilabel", "several labels for a row"), ("wnut17", "")])
def test_real_sets_of_other_tasks(name, words):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    refused(SHARED / name, words)
