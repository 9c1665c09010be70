"""Every kind of source becomes the same splits: kinds of files and labels, cuts, samples, images."""

import io
import json
import sys
import types
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage
from transformers.image_utils import load_image

from hftl.config import DataConfig
from hftl.data.images import decode_image, is_sixteen_bit
from hftl.data.load import load_rows, load_splits
from hftl.data.splits import allocate, cut, recognise_splits, sample


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def frame(rows: int = 40, classes: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": [f"the text number {i}" for i in range(rows)], "label": [f"c{i % classes}" for i in range(rows)]}
    )


def load(data, column="text", **options):
    return load_splits(column, DataConfig(data=data, **options))


def write(table: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=path.suffix == ".jsonl")
    return path


def picture(seed: int = 0, size: int = 8) -> PILImage.Image:
    return PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def image_folder(root: Path, classes=("cat", "dog"), count: int = 6) -> Path:
    for position, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(position * 100 + i).save(root / name / f"{i}.png")
    return root


def all_rows(splits) -> list[int]:
    return sorted(splits.train["row"][:] + splits.validation["row"][:] + splits.test["row"][:])


# Sources of text


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
    samples = types.ModuleType("hftl.data.samples")
    samples.load_sample = lambda name: DatasetDict(train=Dataset.from_pandas(frame(20)), test=frame_of(name))
    monkeypatch.setitem(sys.modules, "hftl.data.samples", samples)
    splits = load("sample:cards")
    assert splits.name == "sample:cards"
    assert splits.test["text"][:] == ["cards", "cards"]


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
        "text": ["NA", "42"],
    }


def test_rows_to_evaluate_take_the_models_order_and_the_test_split(tmp_path):
    write(frame(20), tmp_path / "train.csv")
    write(frame(6), tmp_path / "test.csv")
    rows = load_rows("text", DataConfig(data=tmp_path), ["c1", "other", "c0"])
    assert rows.labels == [2, 0] * 3
    assert rows.table["text"][:] == frame(6)["text"].tolist()


def test_a_text_column_of_another_name_does_not_clobber_text():
    table = pd.DataFrame({"text": ["short"], "body": ["the real one"]})
    rows = load_rows("text", DataConfig(data=table, text_column="body"), None)
    assert rows.table[0] == {"original_text": "short", "body": "the real one", "text": "the real one"}


def test_unlabelled_images_can_be_predicted(tmp_path):
    picture().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    rows = load_rows("image", DataConfig(data=tmp_path), None)
    assert rows.table["file_name"][:] == ["a.png"]
    assert "b.jpg" in rows.skipped[0]
    assert len(load_rows("image", DataConfig(data=tmp_path / "a.png"), None).table) == 1


# Images


def test_image_folders(tmp_path):
    flat = load(image_folder(tmp_path / "flat"), "image")
    assert flat.labels == ("cat", "dog")
    assert flat.train.features["image"] == Image(decode=False)
    assert len(flat.train) + len(flat.validation) + len(flat.test) == 12
    for name in ("train", "val", "test"):
        image_folder(tmp_path / "split" / name, count=3)
    split = load(tmp_path / "split", "image")
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 6, 6)
    row = split.train[0]
    assert Path(row["image"]["path"]).parent.name == split.labels[row["label"]]


def test_classes_may_be_called_like_splits(tmp_path):
    assert load(image_folder(tmp_path / "x", ("test", "cat")), "image").labels == ("cat", "test")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_image_folder_with_metadata(tmp_path, name):
    for i in range(12):
        picture(i).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in range(12)], "label": ["a", "b"] * 6})
    write(table, tmp_path / name)
    splits = load(tmp_path, "image")
    assert splits.labels == ("a", "b")
    for row in splits.train:
        assert (np.asarray(decode_image(row["image"])) == np.asarray(picture(row["row"]))).all()


def test_images_from_objects_paths_and_parquet(tmp_path):
    pictures = [picture(i) for i in range(12)]
    labels = ["a", "b"] * 6
    objects = Dataset.from_dict({"image": pictures, "label": labels})
    assert isinstance(objects.features["image"], Image)
    (tmp_path / "p").mkdir()
    for i, each in enumerate(pictures):
        each.save(tmp_path / "p" / f"{i}.png")
    objects.to_parquet(tmp_path / "x.parquet")
    paths = pd.DataFrame({"image_path": [f"p/{i}.png" for i in range(12)], "label": labels})
    for data in (
        objects,
        tmp_path / "x.parquet",
        write(paths, tmp_path / "paths.csv"),
        pd.DataFrame({"picture": pictures, "label": labels}),
        pd.DataFrame({"img": [(tmp_path / "p" / f"{i}.png").read_bytes() for i in range(12)], "label": labels}),
    ):
        splits = load(data, "image")
        assert len(splits.train) == 9
        for row in splits.train:
            assert (np.asarray(decode_image(row["image"])) == np.asarray(pictures[row["row"]])).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
