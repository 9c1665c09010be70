"""Which masks are read, as what, and which are refused."""

import numpy as np
import pytest
from PIL import Image

import hftl
from hftl.config import DataConfig
from hftl.data.load import load_task
from hftl.data.masks import mask_ids
from hftl.errors import DataError
from hftl.evaluation.mask_scores import UNASKED
from tests.test_segmentation import draw, load, segformer, shapes  # noqa: F401


def masked(tmp_path, ids, size=(6, 6), count=6):
    """A folder of grey images whose masks cycle through `ids`."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(count):
        Image.new("RGB", (6, 6)).save(tmp_path / "images" / f"{i}.png")
        values = np.resize(np.array(ids), size[::-1])
        Image.fromarray(values.astype(np.uint16 if max(ids) > 255 else np.uint8)).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def test_palette_ids_are_read_as_they_are_and_255_is_not_counted(shapes):  # noqa: F811
    task, splits = load(shapes)
    assert splits.labels == ("ground", "block", "stripes")
    target = task.output.gather(splits.train["label"][:])
    ids = mask_ids(splits.train["label"][0])
    assert set(np.unique(ids)) <= {0, 1, 2, 255}
    assert (target[0][ids == 255] == UNASKED).all()
    assert (target[0][ids != 255] == ids[ids != 255]).all()


def test_instances_of_16_bits_become_binary(tmp_path):
    folder = masked(tmp_path, [0, 1, 2, 300])
    with pytest.raises(DataError, match="--mask_values binary"):
        load(folder)
    task, splits = load(folder, mask_values="binary")
    assert splits.labels == ("background", "object")
    assert set(np.unique(task.output.gather(splits.train["label"][:])[0])) == {0, 1}


def test_splits_around_the_folders(tmp_path):
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        draw(tmp_path / split, count)
    _, splits = load(tmp_path)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 2, 3]
    assert splits.labels == ("class 0", "class 1", "class 2")


def test_columns_of_images_are_masks(shapes, tmp_path):  # noqa: F811
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    names = [f"{i:03}.png" for i in range(12)]
    rows = {"image": [str(shapes / "images" / n) for n in names], "label": [str(shapes / "masks" / n) for n in names]}
    table = Dataset.from_dict(rows, Features(image=ImageFeature(), label=ImageFeature()))
    _, splits = load_task("image-segmentation", DataConfig(data=table))
    assert splits.labels == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("ids", "flags", "said"),
    [
        ([0, 255], {}, "one class alone.*255 is not counted.*binary"),
        ([0, 128], {}, "grey levels.*binary"),
        ([0, 0], {"mask_values": "binary"}, "one class alone"),
    ],
)
def test_ids_that_are_no_classes_are_refused(tmp_path, ids, flags, said):
    with pytest.raises(DataError, match=said):
        load(masked(tmp_path, ids), **flags)


def test_more_ids_than_names(tmp_path):
    (masked(tmp_path, [0, 1, 2]) / "labels.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"id 2 .*, and the names of the classes end at 1.*binary"):
        load(tmp_path)


def test_a_photo_is_no_mask(tmp_path):
    folder = masked(tmp_path, [0, 1])
    noise = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "masks" / "0.png")
    with pytest.raises(DataError, match=r"0\.png is no mask: it has colours"):
        load(folder)


def test_grey_photos_are_no_masks(tmp_path):
    levels = np.random.default_rng(0).integers(0, 255, (10, 40, 40)).astype(np.uint8)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(levels):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    with pytest.raises(DataError, match="are grey levels, as of a photo"):
        load(tmp_path)


def test_masks_without_images_and_of_another_size(tmp_path):
    folder = masked(tmp_path, [0, 1], size=(5, 6))
    with pytest.raises(DataError, match="5 x 6 pixels and its image 6 x 6"):
        load(folder)
    (folder / "images" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 mask has no image, such as 3\.png"):
        load(folder)


def test_a_run_on_binary_masks_evaluates_new_ones_alike(segformer, tmp_path):  # noqa: F811
    (tmp_path / "a").mkdir()
    data = masked(tmp_path / "a", [0, 255], count=8)
    flags = {"mask_values": "binary", "max_steps": 1, "evidence": "off"}
    result = hftl.adapt("image-segmentation", str(data), str(segformer), "full", output_dir=tmp_path / "run", **flags)
    plain, typed = (result.predictor.evaluate(str(data), **more) for more in ({}, {"mask_values": "binary"}))
    assert plain["metrics"] == typed["metrics"]
    assert [line["support"] > 0 for line in plain["per_class"]] == [True, True]
    (tmp_path / "b").mkdir()
    nothing = str(masked(tmp_path / "b", [7]))
    with pytest.raises(DataError, match="no mask holds a pixel that is counted"):
        result.predictor.evaluate(nothing, mask_values="class", ignore_index=7)
