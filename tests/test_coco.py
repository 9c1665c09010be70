"""COCO files: outlines become masks of classes, and what does not fit is refused in a line."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from hftl.config import DataConfig
from hftl.data.load import load_rows, load_task
from hftl.data.sources import read_source
from hftl.errors import DataError
from hftl.tasks.outputs.masks import MASKS


def packed(mask):
    """Return the compressed code of a mask by pycocotools."""
    from pycocotools import mask as codes

    code = codes.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def runs(mask):
    """Return the runs of a mask in columns, the zeros first."""
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


def polygon(x, y, wide, high):
    return [[x, y, x + wide, y, x + wide, y + high, x, y + high]]


def rectangle(x, y, wide, high):
    mask = np.zeros((20, 30), dtype=bool)
    mask[y : y + high, x : x + wide] = True
    return mask


def annotation(number, category, outline, image=None):
    image = number if image is None else image
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "bbox": [],
        "segmentation": outline,
    }


@pytest.fixture
def content():
    """Eight images: a cat of 10 x 8 pixels by polygon, code or compressed code, a dog on top of some, and one empty."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 30, "height": 20} for i in range(8)]
    cat, dog = rectangle(2, 3, 10, 8), rectangle(4, 5, 3, 2)
    outlines = [polygon(2, 3, 10, 8), runs(cat), packed(cat)]
    annotations = [annotation(i, 7, outlines[i % 3]) for i in range(7)]
    annotations += [annotation(100 + i, 9, packed(dog), image=i) for i in range(3)]
    categories = [{"id": 5, "name": "animals"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder, content, name="_annotations.coco.json", images=None):
    folder.mkdir(parents=True, exist_ok=True)
    home = images or folder
    home.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        path = home / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = image["id"] + len(str(home))
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 30, 3)).astype(np.uint8)).save(path)
    (folder / name).write_text(json.dumps(content))


def load(folder, **flags):
    return load_task("image-segmentation", DataConfig(data=str(folder), **flags))


def masks(folder):
    task, splits = load(folder)
    found = {}
    for part in (splits.train, splits.validation, splits.test):
        for image, mask in zip(part["image"][:], task.output.gather(part["label"][:]), strict=True):
            found[image["path"].rpartition("/")[2]] = mask
    return splits, found


def test_polygons_and_codes_become_the_same_masks(tmp_path, content):
    write(tmp_path, content)
    splits, found = masks(tmp_path)
    assert splits.labels == ("background", "cat", "dog")
    assert any("'animals': left out" in line for line in splits.warnings)
    expected = rectangle(2, 3, 10, 8).astype(int)
    for i in (3, 4, 5, 6):
        assert np.array_equal(found[f"{i}.jpg"], expected)
    expected[5:7, 4:7] = 2  # the smaller one lies on top, in whatever order they come
    assert np.array_equal(found["0.jpg"], expected)
    assert not found["7.jpg"].any()


@pytest.mark.parametrize(
    ("home", "images"),
    [
        ("{split}", "{split}"),
        ("{split}", "{split}/images"),
        ("annotations", "images/{split}2017"),
        (".", "{split}2017"),
    ],
)
def test_layouts(tmp_path, content, home, images):
    for split in ("train", "val"):
        name = f"instances_{split}2017.json" if home in ("annotations", ".") else "_annotations.coco.json"
        write(tmp_path / home.format(split=split), content, name, tmp_path / images.format(split=split))
    if home == "annotations":
        (tmp_path / home / "captions_train2017.json").write_text(
            '{"images": [], "annotations": [{"caption": "a cat"}]}'
        )
    _, splits = load(tmp_path)
    assert len(splits.validation) == 8
    assert len(splits.train) + len(splits.test) == 8


def test_images_are_found_wherever_they_lie(tmp_path, content):
    write(tmp_path, content, "labels.json", tmp_path / "data")  # as FiftyOne lays it out
    for image in content["images"]:  # as on the machine of who exported it
        image["file_name"] = f"/home/me/{image['file_name']}"
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert len(load(tmp_path)[1].train) == len(load(tmp_path / "labels.json")[1].train) > 0
    (tmp_path / "annotations").mkdir()
    (tmp_path / "labels.json").rename(tmp_path / "annotations/labels.json")
    assert len(load(tmp_path / "annotations/labels.json")[1].train) > 0
    with pytest.raises(DataError, match=r"lists 8 images, and /home/me/0\.jpg and 7 more are not there"):
        load(tmp_path / "annotations")
    task, splits = load(tmp_path, mask_values="binary")  # the names of the categories are of no use then
    assert splits.labels == ("background", "object")
    assert {i for mask in task.output.gather(splits.train["label"][:]) for i in np.unique(mask)} == {0, 1}


def test_the_task_is_found(tmp_path, content):
    from hftl.data.settle import find_task

    write(tmp_path, content)
    assert find_task(DataConfig(data=str(tmp_path))) == "image-segmentation"


