"""Folders of images and masks as people lay them out: each image comes with its own mask, in its own split."""

import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from hftl.config import DataConfig
from hftl.data.load import load_task
from hftl.data.settle import find_task
from hftl.errors import DataError
from tests.small_masks import load, put, sizes


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{i}.jpg.png", "masks/{i}.jpg.png"),
        ("Images/{i}.png", "Masks/{i}.tif"),
        ("img/a b ä {i}.png", "label/a b ä {i}.bmp"),
        ("images/{i}.png", "masks/{i}_mask.png"),
        ("images/{i}_sat.png", "masks/{i}_mask.png"),
        ("images/img_{i}.png", "masks/img_{i}_segmentation.png"),
        ("images/img_{i}.png", "masks/mask_{i}.png"),
        ("images/x{h}/{j}.png", "masks/x{h}/{j}.png"),
        ("images/x{h}/{i}.png", "annotations/trimaps/{i}.png"),
        ("{i}.png", "{i}_mask.png"),
        ("image_{i}.png", "image_{i}_mask.png"),
        ("{i}_sat.png", "{i}_mask.png"),
        ("segment_{i}.png", "segment_{i}_mask.png"),
        ("JPEGImages/{i}.png", "SegmentationClass/{i}.png"),
        ("set/images/{i}.png", "set/masks/{i}.png"),
        ("images/image{i}.png", "masks/mask{i}.png"),
        ("ds0/img/{i}.jpg.png", "ds0/masks_machine/{i}.png"),
        ("original_images/{i}.png", "label_images_semantic/{i}.png"),
        ("inputs/{i}.png", "targets/{i}.png"),
        ("x{h}/{j}.png", "x{h}/{j}_mask.png"),
        ("case{i}/images/a.png", "case{i}/masks/b.png"),
    ],
)
def test_names_that_an_image_and_its_mask_have(tmp_path, image, mask):
    for i in range(10):
        numbers = {"i": i, "h": i % 2, "j": i // 2}
        put(tmp_path, image.format(**numbers), mask.format(**numbers), i)
    assert sizes(tmp_path) == {"train": 10}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{s}/images/{i}.png", "{s}/masks/{i}.png"),
        ("images/{s}/{i}.png", "annotations/{s}/{i}.png"),
        ("{s}/{i}.png", "{s}annot/{i}.png"),
        ("{s}_images/{i}.png", "{s}_labels/{i}.png"),
        ("images_{s}/{i}.png", "masks_{s}/{i}.png"),
        ("ISIC18_{s}_Input/{i}.png", "ISIC18_{s}_GroundTruth/{i}_segmentation.png"),
        ("data/img_dir/{s}/{i}.png", "data/ann_dir/{s}/{i}.png"),
        ("{s}/case{i}/images/a.png", "{s}/case{i}/masks/b.png"),
        ("images/{S}/{i}.png", "masks/{s}/{i}.png"),
        ("{s}/{i}.png", "{s}/{i}_mask.png"),
        ("leftImg8bit/{s}/city/{i}_000_leftImg8bit.png", "gtFine/{s}/city/{i}_000_gtFine_labelIds.png"),
    ],
)
def test_splits_around_the_folders_and_in_them(tmp_path, image, mask):
    for i in range(12):
        split = ("train", "val", "test")[i % 3]
        names = {"s": split, "S": split.upper(), "i": i}
        put(tmp_path, image.format(**names), mask.format(**names), i)
        if "gtFine" in mask:  # Cityscapes has pictures and objects beside
            beside = mask.format(**names).replace("labelIds", "instanceIds")
            Image.fromarray(np.full((8, 10), 999, np.uint16)).save(tmp_path / beside)
    assert sizes(tmp_path) == {"train": 4, "val": 4, "test": 4}


def test_the_words_for_a_split_may_differ_between_images_and_masks(tmp_path):
    for i in range(12):
        image, mask = (("train", "train"), ("validation", "val"))[i % 2]
        put(tmp_path, f"{image}_images/{i}.png", f"{mask}_masks/{i}.png", i)
    assert sizes(tmp_path) == {"train": 6, "val": 6}
    (tmp_path / "validation_images").rename(tmp_path / "test_images")
    with pytest.raises(DataError, match="val_masks holds masks, and there is no folder of their images beside it"):
        load(tmp_path)


