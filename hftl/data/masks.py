"""Masks: pictures whose pixels are ids of classes, read as they are stored and never through RGB."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from hftl.data.files import has_images
from hftl.data.images import image_table, images_in, in_threads, open_image
from hftl.data.splits import Source, exact_split
from hftl.errors import DataError


IMAGE_FOLDERS, MASK_FOLDERS = ("images", "image", "imgs"), ("masks", "mask", "annotations", "labels")
NAMES_FILES = ("labels.txt", "id2label.json")
IGNORED = 255  # not counted by default: what VOC, ADE20K and Cityscapes leave unlabelled
MOST_IDS = 255  # classes that are believed; more are instances or a photo
_ORIENTATION, _ON_ITS_SIDE = 274, 5  # the tag of EXIF, and from which value on a picture lies on its side
_SPARSE = 8  # unused ids for each one that is used, beyond which ids are grey levels


@dataclass(frozen=True, eq=False)
class Mask:
    """One mask as a file, with what its pixels hold."""

    file: Any  # {"bytes", "path"}
    ids: tuple[int, ...]  # that occur, ascending
    size: tuple[int, int]  # width and height

    @property
    def name(self) -> str:
        """The name of its file."""
        return Path(self.file.get("path") or "a mask").name


def mask_ids(value: Any) -> np.ndarray:
    """Return the ids [height, width] of a mask of 1, 8, 16 or 32 bits, grey or with a palette.

    Raises OSError for what is broken, and for a picture in colours.
    """
    image = ImageOps.exif_transpose(open_image(value))
    if image.mode in ("RGB", "RGBA"):
        pixels = np.asarray(image)[..., :3]
        if (pixels != pixels[..., :1]).any():
            raise OSError(
                "it has colours, so it is a photo or a drawing: a mask holds the id of a class in each pixel, as a grey "
                "PNG or one with a palette"
            )
        return pixels[..., 0]
    pixels = np.asarray(image.getchannel(0) if image.mode == "LA" else image)
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
        raise OSError(f"its pixels ({image.mode}) are no ids of classes: save it as a grey PNG or one with a palette")
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def read_mask(value: Any) -> Mask:
    """Look at every pixel of a mask once. Raises OSError as `mask_ids` does."""
    ids = mask_ids(value)
    return Mask(_file(value), tuple(np.unique(ids).tolist()), (ids.shape[1], ids.shape[0]))


def _file(value: Any) -> dict[str, Any]:
    if isinstance(value, Image.Image):
        raise OSError("it is no file")
    return {"bytes": value.get("bytes"), "path": value.get("path")}


@dataclass(frozen=True)
class MaskFacts:
    """What `hftl doctor` knows of one mask."""

    ids: tuple[int, ...] = ()  # of classes that occur
    fault: str | None = None  # why it cannot be used
    digest: bytes | None = None  # equal for the same file


def look_at_masks(values: Sequence[Any], where: str) -> list[Mask | str | None]:
    """Return every mask, None where there is none, and of one that cannot be used the reason."""

    def look(value: Any) -> Mask | str | None:
        if value is None:
            return None
        try:
            return read_mask(value)
        except OSError as error:
            return f"{Path(value.get('path') or 'a mask').name} is no mask: {error}"

    return list(in_threads(look, values, len(values), f"checking masks ({where})"))


def read_masks(values: Sequence[Any], where: str) -> list[Mask | None]:
    """Return every mask, None where there is none. Raises `DataError` for one that cannot be used."""
    masks = look_at_masks(values, where)
    wrong = next((one for one in masks if isinstance(one, str)), None)
    if wrong is not None:
        raise DataError(f"{where}: {wrong}")
    return [one for one in masks if not isinstance(one, str)]


def upright_size(value: Any) -> tuple[int, int]:
    """Return width and height of an image as `decode_image` turns it, without its pixels. Raises OSError."""
    image = open_image(value)
    turned = image.getexif().get(_ORIENTATION, 1) >= _ON_ITS_SIDE
    return (image.height, image.width) if turned else image.size


def size_faults(images: Sequence[Any], masks: Sequence[Any]) -> dict[int, str]:
    """Return which masks have another size than their image, and why they cannot be used."""
    faults = {}
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if isinstance(mask, Mask) and (size := upright_size(image)) != mask.size:
            wide, high = mask.size
            faults[i] = f"{mask.name} is {wide} x {high} pixels and its image {size[0]} x {size[1]}"
    return faults


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes that labels.txt (one a line) or id2label.json of a folder gives; () without one.

    Raises `DataError` for a file that holds anything else.
    """
    path = next((folder / name for name in NAMES_FILES if (folder / name).is_file()), None)
    if path is None:
        return ()
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".txt":
        return _checked([line.strip() for line in text.splitlines() if line.strip()], path.name)
    try:
        by_id = {int(key): str(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        raise DataError(f'{path.name} is not {{"0": "background", "1": ...}}: a name for every id') from None
    if sorted(by_id) != list(range(len(by_id))):
        raise DataError(f"{path.name} has to name every id from 0 to {max(by_id, default=0)}")
    return _checked([by_id[i] for i in range(len(by_id))], path.name)


def _checked(names: list[str], where: str) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where} names {double!r} twice: every class needs a name of its own")
    return tuple(names)


def read_mask_tree(folder: Path) -> Source | None:
    """Read a folder with `images` and `masks` side by side, splits around them or in them; None for any other one.

    Raises `DataError` for masks without images.
    """
    splits = [child for child in sorted(folder.iterdir()) if child.is_dir() and exact_split(child.name)]
    homes = {child.name: pair for child in splits if (pair := _side_by_side(child)) is not None}
    around = _side_by_side(folder)
    if around is not None:
        images, masks = around
        within = [child.name for child in sorted(images.iterdir()) if child.is_dir() and exact_split(child.name)]
        homes = {name: (images / name, masks / name) for name in within} or {"train": around}
    if not homes:
        return None
    source = Source({}, folder.resolve().name, folder, classes=names_in(folder))
    for split, (images, masks) in homes.items():
        pairs = _pairs(images_in(images), images_in(masks), split)
        names = [image.relative_to(images).as_posix() for image, _ in pairs]
        source.tables[split] = image_table(
            [image for image, _ in pairs], names, None, [_stored(mask) for _, mask in pairs]
        )
    return source


def _stored(mask: Path | None) -> dict[str, Any] | None:
    return None if mask is None else {"bytes": None, "path": str(mask)}


def _side_by_side(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in a folder; None unless it has both."""
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
    homes = (folder / name for name in MASK_FOLDERS if (folder / name).is_dir())
    masks = next((home for home in homes if has_images(home)), None)  # `annotations` may hold a COCO file
    return None if images is None or masks is None else (images, masks)


def _pairs(images: Sequence[Path], masks: Sequence[Path], where: str) -> list[tuple[Path, Path | None]]:
    """Return each image with the mask of the same name, None where it has none."""
    by_name: dict[str, Path] = {}
    for mask in masks:
        if mask.stem in by_name:
            raise DataError(f"{where}: {by_name[mask.stem].name} and {mask.name} are masks of one image: keep one")
        by_name[mask.stem] = mask
    alone = sorted(by_name.keys() - {image.stem for image in images})
    if alone:
        count = f"{len(alone)} mask{'s have' if len(alone) > 1 else ' has'} no image"
        raise DataError(
            f"{where}: {count}, such as {by_name[alone[0]].name}: an image and its mask have the same name"
        )
    return [(image, by_name.get(image.stem)) for image in images]


def class_names(ids: set[int], known: Sequence[str], ignored: int | None) -> tuple[str, ...]:
    """Return the names of the classes that the ids of all masks stand for, "class 0" and so on where none are given.

    Raises `DataError` for more ids than classes, for instances and for one class alone.
    """
    counted = sorted(ids - {ignored})
    hint = "with --mask_values binary every pixel above 0 is the one class"
    if not counted:
        said = f"every pixel has the id {ignored}, which is not counted" if ids else "there is none that can be used"
        raise DataError(f"no mask holds a pixel that is counted: {said}")
    if known and counted[-1] >= len(known):
        raise DataError(
            f"the masks hold the id {counted[-1]}, and the names of the classes end at {len(known) - 1} ({known[-1]!r}): "
            f"correct the names; where the ids count objects, {hint}"
        )
    if len(counted) < 2:
        skipped = f", as {ignored} is not counted" if ignored in ids else ""
        raise DataError(f"the masks hold one class alone (the id {counted[0]}{skipped}); {hint}")
    if len(counted) > MOST_IDS or (not known and counted[-1] >= _SPARSE * len(counted)):
        raise DataError(
            f"the masks hold {len(counted):,} ids up to {counted[-1]:,}: these count objects or are grey levels; {hint}"
        )
    return tuple(known) or tuple(f"class {i}" for i in range(counted[-1] + 1))
