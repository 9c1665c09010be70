"""Masks: pictures whose pixels are ids of classes, read as they are stored and never through RGB."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hftl.data.images import in_threads, open_image
from hftl.errors import DataError


NAMES_FILES = ("labels.txt", "classes.txt", "id2label.json", "_classes.csv")  # the last one is Roboflow's: id, name
_COLOUR = r"(?P<colour>\d+[ ,]+\d+[ ,]+\d+)"
COLOUR_FILES = {  # of CVAT, of many sets on Kaggle, and of CamVid: a class a line, from id 0 on, with its colour
    "labelmap.txt": re.compile(rf"(?P<name>[^:#]+):{_COLOUR}:.*"),
    "class_dict.csv": re.compile(rf'"?(?P<name>[^"]+?)"?\s*,\s*{_COLOUR}'),
    "label_colors.txt": re.compile(rf"{_COLOUR}\s+(?P<name>.+)"),
}
IGNORED = 255  # not counted by default: what VOC, ADE20K and Cityscapes leave unlabelled
MOST_IDS = 255  # classes that are believed; more are instances or a photo
_NEEDED = "a mask holds the id of a class in each pixel, as a grey PNG or one with a palette"
_ORIENTATION, _ON_ITS_SIDE = 274, 5  # the tag of EXIF, and from which value on a picture lies on its side
_GREY, _BLOCK = (
    16,
    8,
)  # JPEG blurs within blocks of 8 x 8 pixels; a block with every pixel further from black and white
# than this is a grey area. None in 640 JPEG files (quality 20 to 95, half to four times the size) of nuclei masks; ours
_LAST = 65535  # the largest id of 16 bits: often "not counted", as 255 is in 8 bits
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
    """Return the ids [height, width] of a mask of 1, 8, 16 or 32 bits, grey or with a palette; negative: not counted.

    Raises OSError for what is broken, for a picture in colours, and for a JPEG file of other pixels than black and white.
    """
    opened = open_image(value)
    image = ImageOps.exif_transpose(opened)
    if image.mode in ("LA", "RGBA"):
        extrema: Any = image.getextrema()
        *colours, (low, high) = extrema
        if low < high and all(least == most for least, most in colours):
            raise OSError(f"it is of one colour, and only its transparency differs, which is not read: {_NEEDED}")
    if image.mode in ("RGB", "RGBA"):
        pixels = np.asarray(image)[..., :3]
        if (pixels != pixels[..., :1]).any():
            few = image.convert("RGB").getcolors(MOST_IDS)
            if few is None:
                raise OSError(f"it has colours, so it is a photo: {_NEEDED}")
            fix = "name each in labelmap.txt beside the folders (cell:255,0,0: and so on), or save ids"
            raise OSError(
                f"it has colours, {len(few)} in RGB, which say no ids: {fix} as a grey PNG or one with a palette"
            )
        pixels = pixels[..., 0]
    else:
        pixels = np.asarray(image.getchannel(0) if image.mode == "LA" else image)
    if opened.format == "JPEG":
        if _has_grey(pixels):
            raise OSError("JPEG files blur ids: save it as PNG (black and white alone can be told apart in them)")
        pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
    if pixels.dtype.kind == "f" and (pixels == np.rint(pixels)).all() and np.abs(pixels).max(initial=0) < 2**31:
        pixels = pixels.astype(np.int32)
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
        raise OSError(f"its pixels ({image.mode}) are no ids of classes: {_NEEDED}")
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _has_grey(pixels: np.ndarray) -> bool:
    """Whether a picture holds more than black and white with the greys that JPEG leaves along their edges."""
    high, wide = (size - size % _BLOCK for size in pixels.shape)
    blocks = pixels[:high, :wide].reshape(high // _BLOCK, _BLOCK, wide // _BLOCK, _BLOCK)
    grey = (blocks.min((1, 3)) >= _GREY) & (blocks.max((1, 3)) <= 255 - _GREY)
    return bool(grey.any()) or 0 < pixels.max(initial=0) < 128


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
            name, reason = Path(value.get("path") or "a mask").name, str(error)
            reason = "it cannot be read as an image" if isinstance(error, UnidentifiedImageError) else reason
            return f"{name} is no mask: {reason}"

    return list(in_threads(look, values, len(values), f"checking masks ({where})"))


def upright_size(value: Any) -> tuple[int, int]:
    """Return width and height of an image as `decode_image` turns it, without its pixels. Raises OSError."""
    image = open_image(value)
    turned = image.getexif().get(_ORIENTATION, 1) >= _ON_ITS_SIDE
    return (image.height, image.width) if turned else image.size


def mask_faults(images: Sequence[Any], masks: Sequence[Any]) -> dict[int, str]:
    """Return which masks are broken or have another size than their image, and why they cannot be used."""
    faults = {i: f"with a broken mask: {mask}" for i, mask in enumerate(masks) if isinstance(mask, str)}
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if isinstance(mask, Mask) and (size := upright_size(image)) != mask.size:
            turned = ", which its EXIF tag turns" if open_image(image).size == mask.size else ""
            (wide, high), where = mask.size, "with a mask of another size"
            faults[i] = f"{where}: {mask.name} is {wide} x {high} pixels and its image {size[0]} x {size[1]}{turned}"
    return faults


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes that labels.txt or another of `NAMES_FILES` gives; () without one.

    A line holds a name, or its id and the name. Raises `DataError` for a file that holds anything else.
    """
    path = next((folder / name for name in NAMES_FILES if (folder / name).is_file()), None)
    if path is None:
        return tuple(colours_in(folder))
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".txt":
        names = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        numbered = [re.fullmatch(r"(\d+)\s*[\s:=,;]\s*(.+)", name) for name in names]
        if all(one and int(one[1]) == i for i, one in enumerate(numbered)):  # 0: ground
            names = [one[2] for one in numbered if one]
        return _checked(names[names[:1] == ["__ignore__"] :], path.name)  # labelme's line of the id -1
    try:
        lines = [line.partition(",") for line in text.splitlines()[1:] if line.strip()]
        pairs = [(key, name.strip()) for key, _, name in lines] if path.suffix == ".csv" else json.loads(text).items()
        by_id = {int(key): str(value) for key, value in pairs}
    except (ValueError, AttributeError):
        like = "an id and a name on each line" if path.suffix == ".csv" else '{"0": "background", "1": ...}'
        raise DataError(f"{path.name} cannot be read: it has to hold {like}") from None
    if sorted(by_id) != list(range(len(by_id))):
        raise DataError(f"{path.name} has to name every id from 0 to {max(by_id, default=0)}")
    return _checked([by_id[i] for i in range(len(by_id))], path.name)