def test_a_split_of_masks_without_images_is_named(tmp_path):
    for i in range(8):
        split = ("train", "val")[i % 2]
        put(tmp_path, f"images/{split}/{i}.png", f"masks/{split}/{i}.png", i)
    shutil.rmtree(tmp_path / "images/val")
    with pytest.raises(DataError, match="masks/val holds masks, and images has no such folder"):
        load(tmp_path)


def test_one_kind_of_ids_of_cityscapes_for_all_splits(tmp_path):
    for i in range(12):
        split = ("train", "val")[i % 2]
        mask = f"gtFine/{split}/{i}_gtFine_labelIds.png"
        put(tmp_path, f"leftImg8bit/{split}/{i}_leftImg8bit.png", mask, i)
        if split == "train":  # made by the script of its authors, of one split only; these ids differ
            Image.fromarray(np.full((8, 10), 18, np.uint8)).save(tmp_path / mask.replace("labelIds", "labelTrainIds"))
    assert sizes(tmp_path) == {"train": 6, "val": 6}
    for path in (tmp_path / "gtFine/train").glob("*labelIds.png"):
        path.unlink()
    with pytest.raises(DataError, match="the splits have masks of different kinds"):
        load(tmp_path)


def test_lists_of_voc_name_the_images_of_each_split(tmp_path):
    home, lists = tmp_path / "VOCdevkit/VOC2012", tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    for i in range(20):
        put(home, f"JPEGImages/{i:02}.png", f"SegmentationClass/{i:02}.png" if i < 15 else None, i)
    lists.mkdir(parents=True)
    for name, numbers in (("train", range(9)), ("val", range(9, 15)), ("trainval", range(15))):
        (lists / f"{name}.txt").write_text("\n".join(f"{i:02}" for i in numbers))
    assert sizes(tmp_path) == {"train": 9, "val": 6}
    (home / "JPEGImages/00.png").rename(home / "JPEGImages/a b.png")
    (home / "SegmentationClass/00.png").rename(home / "SegmentationClass/a b.png")
    (lists / "train.txt").write_text("a b\n01\n02\n03 1\n")
    assert sizes(tmp_path) == {"train": 4, "val": 6}
    (lists / "val.txt").write_bytes("ä\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"val\.txt is not in UTF-8"):
        load(tmp_path)
    (lists / "val.txt").write_text("77\n")
    with pytest.raises(DataError, match=r"val\.txt lists 1 images, and 77 is not in JPEGImages"):
        load(tmp_path)


def test_tables_name_files_of_masks(tmp_path):
    for i in range(10):
        put(tmp_path, f"a/{i}.png", f"b/{i}.png", i)
    (tmp_path / "labels.txt").write_text("__ignore__\nground\nblock\n")
    (tmp_path / "metadata.csv").write_text("file_name,mask\n" + "".join(f"a/{i}.png,b/{i}.png\n" for i in range(10)))
    assert sizes(tmp_path) == sizes(tmp_path / "metadata.csv") == {"train": 10}
    assert load(tmp_path)[1].labels == ("ground", "block")
    (tmp_path / "b/3.png").unlink()
    with pytest.raises(DataError, match=r"1 with a broken mask, such as 3\.png is no mask: no such file"):
        load(tmp_path)


@pytest.mark.parametrize("columns", ["image_path,mask_path", "x,y", "file_name,annotation"])
def test_a_table_in_the_folder_of_its_images_and_masks(tmp_path, columns):
    for i in range(10):
        put(tmp_path, f"a/{i}.png", f"b/{i}.png", i)
    (tmp_path / "train.csv").write_text(f"{columns}\n" + "".join(f"a/{i}.png,b/{i}.png\n" for i in range(10)))
    assert sizes(tmp_path) == sizes(tmp_path / "train.csv") == {"train": 10}
    assert find_task(DataConfig(data=str(tmp_path / "train.csv"))) == "image-segmentation"


def test_folders_of_classes_keep_their_classes(tmp_path):
    for i in range(20):
        put(tmp_path / "faces", f"{('with_mask', 'without_mask')[i % 2]}/{i}.png", None, i)
        put(
            tmp_path / "scans",
            f"{('benign', 'normal')[i % 2]}/{i}.png",
            f"{('benign', 'normal')[i % 2]}/{i}_mask.png",
            i,
        )
    for name, labels in (("faces", ("with_mask", "without_mask")), ("scans", ("benign", "normal"))):
        splits = load_task("image-classification", DataConfig(data=str(tmp_path / name)))[1]
        assert (splits.labels, len(splits.train) + len(splits.validation) + len(splits.test)) == (labels, 20)
    assert sizes(tmp_path / "scans") == {"train": 20}


def test_masks_of_several_files_are_united(tmp_path):
    for i in range(8):
        put(tmp_path, f"s/{i}/images/{i}.png", None, i)
        for k in (1, 2):
            ids = np.zeros((8, 10), np.uint8)
            ids.flat[k - 1 : i + k] = k
            (tmp_path / f"s/{i}/masks").mkdir(exist_ok=True)
            Image.fromarray(ids).save(tmp_path / f"s/{i}/masks/{k}.png")
    task, splits = load(tmp_path)
    masks = task.output.gather(splits.train["label"][:])
    assert {Image.open(BytesIO(row["bytes"])).format for row in splits.train["label"][:]} == {"PNG"}
    for image, mask in zip(splits.train["image"][:], masks, strict=True):
        one = np.asarray(Image.open(image["path"]).convert("RGB"))[0, 0, 0] + 1
        assert ((mask == 1).sum(), (mask == 2).sum()) == (1, one)
    (tmp_path / "s/3/masks/2.png").write_bytes(b"none")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "s/4/masks/1.png")
    with pytest.raises(DataError, match="2 of 8 rows cannot be used"):
        load(tmp_path)


