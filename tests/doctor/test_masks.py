"""What `hftl doctor` finds in masks, and what --fix makes of it."""

import json

import numpy as np
import pytest
from PIL import Image

import hftl
from hftl.cli import main
from hftl.config import DataConfig
from hftl.data.load import load_task

from .tables import by_name


@pytest.fixture
def folder(tmp_path):
    """Thirty images, of which train has 20; five masks hold the class 2, four nothing but 0, and test one a class 3."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 10)):
        for name in ("images", "masks"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (4, 5, 3)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
            mask = np.zeros((48, 60), np.uint8)
            if split == "test" or i >= 4:
                mask[:10, :10] = 1
            if 4 <= i < 9:
                mask[20:30] = 2
            if split == "test" and i == 7:
                mask[40:] = 3
            Image.fromarray(pixels).save(tmp_path / "data" / split / "images" / f"{i:02}.png")
            Image.fromarray(mask).save(tmp_path / "data" / split / "masks" / f"{i:02}.png")
    return tmp_path / "data"


def findings(folder, **flags):
    return by_name(hftl.doctor(str(folder), "image-segmentation", **flags))


def test_whole_masks_pass_and_empty_ones_are_said(folder):
    (folder / "test/masks/07.png").write_bytes((folder / "test/masks/08.png").read_bytes())
    found = findings(folder)
    assert {name for name, one in found.items() if one.level in ("WARN", "FAIL")} == set()
    assert (found["empty_masks"].level, found["empty_masks"].by_split) == ("INFO", {"train": 4})


def test_mostly_empty_masks_are_a_warning(folder):
    for path in (folder / "train/masks").iterdir():
        Image.new("L", (60, 48)).save(path)
    assert findings(folder)["empty_masks"].level == "WARN"


def test_classes_that_train_lacks_or_hardly_has(folder):
    Image.fromarray(np.zeros((48, 60), np.uint8)).save(folder / "train/masks/08.png")
    found = findings(folder)
    assert (found["unseen_classes"].level, found["unseen_classes"].rows) == ("FAIL", {"test": [7]})
    assert "'class 3'" in found["unseen_classes"].fix
    assert found["rare_classes"].count == 1
    assert "'class 2' in 4 images" in found["rare_classes"].fix


def test_objects_that_are_counted_are_no_classes(folder):
    for i, path in enumerate(sorted((folder / "train/masks").iterdir())):
        Image.fromarray((np.asarray(Image.open(path)).astype(np.uint16)) * 50 * i).save(path)
    found = findings(folder)
    assert found["mask_classes"].level == "FAIL"
    assert "--mask_values binary" in found["mask_classes"].fix
    assert findings(folder, mask_values="binary")["mask_classes"].level == "PASS"


def test_more_ids_than_names(folder):
    (folder / "labels.txt").write_text("ground\nblock\n")
    found = findings(folder)["mask_classes"]
    assert "names of the classes end at 1" in found.fix
    assert found.rows["test"] == [4, 5, 6, 7, 8]
    assert found.rows["train"] == [4, 5, 6, 7, 8]


@pytest.fixture
def faulty(folder):
    """A broken mask, one of another size, one that is a photo, a missing one, a copy across splits, one in conflict."""
    masks, images = folder / "train/masks", folder / "train/images"
    (masks / "10.png").write_bytes(b"no picture")
    Image.new("L", (30, 24)).save(masks / "11.png")
    noise = np.random.default_rng(1).integers(0, 255, (48, 60, 3)).astype(np.uint8)
    Image.fromarray(noise).save(masks / "12.png")
    (masks / "13.png").unlink()
    (folder / "test/images/00.png").write_bytes((images / "14.png").read_bytes())
    (images / "16.png").write_bytes((images / "05.png").read_bytes())
    return folder


def test_all_faults_are_named_at_once(faulty):
    found = findings(faulty)
    assert found["broken_masks"].rows == {"train": [10, 11, 12]}
    assert found["missing_values"].rows == {"train": [13]}
    assert found["cross_split_duplicates"].rows == {"test": [0]}
    assert found["conflicting_labels"].rows == {"train": [5, 16]}


def test_fixed_masks_load_and_pass(faulty, tmp_path, capsys):
    Image.fromarray(np.ones((48, 60), np.uint8)).save(faulty / "test/masks/07.png")
    (faulty / "labels.txt").write_text("ground\nblock\nstripes\n")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(faulty), "--fix", str(tmp_path / "out")])
    assert ended.value.code == 0, capsys.readouterr()
    changes = [json.loads(line) for line in (tmp_path / "out/changes.log").read_text().splitlines()]
    assert sorted(one["row"] for one in changes if one["split"] == "train") == [5, 10, 11, 12, 13, 14, 16]
    task, splits = load_task("image-segmentation", DataConfig(data=str(tmp_path / "out")))
    assert splits.labels == ("ground", "block", "stripes")
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (13, 10)
    before = np.asarray(Image.open(faulty / "train/masks/04.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/train/masks/04.png")), before)
    assert len(task.output.gather(splits.test["label"][:])[0]) == 48
