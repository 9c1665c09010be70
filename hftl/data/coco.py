"""COCO files: outlines of objects, as polygons or run-length codes, become masks of classes."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from hftl.data.files import exact_split, images_in, split_of, text_encoding
from hftl.data.image_tables import as_named, by_name
from hftl.data.images import MAX_PIXELS, image_table, in_threads
from hftl.data.splits import Source
from hftl.errors import DataError, install_extra


BACKGROUND = "background"  # id 0: every pixel outside of all outlines
MOST_CLASSES = 254  # of masks of eight bits, in which 255 is not counted
_KEYS = ("images", "annotations", "categories")
_INSTANCES = "instances"  # so COCO calls the file with outlines, beside those with captions and key points
_HEAD = 64 * 2**10  # bytes in which one of the keys begins, so that other large files are not read whole


@dataclass(frozen=True)
class _File:
    """One COCO file: its images, the outlines of each, and the names of its categories."""

    path: Path
    split: str
    images: list[dict[str, Any]]
    outlines: dict[Any, list[dict[str, Any]]]  # annotations by the id of their image
    names: dict[Any, str]  # of categories, by id


def read_coco_tree(folder: Path, only: Path | None = None) -> Source | None:
    """Read a folder of images with COCO files: beside them, in `annotations`, or in every split folder; or `only` one file.

    Returns None where there is no such file, or none with outlines. Raises `DataError` for a file whose parts do not
    agree with each other, or with the images.
    """
    found = [
        (path, split) for path, split in ([(only, "train")] if only else _candidates(folder)) if _looks_right(path)
    ]
    whole = {split for path, split in found if path.name.startswith(_INSTANCES)}
    found = [(path, split) for path, split in found if split not in whole or path.name.startswith(_INSTANCES)]
    files = [file for file in (_read(path, split) for path, split in found) if file is not None]
    if not any(_has_outlines(file) for file in files):
        return None
    _check_splits(files)
    classes, notes = _classes(files)
    tables = {file.split: _table(file, folder, classes) for file in files}
    return Source(tables, folder.resolve().name, folder, warnings=notes, classes=classes)


def _candidates(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every JSON file where COCO files lie, with the split that it is of."""
    for home in (folder, folder / "annotations"):
        for path in sorted(home.glob("*.json")):
            yield path, split_of(path.stem) or "train"
    for child in sorted(folder.iterdir()):
        split = exact_split(child.name) if child.is_dir() else None
        if split is not None:
            for path in sorted((*child.glob("*.json"), *child.glob("annotations/*.json"))):
                yield path, child.name