def _change(content, **changes):
    content["annotations"][0] |= changes


REFUSED = {
    "missing image": (
        lambda c: c["images"][3].update(file_name="gone.jpg"),
        r"lists 8 images, and gone\.jpg is not there",
    ),
    "unknown image": (lambda c: _change(c, image_id=99), "annotations are of the image 99"),
    "unknown category": (lambda c: _change(c, category_id=99), "annotations are of the category 99"),
    "two points": (lambda c: _change(c, segmentation=[[1, 2, 3, 4]]), "three points"),
    "no number": (lambda c: _change(c, segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "three points"),
    "runs too short": (
        lambda c: _change(c, segmentation={"size": [20, 30], "counts": [5, 5]}),
        "another number than its 600",
    ),
    "code too short": (lambda c: _change(c, segmentation={"size": [20, 30], "counts": "05"}), "cannot be read"),
    "code of nonsense": (lambda c: _change(c, segmentation={"size": [20, 30], "counts": "ßß"}), "cannot be read"),
    "another size": (lambda c: _change(c, segmentation={"size": [30, 20], "counts": [600]}), "size"),
    "letters": (lambda c: _change(c, segmentation=[["a", 0, 1, 1, 2, 2]]), "three points"),
    "no lists": (lambda c: _change(c, segmentation=[[1, 2, 3, 4, 5, 6], 7]), "three points"),
    "far outside": (
        lambda c: _change(c, segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]),
        "far outside of its image of 30 x 20",
    ),
    "no outline": (lambda c: _change(c, segmentation=[]), r"annotation 0 has no outline"),
    "outside": (lambda c: c["images"][3].update(file_name="../secret.jpg"), "secret.jpg is not there"),
    "twice": (lambda c: c["images"][7].update(id=0), "twice"),
    "no names": (lambda c: c["categories"][1].pop("name"), "no COCO file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, content, kind):
    change, said = REFUSED[kind]
    write(tmp_path, content)
    change(content)
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_sizes_that_differ_from_the_images(tmp_path, content):
    write(tmp_path, content)
    Image.new("RGB", (15, 10)).save(tmp_path / "6.jpg")
    with pytest.raises(DataError, match="30 x 20 pixels and its image 15 x 10"):
        load(tmp_path)


def test_two_files_of_one_split(tmp_path, content):
    write(tmp_path, content)
    (tmp_path / "more.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"_annotations\.coco\.json and more\.json are both COCO files of train"):
        load(tmp_path)


def test_other_json_files_are_left_alone(tmp_path, content):
    write(tmp_path, content)
    (tmp_path / "stats.json").write_text('{"images": 24}')
    (tmp_path / "captions_train2017.json").write_text('{"images": [], "annotations": [{"caption": "a cat"}]}')
    (tmp_path / "image_info_test2017.json").write_text('{"images": [], "categories": []}')
    assert load(tmp_path)[1].labels == ("background", "cat", "dog")


def test_a_split_whose_outlines_are_hidden_has_no_masks(tmp_path, content):
    write(tmp_path / "train", content)
    write(tmp_path / "test", {**content, "annotations": []})
    _, splits = load(tmp_path)
    assert "cut from train" in splits.origins["test"]


def test_masks_are_read_by_the_names_of_a_model(tmp_path, content):
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 9]
    write(tmp_path, content)
    source = read_source(str(tmp_path), "image")
    assert source.classes == ("background", "dog")
    output = MASKS.asked(DataConfig(), source.classes)
    masks = output.read(source.tables["train"], "mask", "train")
    target = output.recognise(masks, ("background", "cat", "dog"), "train", "mask")[0]
    assert set(np.unique(target)) == {0, 2}
    with pytest.raises(DataError, match="the class 'dog', which the model does not know"):
        output.recognise(masks, ("background", "cat"), "train", "mask")


def test_without_the_package(tmp_path, content, monkeypatch):
    write(tmp_path, content)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match="need the package pycocotools: pip install"):
        load(tmp_path)


def test_boxes_alone_are_no_masks(tmp_path, content):
    for one in content["annotations"]:
        one["segmentation"] = []
    write(tmp_path, content)
    with pytest.raises(DataError):
        load(tmp_path)


def test_boxes_alone_are_no_task(tmp_path, content):
    for one in content["annotations"]:
        one |= {"bbox": [2, 3, 10, 8], "segmentation": []}
    write(tmp_path, content)
    for task in ("image-segmentation", "image-classification"):
        with pytest.raises(
            DataError, match=r"_annotations\.coco\.json holds boxes and no outlines, and object detection is no"
        ):
            load_task(task, DataConfig(data=str(tmp_path)))
    assert len(load_rows("image", DataConfig(data=str(tmp_path)), None).inputs) == 8  # to predict
