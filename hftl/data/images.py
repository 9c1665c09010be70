"""Images: decoding, the check that finds broken files, and folders of images."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from hftl.data.splits import exact_split
from hftl.errors import DataError
from hftl.surroundings import progress


# fmt: off
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif", ".ico",
)
# fmt: on
MAX_PIXELS = 50_000_000  # of an image: more than any camera's, and 150 MB in memory; a small file may hold many more
warnings.filterwarnings("ignore", category=PILImage.DecompressionBombWarning)  # the limit above speaks for itself
_BATCH = 256
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def open_image(value: Any) -> PILImage.Image:
    """Open the image without reading its pixels, which is where most broken files still look fine.

    Raises OSError for one with more than `MAX_PIXELS`.
    """
    image = _opened(value)
    if image.width * image.height > MAX_PIXELS:
        raise OSError(f"too large: {image.width} x {image.height} pixels, at most {MAX_PIXELS / 1e6:.0f} million")
    return image


def _opened(value: Any) -> PILImage.Image:
    if isinstance(value, PILImage.Image):
        return value
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return PILImage.open(BytesIO(bytes(value)))
    if isinstance(value, (str, os.PathLike)):
        if not Path(value).is_file():
            raise OSError("no such file")
        return PILImage.open(value)
    raise OSError("no image" if value is None else f"not an image but {type(value).__name__}")


def _has_sixteen_bits(image: PILImage.Image) -> bool:
    """Tell "I;16" and its kin always, "I" (32 bits, often an eight-bit image in disguise) by its values."""
    if image.mode.startswith("I;16"):
        return True
    return image.mode == "I" and int(np.asarray(image).max(initial=0)) > 255


def _to_eight_bits(image: PILImage.Image) -> PILImage.Image:
    """Scale 0..65535 to 0..255; Pillow's own conversion clips at 255, which leaves a white image."""
    pixels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return PILImage.fromarray(((pixels + 128) // 257).astype(np.uint8))


def decode_image(value: Any) -> PILImage.Image:
    """Return the image upright and in RGB, pixel for pixel as `transformers.image_utils.load_image` does.

    The one difference: images of 16 bits are scaled to eight instead of clipped.

    Args:
        value: a dict with "bytes" or "path", bytes, a path, or a PIL image.

    Raises:
        OSError: the image is broken, missing or of no known format; the message says which.
    """
    try:
        image = ImageOps.exif_transpose(open_image(value))
        if _has_sixteen_bits(image):
            image = _to_eight_bits(image)
        return image.convert("RGB")
    except UnidentifiedImageError:
        raise OSError("not an image file, or one of an unknown format") from None
    except OSError as error:
        raise OSError(_reason(error)) from error
    except Exception as error:  # Pillow's decoders raise SyntaxError, ValueError, struct.error, DecompressionBombError
        raise OSError(f"broken image: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def mode_and_size(value: Any) -> tuple[str, int, int]:
    """Return Pillow's mode ("RGB", "L", ...), width and height of an image that `decode_image` reads, without its pixels.

    Raises:
        OSError: the image is broken or missing.
    """
    image = open_image(value)
    return image.mode, image.width, image.height


def is_sixteen_bit(value: Any) -> bool:
    """Tell whether `decode_image` scales this image from 16 bits to eight.

    Raises:
        OSError: the image is broken or missing.
    """
    try:
        return _has_sixteen_bits(open_image(value))
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"broken image: {_reason(error)}") from error


def _fault(value: Any) -> str | None:
    """Return why the image cannot be decoded, or None."""
    try:
        decode_image(value)
    except OSError as error:
        return str(error)
    return None


def in_threads(function: Callable[[Any], Any], images: Iterable[Any], size: int, title: str) -> Iterator[Any]:
    """Yield what the function returns for each image, a few hundred at a time: a pool takes in all that it is given."""
    rest = iter(images)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        batches = iter(lambda: list(islice(rest, _BATCH)), [])
        yield from progress(
            (result for batch in batches for result in pool.map(function, batch)), title, "image", size
        )


def check_images(images: Iterable[Any], size: int, where: str, strict: bool) -> tuple[list[int], list[str]]:
    """Decode every image once; return the positions of the good ones and "path: reason" for the broken ones.

    Raises:
        DataError: none can be read, or one cannot and `strict` is set.
    """
    good: list[int] = []
    skipped: list[str] = []

    def examine(value: Any) -> tuple[str | None, str | None]:
        return (value.get("path") if isinstance(value, dict) else None), _fault(value)

    results = in_threads(examine, images, size, f"checking images ({where})")
    for position, (path, fault) in enumerate(results):
        if fault is None:
            good.append(position)
            continue
        skipped.append(f"{path or f'{where} row {position}'}: {fault}")
        if strict:
            raise DataError(f"broken image {skipped[0]}: repair or remove it, or leave strict off to skip such images")
    if skipped and not good:
        raise DataError(f"none of the {size} images of {where} can be read; the first: {skipped[0]}")
    return good, skipped


@dataclass
class ImageTree:
    """What a folder of images holds: one table per split, and what is odd about it."""

    tables: dict[str, Dataset] = field(default_factory=dict)
    metadata: dict[str, Path] = field(default_factory=dict)  # splits that a metadata file describes; read elsewhere
    empty_classes: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def has_images(folder: Path) -> bool:
    """Tell whether any image lies in the folder, at any depth."""
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for _, _, names in os.walk(folder) for name in names)


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))


def _images_under(folder: Path) -> list[Path]:
    """Return the images at any depth, sorted; hidden files (macOS leaves "._x.jpg") are none."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def image_table(paths: Sequence[Path], names: Sequence[str], labels: Sequence[str] | None) -> Dataset:
    """Return a table of image paths with their file names, and labels where there are any."""
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": None, "path": str(path)} for path in paths],
        "file_name": list(names),
    }
    features = {"image": Image(decode=False), "file_name": Value("string")}
    if labels is not None:
        columns["label"] = list(labels)
        features["label"] = Value("string")
    return Dataset.from_dict(columns, features=Features(features))


def _read_split(folder: Path, split: str, tree: ImageTree) -> None:
    """Put the images of one split into `tree`: a metadata file, else class folders, else unlabelled images."""
    for name in METADATA_NAMES:
        if (folder / name).is_file():
            tree.metadata[split] = folder / name
            return
    paths: list[Path] = []
    labels: list[str] = []
    for child in _children(folder):
        images = _images_under(child)
        paths += images
        labels += [child.name] * len(images)
        if not images:
            tree.empty_classes.setdefault(split, []).append(child.name)
    if not paths:
        flat = _images_under(folder)
        tree.tables[split] = image_table(flat, [str(path.relative_to(folder)) for path in flat], None)
        return
    loose = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if loose:
        tree.warnings.append(f"{len(loose)} images of {split} lie outside the class folders and are left out")
    tree.tables[split] = image_table(paths, [path.relative_to(folder).as_posix() for path in paths], labels)


def read_image_tree(folder: Path) -> ImageTree:
    """Read a folder of images: with or without split folders, with class folders or a metadata file.

    Subfolders are splits when one is called train, or when all bear names of splits; otherwise they are classes.
    """
    tree = ImageTree()
    children = _children(folder)
    splits = {child: exact_split(child.name) for child in children}
    if "train" in splits.values() or (children and all(splits.values())):
        for child, split in splits.items():
            if split is not None and has_images(child):
                _read_split(child, child.name, tree)
    else:
        _read_split(folder, "train", tree)
    return tree