def test_arrays_of_ids_and_paths_are_masks(tmp_path):
    images = [np.full((8, 10, 3), i, np.uint8) for i in range(10)]
    ids = [np.arange(80).reshape(8, 10) % 3 - (i == 4) for i in range(10)]  # ids below 0 are not counted
    for table in (
        (images, ids),
        (np.stack(images), np.stack(ids)),
        [{"image": a, "mask": b} for a, b in zip(images, ids, strict=True)],
    ):
        task, splits = load_task("image-segmentation", DataConfig(data=table))
        for part in (splits.train, splits.validation, splits.test):
            for row, mask in zip(part["row"], task.output.gather(part["label"][:]), strict=True):
                assert (mask == np.where(ids[row] < 0, -100, ids[row])).all()
    for i in range(10):
        put(tmp_path, f"a/{i}.png", f"b/{i}.png", i)
    paths = [[tmp_path / f"{home}/{i}.png" for i in range(10)] for home in "ab"]
    assert load_task("image-segmentation", DataConfig(data=tuple(paths)))[1].labels == ("class 0", "class 1")


def test_names_of_roboflow(tmp_path):
    for i in range(10):
        put(tmp_path / "train", f"{i}.png", f"{i}_mask.png", i)
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, road, wet\n")
    assert load(tmp_path)[1].labels == ("background", "road, wet")


def test_a_folder_of_one_half_is_refused(tmp_path):
    for i in range(6):
        put(tmp_path / "a", f"x/{i}.png", f"masks/{i}.png", i)
    shutil.rmtree(tmp_path / "a/x")
    with pytest.raises(DataError, match="there are masks, and no folder of images: put them side by side"):
        load(tmp_path / "a")
    (tmp_path / "a/masks").rename(tmp_path / "a/images")
    (tmp_path / "a/masks").mkdir()
    with pytest.raises(DataError, match="a: the masks hold no picture"):
        load(tmp_path / "a")


def test_two_images_of_one_mask_are_refused(tmp_path):
    for i in range(6):
        put(tmp_path, f"images/{i}.png", f"masks/{i}.png", i)
    put(tmp_path, "images/3.bmp", None, 9)
    with pytest.raises(DataError, match=r"3\.bmp and 3\.png are images of one mask: keep one"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("image", "beside"),
    [
        ("{i}.png", "{i}.json"),
        ("images/train/{i}.png", "labels/train/{i}.txt"),
        ("JPEGImages/{i}.png", "Annotations/{i}.xml"),
    ],
)
def test_outlines_of_other_tools_are_told_what_is_read(tmp_path, image, beside):
    for i in range(6):
        put(tmp_path, image.format(i=i), None, i)
        (tmp_path / beside.format(i=i)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / beside.format(i=i)).write_text("{}")
    with pytest.raises(
        DataError, match=r"masks are needed: folders images/ and masks/.* Convert outlines of labelme, YOLO"
    ):
        load(tmp_path)