def test_images_decode_as_transformers_does(tmp_path, mode, suffix):
    image = picture(3, 16).convert("L").convert(mode) if mode in ("I", "F") else picture(3, 16).convert(mode)
    path = tmp_path / f"x.{suffix}"
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            image.save(path)
        expected = np.asarray(load_image(str(path)))
    except (OSError, ValueError, KeyError):
        return  # the format lacks the mode
    for value in (path, str(path), {"bytes": None, "path": str(path)}, {"bytes": path.read_bytes(), "path": "x"}):
        decoded = decode_image(value)
        assert decoded.mode == "RGB"
        if not is_sixteen_bit(value):  # PNG stores "I" in 16 bits
            assert (np.asarray(decoded) == expected).all()
    if not is_sixteen_bit(image):
        assert (np.asarray(decode_image(image)) == np.asarray(load_image(image))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation):
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.jpg"
    picture(1, 16).crop((0, 0, 16, 8)).save(path, exif=exif)
    decoded = decode_image(path)
    assert decoded.size == ((16, 8) if orientation < 5 else (8, 16))
    assert (np.asarray(decoded) == np.asarray(load_image(str(path)))).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path, suffix):
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    path = tmp_path / f"x.{suffix}"
    PILImage.fromarray(pixels).save(path)
    assert is_sixteen_bit(path)
    assert (np.asarray(decode_image(path))[:, :, 0] == pixels // 257).all()
    assert np.asarray(load_image(str(path)))[1:].min() == 255  # what transformers makes of it: white
    deep = PILImage.fromarray(pixels.astype(np.int32))
    assert deep.mode == "I"
    assert is_sixteen_bit(deep)
    assert (np.asarray(decode_image(deep))[:, :, 1] == pixels // 257).all()
    assert not is_sixteen_bit(PILImage.fromarray((pixels // 257).astype(np.int32)))
    assert not is_sixteen_bit(picture())


def test_broken_images_are_left_out_and_named(tmp_path):
    root = image_folder(tmp_path / "x")
    whole = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "0.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "1.png").write_bytes(b"not an image")
    splits = load(root, "image")
    assert len(splits.skipped) == 2
    assert "0.png: " in splits.skipped[0]
    assert "unknown format" in splits.skipped[1]
    assert "2 broken images" in splits.warnings[0]
    assert all_rows(splits) == [row for row in range(12) if row not in (0, 7)]


@pytest.mark.parametrize("hidden", [True, False])
def test_progress_goes_to_stderr_where_someone_looks(hidden, capfd, monkeypatch):
    monkeypatch.setattr("hftl.progress.hide_bars", lambda: hidden)
    tiny = [{"bytes": b, "path": None} for b in [_png(picture(0, 2))] * 501]
    table = Dataset.from_dict(
        {"image": tiny, "label": ["a", "b"] * 250 + ["a"]},
        features=Features({"image": Image(decode=False), "label": Value("string")}),
    )
    load(table, "image")
    out, err = capfd.readouterr()
    assert not out
    assert ("checking images" in err) is not hidden


def _png(image: PILImage.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# Real sets


@pytest.mark.parametrize(
    ("name", "classes"), [("banking77", 77), ("clinc150", 151), ("medical_abstracts", 5), ("mr_polarity", 2)]
)
def test_real_texts(name, classes):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    splits = load(SHARED / name, max_train_samples=500, max_eval_samples=200)
    assert len(splits.labels) == classes
    assert len(splits.train) == 500
    assert splits.origins["test"].startswith("the source's test split")
    source = pd.read_parquet(SHARED / name / "train.parquet")
    for row in splits.train.select(range(20)):
        assert source["text"][row["row"]] == row["text"]
        assert source["label"][row["row"]] == splits.labels[row["label"]]


@pytest.mark.parametrize(("name", "classes"), [("trashnet", 6), ("sign_digits", 10), ("bccd_cells", 3)])
def test_real_images(name, classes, monkeypatch):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    # Decoding every image is what the other tests are about; here it would take most of the time.
    monkeypatch.setattr("hftl.data.images._fault", lambda value: None)
    splits = load(SHARED / name, "image", max_train_samples=60, max_eval_samples=30)
    assert len(splits.labels) == classes
    assert (len(splits.train), len(splits.test)) == (60, 30)
    decode_image(splits.train[0]["image"])