def colours_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the classes that one of `COLOUR_FILES` names, each with its colour (red, green, blue); {} without such a file.

    Raises `DataError` where two have the same name or colour.
    """
    path = next((folder / name for name in COLOUR_FILES if (folder / name).is_file()), None)
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path is not None else []
    found = [one for line in lines if path and (one := COLOUR_FILES[path.name].fullmatch(line.strip()))]
    names = _checked([one["name"].strip() for one in found], path.name if path else "")
    colours = [tuple(map(int, re.findall(r"\d+", one["colour"]))) for one in found]
    if len({*colours}) < len(colours):
        raise DataError(
            f"{path.name if path else ''} gives two classes the same colour: every class needs one of its own"
        )
    return dict(zip(names, colours, strict=True))


def painted_ids(value: Any, colours: Sequence[tuple[int, ...]]) -> np.ndarray | None:
    """Return the ids [height, width] of a mask in RGB, the places of its colours in a list; None for every other mask, and
    for one with another colour. Raises OSError for a broken one.
    """
    image = ImageOps.exif_transpose(open_image(value))
    if image.mode not in ("RGB", "RGBA") or not colours:
        return None
    codes = np.asarray(image)[..., :3].astype(np.int32) @ np.array([2**16, 2**8, 1], dtype=np.int32)
    known = np.array(colours, dtype=np.int32) @ np.array([2**16, 2**8, 1], dtype=np.int32)
    order = np.argsort(known)
    places = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
    return places.astype(np.uint8) if (known[places] == codes).all() else None


def _checked(names: list[str], where: str) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where} names {double!r} twice: every class needs a name of its own")
    return tuple(names)


def _too_many(ids: Sequence[int], known: Sequence[str]) -> bool:
    return len(ids) > MOST_IDS or (not known and ids[-1] >= _SPARSE * len(ids))


def class_names(
    ids: Collection[int], known: Sequence[str], ignored: int | None, holders: Mapping[int, str] = MappingProxyType({})
) -> tuple[str, ...]:
    """Return the names of the classes that the ids of all masks stand for, "class 0" and so on where none are given.

    `holders` are names of files that hold each id. Raises `DataError` for more ids than classes, for instances and for one class alone.
    """
    counted = sorted(i for i in ids if i >= 0 and i != ignored)
    hint = "with --mask_values binary every pixel above 0 is the one class"
    if not counted:
        said = (
            f"every pixel has an id that is not counted ({sorted(ids)[-1]})"
            if ids
            else "there is none that can be used"
        )
        raise DataError(f"no mask holds a pixel that is counted: {said}")
    if known and counted[-1] >= len(known):
        lacking = counted[-1] == len(known) and counted[0] == 0
        fix = "the first one has to name the id 0, as the background" if lacking else "correct the names, or the mask"
        raise DataError(
            f"the masks hold the id {counted[-1]}{f' ({holders[counted[-1]]})' if counted[-1] in holders else ''}, and the "
            f"names of the classes end at {len(known) - 1} ({known[-1]!r}): {fix}; where the ids count objects, {hint}"
        )
    if len(counted) < 2:
        skipped = f", as {ignored} is not counted" if ignored in ids else ""
        raise DataError(f"the masks hold one class alone (the id {counted[0]}{skipped}); {hint}")
    if _too_many(counted, known):
        what = f"the masks hold {len(counted):,} ids up to {counted[-1]:,}"
        if counted[-1] == _LAST and len(counted) > 2 and not _too_many(counted[:-1], known):
            raise DataError(f"{what}: where the last one is not to be counted, add --ignore_index {counted[-1]}")
        raise DataError(f"{what}: these count objects or are grey levels; {hint}")
    return tuple(known) or tuple(f"class {i}" for i in range(counted[-1] + 1))
