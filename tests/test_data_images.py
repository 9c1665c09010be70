"""Images from folders, tables and objects: how they are found, decoded and checked."""

import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from transformers.image_utils import load_image

from hftl.config import DataConfig, build_config
from hftl.data.columns import as_rows
from hftl.data.images import decode_image, mode_and_size
from hftl.data.load import load_rows
from hftl.data.settle import find_task
from hftl.errors import DataError
from hftl.prepare import prepare
from hftl.tasks.inputs.image import DEEP
from tests.runs import checkpoint
from tests.small_data import all_rows, image_folder, load, picture, write


def test_unlabelled_images_can_be_predicted(tmp_path):
    picture().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    rows = load_rows("image", DataConfig(data=tmp_path), None)
    assert rows.table["file_name"][:] == ["a.png", "b.jpg"]
    assert rows.numbers.tolist() == [0]
    assert "b.jpg" in rows.skipped[0]
    assert len(load_rows("image", DataConfig(data=tmp_path / "a.png"), None).inputs) == 1


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
    image_folder(tmp_path / "archive" / "pets")  # an archive that holds one folder
    assert load(tmp_path / "archive", "image").labels == ("cat", "dog")


@pytest.mark.parametrize("ending", [".png", ""])
@pytest.mark.parametrize("home", ["", "images"])
def test_a_table_beside_the_images_says_their_labels(tmp_path, home, ending):
    folder = tmp_path / "scans"
    (folder / home).mkdir(parents=True)
    for i in range(12):
        picture(i).save(folder / home / f"{100 + i}.png")
    rows = [{"id": f"{100 + i}{ending}", "label": "ill" if i % 3 else "well", "age": i} for i in range(12)]
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    splits = load(folder, "image")
    assert splits.labels == ("ill", "well")
    for row in (*splits.train, *splits.validation, *splits.test):
        assert splits.labels[row["label"]] == ("ill" if (int(Path(row["image"]["path"]).stem) - 100) % 3 else "well")
    alone = load(folder / "labels.csv", "image", image_column="id")  # the table given by its name
    assert alone.train["image"][:] == splits.train["image"][:]
    assert find_task(DataConfig(data=str(folder / "labels.csv"))) == "image-classification"
    pd.DataFrame(rows)[["id", "label"]].set_axis(["id", "breed"], axis=1).to_csv(folder / "labels.csv", index=False)
    assert load(folder, "image").labels == ("ill", "well")  # the only other column
    elsewhere = [{**row, "id": f"C:\\scans\\{row['id']}"} for row in rows]
    pd.DataFrame(elsewhere).to_csv(folder / "labels.csv", index=False)
    assert load(folder / "labels.csv", "image").train["image"][:] == splits.train["image"][:]
    pd.DataFrame(rows).to_csv(folder / "more.csv", index=False)
    with pytest.raises(DataError, match=r"labels and more both name the images of .*: keep one"):
        load(folder, "image")


def test_tables_of_a_competition(tmp_path):
    for split, numbers in (("train", range(24)), ("test", range(24, 30))):
        (tmp_path / split).mkdir()
        for i in numbers:
            picture(i).save(tmp_path / split / f"{i}.png")
        table = pd.DataFrame({"id": numbers, "label": ["ab"[i % 2] for i in numbers]})
        table.drop(columns=["label"] if split == "test" else []).to_csv(tmp_path / f"{split}.csv", index=False)
    table.to_csv(tmp_path / "sample_submission.csv", index=False)
    splits = load(tmp_path, "image")
    assert splits.labels == ("a", "b")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 24
    assert any("'test' has no labels" in note for note in splits.warnings)


def test_ids_that_begin_anew_in_each_split_mean_its_own_images(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(12):
            picture(i).save(tmp_path / split / f"{i}.png")
        table = pd.DataFrame({"id": range(12), "label": ["ab"[i % 2] for i in range(12)]})
        table.to_csv(tmp_path / f"{split}.csv", index=False)
    splits = load(tmp_path, "image")
    alone = load(tmp_path / "train.csv", "image")
    assert {Path(row["image"]["path"]).parent.name for row in (*alone.train, *alone.test)} == {"train"}
    for part, split in ((splits.train, "train"), (splits.validation, "train"), (splits.test, "test")):
        assert {Path(row["image"]["path"]).parent.name for row in part} == {split}


def test_photos_with_names_like_those_of_masks_are_photos(tmp_path):
    names = [f"{thing}{end}.png" for thing in ("hand", "shoe", "cap", "bag") for end in ("", "_l", "_label")][:-3]
    for i, name in enumerate([*names, "bag.png"]):
        picture(i).save(tmp_path / name)
    rows = [{"file_name": n, "label": "ab"[i % 2], "source": f"raw{i}.png"} for i, n in enumerate(names)]
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    splits = load(tmp_path, "image")
    assert splits.labels == ("a", "b")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == len(names)


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
        if not mode_and_size(value)[0].startswith("I"):  # PNG stores "I" in 16 bits
            assert (np.asarray(decoded) == expected).all()
    if not image.mode.startswith("I"):
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
    assert (np.asarray(decode_image(path))[:, :, 0] == pixels // 257).all()
    assert np.asarray(load_image(str(path)))[1:].min() == 255  # what transformers makes of it: white
    deep = PILImage.fromarray(pixels.astype(np.int32))
    assert deep.mode == "I"
    assert (np.asarray(decode_image(deep))[:, :, 1] == pixels // 257).all()
    eight = PILImage.fromarray((pixels // 257).astype(np.int32))  # bits, in the disguise of 32
    assert (np.asarray(decode_image(eight))[:, :, 0] == pixels // 257).all()


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_floats_are_scaled(tmp_path, white):
    shares = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    PILImage.fromarray(shares * white).save(tmp_path / "x.tif")
    assert abs(np.asarray(decode_image(tmp_path / "x.tif"))[..., 0] - shares * 255).max() <= 0.51
    PILImage.fromarray(shares * white - 0.5).save(tmp_path / "x.tif")
    with pytest.raises(OSError, match=r"its pixels are numbers from -0\.5 to .*: scale them to 0 to 255"):
        decode_image(tmp_path / "x.tif")


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
    monkeypatch.setattr("hftl.terminal.hide_bars", lambda: hidden)
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


def test_an_array_of_one_image_in_colour_is_one_image():
    pixels = np.zeros((8, 6, 3), np.uint8)
    assert [image.size for image in as_rows(pixels)] == [(6, 8)]
    assert [image.size for image in as_rows(np.zeros((5, 8, 6), np.uint8))] == [(6, 8)] * 5


def test_a_run_says_that_plain_pipeline_clips_images_of_16_bits(tmp_path):
    folder = image_folder(tmp_path / "images")
    values = {"data": folder, "model": checkpoint("vit", tmp_path), "method": "probe"}

    def notes():
        return [note for note in prepare(build_config("image-classification", values)).notes if "16 bits" in note]

    assert notes() == []
    deep = np.asarray(picture(7).convert("L")).astype(np.uint16) * 257
    PILImage.fromarray(deep).save(folder / "cat" / "0.png")
    assert notes() == [DEEP]