def _looks_right(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace")
    return head.lstrip("\ufeff \n\r\t").startswith("{") and any(f'"{key}"' in head for key in _KEYS)


def _read(path: Path, split: str) -> _File | None:
    """Parse a file and check that its parts speak of each other; None for one of captions, of images alone, or of other
    things. Raises `DataError`.
    """
    try:
        content = json.loads(path.read_text(encoding=text_encoding(path)))
    except ValueError as error:
        raise DataError(f"{path.name} cannot be parsed: {error}") from None
    if not all(isinstance(content.get(key), list) for key in _KEYS[:2]):
        return None
    if content["annotations"] and not any(
        "category_id" in one for one in content["annotations"] if isinstance(one, dict)
    ):
        return None
    try:
        images, annotations, categories = (content[key] for key in _KEYS)
        outlines: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in annotations:
            outlines[annotation["image_id"]].append(annotation)
        known = {image["id"] for image in images}
        names = {category["id"]: str(category["name"]).strip() for category in categories}
        used = {annotation["category_id"] for annotation in annotations}
        sizes = all(min(image["width"], image["height"]) > 0 and image["file_name"] for image in images)
    except (KeyError, TypeError, AttributeError) as error:
        fields = (
            "images (id, file_name, width, height), annotations (image_id, category_id, segmentation) and categories"
        )
        raise DataError(f"{path.name} is no COCO file ({error}): it needs {fields} (id, name)") from None
    for what, faulty in (("image", outlines.keys() - known), ("category", used - names.keys())):
        if faulty:
            raise DataError(
                f"{path.name}: annotations are of the {what} {min(faulty, key=str)!r}, which it does not list"
            )
    if len(known) < len(images) or len(set(names.values())) < len(categories):
        raise DataError(f"{path.name} lists an image id or the name of a category twice")
    if not sizes or not images:
        raise DataError(f"{path.name} lists {'an image without pixels' if images else 'no image'}")
    return _File(path, split, images, outlines, names)


def _has_outlines(file: _File) -> bool:
    return any(one.get("segmentation") for ones in file.outlines.values() for one in ones)


def boxes_line(folder: Path) -> str:
    """Return what to say of images without labels beside a COCO file of boxes; nothing where there is none."""
    files = (_read(path, split) for path, split in _candidates(folder) if _looks_right(path))
    for file in (file for file in files if file is not None):
        if any(one.get("bbox") for ones in file.outlines.values() for one in ones):
            return (
                f"{file.path.name} holds boxes and no outlines, and object detection is no task of hftl. Cut the boxes out into a "
                "folder for each class (image-classification), or add outlines as 'segmentation' (image-segmentation)"
            )
    return ""


def _check_splits(files: Sequence[_File]) -> None:
    """Raise `DataError` for two files of one split, such as boxes and captions of the same images."""
    split, count = Counter(file.split for file in files).most_common(1)[0]
    if count > 1:
        double = [file.path.name for file in files if file.split == split]
        raise DataError(f"{' and '.join(double)} are both COCO files of {split}: keep one, or name each for its split")


def _classes(files: Sequence[_File]) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes, the background first, and a note on categories that no outline has."""
    used = {file.names[one["category_id"]] for file in files for ones in file.outlines.values() for one in ones}
    ordered = dict.fromkeys(
        name for file in files for _, name in sorted(file.names.items(), key=lambda pair: str(pair[0]).zfill(9))
    )
    own = next((name for name in ordered if name.lower() == BACKGROUND), BACKGROUND)
    classes = (own, *(name for name in ordered if name in used and name != own))
    if len(classes) > MOST_CLASSES:
        raise DataError(f"the COCO files have {len(classes)} classes, and {MOST_CLASSES} is the most")
    idle = [name for name in ordered if name not in used and name != own]
    return classes, [f"No outline has the category {', '.join(map(repr, idle))}: left out."] if idle else []


def _table(file: _File, folder: Path, classes: Sequence[str]) -> Dataset:
    """Return the images of a file with their masks, drawn now and held as PNG files in memory."""
    names = [str(image["file_name"]) for image in file.images]
    paths = _find_images(file, folder, names)
    ids = {category: classes.index(name) for category, name in file.names.items() if name in classes}

    def draw(image: dict[str, Any]) -> dict[str, Any]:
        mask = Image.fromarray(_mask(file, image, ids))
        content = BytesIO()
        mask.save(content, "PNG")
        return {"bytes": content.getvalue(), "path": f"{Path(image['file_name']).stem}.png"}

    if not _has_outlines(file):  # what is hidden, or not labelled yet
        return image_table(paths, names, None, [None] * len(paths))
    masks = list(in_threads(draw, file.images, len(file.images), f"drawing masks ({file.split})"))
    return image_table(paths, names, None, masks)


def _find_images(file: _File, folder: Path, names: Sequence[str]) -> list[Path]:
    """Return where each image lies: beside the file, in a folder `images`, in one of the split, else wherever its name is.

    Folders of another machine before a name do not count. Raises `DataError`.
    """
    own = [folder, folder / "images"]
    children = (child for top in own if top.is_dir() for child in sorted(top.iterdir()) if child.is_dir())
    own += [child for child in children if split_of(child.name) == split_of(file.split)]
    homes = [home for top in (file.path.parent, *own) for home in (top, top / "images")]
    paths: list[Path] = []
    missing, anywhere = [], dict[str, Path]()
    for name in names:
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        path = next((home / name for home in homes if inside and (home / name).is_file()), None)
        if path is None:
            anywhere = anywhere or by_name(images_in(folder), folder)
            path = anywhere.get(as_named(name, anywhere))
        if path is None:
            missing.append(name)
            continue
        paths.append(path)
        homes.sort(key=path.is_relative_to, reverse=True)  # the next file is probably in the same folder
    if missing:
        there = "is not there" if len(missing) == 1 else f"and {len(missing) - 1} more are not there"
        raise DataError(
            f"{file.path.name} lists {len(names)} images, and {missing[0]} {there}: add the files, or take them out of it"
        )
    return paths


def _mask(file: _File, image: dict[str, Any], ids: dict[Any, int]) -> np.ndarray:
    """Return the classes [height, width] of an image: where outlines overlap, the smaller object lies on top.

    Raises `DataError` for an outline that cannot be read.
    """
    height, width = int(image["height"]), int(image["width"])
    where = f"{file.path.name}: {image['file_name']}"
    if height * width > MAX_PIXELS:
        raise DataError(f"{where} has {width} x {height} pixels, more than {MAX_PIXELS / 1e6:.0f} million")
    coded = [
        (
            _coded(one.get("segmentation"), height, width, f"{where}, annotation {one.get('id')}"),
            ids[one["category_id"]],
        )
        for one in file.outlines.get(image["id"], ())
    ]
    mask = np.zeros((height, width), dtype=np.uint8)
    for code, label in sorted(coded, key=lambda pair: -int(_codes().area(pair[0]))):
        mask[_codes().decode(code).astype(bool)] = label
    return mask


def _codes() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise DataError(f"COCO files need the package pycocotools: {install_extra('coco')}") from None
    return mask


def _coded(outline: Any, height: int, width: int, where: str) -> Any:
    """Return the compressed run-length code of an outline: of polygons, of runs, or a compressed one."""
    codes = _codes()
    if not outline:
        raise DataError(f"{where} has no outline (segmentation): remove it, or draw one")
    if isinstance(outline, list):
        points = outline if isinstance(outline[0], list) else [outline]
        if not all(_is_polygon(one) for one in points):
            raise DataError(f"{where}: a polygon needs three points or more, as x, y, x, y, ...")
        limits = np.array([width, height])
        for one in points:  # far outside, the C code behind it asks for memory without end
            corners = np.reshape(one, (-1, 2))
            if (corners < -limits).any() or (corners > 2 * limits).any():
                raise DataError(f"{where}: a polygon lies far outside of its image of {width} x {height} pixels")
        return codes.merge(codes.frPyObjects(points, height, width))
    size, counts = (outline.get("size"), outline.get("counts")) if isinstance(outline, dict) else (None, None)
    if size != [height, width]:
        raise DataError(f"{where}: its run-length code is of the size {size}, and the image of {[height, width]}")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != height * width:
            raise DataError(f"{where}: the runs of its code add up to another number than its {height * width} pixels")
        return codes.frPyObjects(outline, height, width)
    if not isinstance(counts, str) or not _adds_up(counts, height * width):
        raise DataError(f"{where}: its run-length code cannot be read")
    return {"size": size, "counts": counts.encode()}


def _is_polygon(points: Any) -> bool:
    numbers = isinstance(points, list) and all(isinstance(one, int | float) for one in points)
    return numbers and len(points) >= 6 and len(points) % 2 == 0 and bool(np.isfinite(points).all())


def _adds_up(code: str, pixels: int) -> bool:
    """Tell whether a compressed code covers the pixels, before C code follows it into memory.

    Five bits a character, from 48 on, the sixth says that more follow; from the fourth run on a run is written as its
    difference to the last but one (pycocotools, maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for character in code:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            return False
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (1 << shift) if digit & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return not shift and min(runs, default=-1) >= 0 and sum(runs) == pixels
