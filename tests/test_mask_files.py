"""What a file of a mask holds, and the files beside masks that name their classes."""

import json

import numpy as np
import pytest
from PIL import Image

from hftl.errors import DataError
from tests.small_masks import load, put, sizes


@pytest.mark.parametrize(
    ("kind", "flags", "ids"),
    [
        (lambda m: Image.fromarray(m.astype(np.float32)), {}, {0, 1}),
        (
            lambda m: Image.fromarray(m.astype(np.int32) - (m == 0).astype(np.int32)),
            {"mask_values": "binary"},
            {1, -100},
        ),
        (lambda m: Image.fromarray(np.where(m, 0, 65535).astype(np.uint16)), {"ignore_index": 65535}, {0, -100}),
        (lambda m: Image.fromarray(m > 0), {}, {0, 1}),
        (lambda m: Image.fromarray(m).convert("RGB"), {}, {0, 1}),
    ],
    ids=["floats", "minus one", "65535", "one bit", "equal colours"],
)
def test_what_pixels_of_masks_may_be(tmp_path, kind, flags, ids):
    for i in range(8):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.tif", i, masks=kind)
    put(tmp_path, "images/9.png", "masks/9.png", 9)
    task, splits = load(tmp_path, **flags)
    rows = [row for part in (splits.train, splits.validation, splits.test) for row in part["label"][:]]
    read = [np.unique(m) for m, row in zip(task.output.gather(rows), rows, strict=True) if row["path"].endswith("tif")]
    assert {int(i) for one in read for i in one} == ids


def test_a_mask_that_only_its_transparency_tells_is_refused(tmp_path):
    white = Image.new("L", (10, 8), 255)
    for i in range(6):
        put(
            tmp_path,
            f"images/{i}.png",
            f"masks/{i}.png",
            i,
            masks=lambda ids: Image.merge("LA", [white, Image.fromarray(ids)]),
        )
    with pytest.raises(DataError, match="only its transparency differs"):
        load(tmp_path)


def test_black_and_white_of_jpeg_are_told_apart_and_other_ids_are_not(tmp_path):
    white = lambda ids: Image.fromarray(np.kron(ids, np.full((8, 8), 255, np.uint8)))  # noqa: E731
    big = lambda pixels: Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8)))  # noqa: E731
    for i in range(6):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.jpg", i, masks=white, images=big)
    task, splits = load(tmp_path, mask_values="binary")
    masks = task.output.gather(splits.train["label"][:])
    for row, mask in zip(splits.train["image"][:], masks, strict=True):
        assert (mask == 1).sum() == 64 * (1 + int(np.asarray(Image.open(row["path"]))[0, 0, 0]))
    grey = np.kron(np.eye(8, 10, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))
    grey[:16, -16:] = 128  # an area of 5%
    for ids in (np.full((64, 80), 3, np.uint8), grey):
        Image.fromarray(ids).save(tmp_path / "masks/0.jpg")
        with pytest.raises(DataError, match=r"0\.jpg is no mask: JPEG files blur ids"):
            load(tmp_path)


def test_an_image_that_exif_turns_and_a_mask_that_is_not_turned(tmp_path):
    for i in range(6):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.png", i)
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (10, 8)).save(tmp_path / "images/0.png", exif=turned)
    with pytest.raises(DataError, match=r"0\.png is 10 x 8 pixels and its image 8 x 10, which its EXIF tag turns"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "0: ground\n1: block\n"),
        ("labels.txt", "0 ground\n1 block\n"),
        ("classes.txt", "ground\nblock\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nground:0,0,0::\nblock:9,9,9::\n"),
    ],
)
def test_files_that_name_the_classes(tmp_path, name, text):
    for i in range(10):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.png", i)
    (tmp_path / name).write_text(text)
    assert load(tmp_path)[1].labels == ("ground", "block")
    (tmp_path / name).write_text("block:0,0,0::\n" if name == "labelmap.txt" else "block\n")
    with pytest.raises(DataError, match=r"the id 1 \(0\.png\), .* the first one has to name the id 0"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nground:0,0,0::\nblock:250,0,9::\nsky:1,2,3::\n"),
        ("class_dict.csv", 'name,r,g,b\n"ground",0, 0, 0\nblock,250,0,9\nsky,1,2,3\n'),
        ("label_colors.txt", "0 0 0\tground\n250 0 9\tblock\n1 2 3\tsky\n"),
    ],
)
def test_masks_in_colours_that_a_file_names(tmp_path, name, text):
    colours = np.array([[0, 0, 0], [250, 0, 9], [1, 2, 3]], np.uint8)
    for i in range(10):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.png", i, masks=lambda ids: Image.fromarray(colours[ids]))
    with pytest.raises(DataError, match=r"2 in RGB, which say no ids: name each in labelmap\.txt"):
        load(tmp_path)
    (tmp_path / name).write_text(text)
    assert sizes(tmp_path) == {"train": 10}
    task, splits = load(tmp_path)
    assert splits.labels == ("ground", "block", "sky")
    targets = task.output.gather(splits.train["label"][:])
    assert task.output.settle([], targets, splits.labels, "")["palette"] == colours.tolist()
    Image.fromarray(np.full((8, 10, 3), 77, np.uint8) + colours[1]).save(tmp_path / "masks/3.png")
    with pytest.raises(DataError, match=r"3\.png is no mask: it has colours"):
        load(tmp_path)
    (tmp_path / name).write_text(text.replace("250", "0").replace("9", "0"))
    with pytest.raises(DataError, match="the same colour"):
        load(tmp_path)


def test_an_image_without_a_mask_is_named(tmp_path):
    for i in range(10):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.png" if i != 4 else None, i)
    with pytest.raises(DataError, match=r"1 without a mask, such as 4\.png"):
        load(tmp_path)


def test_names_that_are_given_twice_or_leave_out_an_id(tmp_path):
    for i in range(6):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.png", i)
    for content, said in (({"0": "a", "1": "a"}, "twice"), ({"0": "a", "2": "b"}, "every id"), (["a"], "has to hold")):
        (tmp_path / "id2label.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=said):
            load(tmp_path)
