"""Images: decoding, the check that finds broken files, and folders of images."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from hftl.data.files import METADATA_NAMES, exact_split, has_images, images_in
from hftl.data.splits import Source
from hftl.errors import DataError
from hftl.terminal import progress


MAX_PIXELS = 50_000_000  # of an image: more than any camera's, and 150 MB in memory; a small file may hold many more
warnings.filterwarnings("ignore", category=PILImage.DecompressionBombWarning)  # the limit above speaks for itself
_BATCH = 256


def open_image(value: Any) -> PILImage.Image:
    """Open the image without reading its pixels, which is where most broken files still look fine.

    Raises OSError for what is no image, and for one with more than `MAX_PIXELS`.
    """
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = BytesIO(bytes(value))
    elif isinstance(value, (str, os.PathLike)) and not Path(value).is_file():
        raise OSError("no such file")
    elif not isinstance(value, (str, os.PathLike, PILImage.Image)):
        raise OSError("no image" if value is None else f"not an image but {type(value).__name__}")
    image = value if isinstance(value, PILImage.Image) else PILImage.open(value)
    if image.width * image.height > MAX_PIXELS:
        raise OSError(f"too large: {image.width} x {image.height} pixels, at most {MAX_PIXELS / 1e6:.0f} million")
    return image


def is_deep(image: PILImage.Image) -> bool:
    """Has it 16 bits or floats? "I;16" and its kin always; "I" (32 bits, often eight-bit in disguise) by its values."""
    return image.mode.startswith(("I;16", "F")) or (image.mode == "I" and int(np.asarray(image).max(initial=0)) > 255)


def _in_eight_bits(image: PILImage.Image) -> PILImage.Image:
    """Return an image of 16 bits, or of floats, scaled to eight: Pillow's own conversion clips at 0 and 255.

    Floats to 1 are shares of white, to 255 or 65,535 they are as many steps. Raises OSError for others.
    """
    pixels = np.asarray(image)
    if image.mode != "F":
        pixels = np.clip(pixels.astype(np.int64), 0, 65535)
        return PILImage.fromarray(((pixels + 128) // 257).astype(np.uint8))
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    white = next((top for top in (1, 255, 65535) if high <= top), 0)
    if not (low >= 0 and white):  # NaN, too
        raise OSError(f"its pixels are numbers from {low:.4g} to {high:.4g}: scale them to 0 to 255")
    return PILImage.fromarray((pixels * (255 / white) + 0.5).astype(np.uint8))


def decode_image(value: Any) -> PILImage.Image:
    """Return the image upright and in RGB, pixel for pixel as `transformers.image_utils.load_image` does.

    The one difference: images of 16 bits and of floats are scaled to eight instead of clipped. `value` is a dict with "bytes" or
    "path", bytes, a path, or a PIL image. Raises OSError when it is broken, missing or of no known format, saying which.
    """
    try:
        image = ImageOps.exif_transpose(open_image(value))
        image = _in_eight_bits(image) if is_deep(image) else image
        return image.convert("RGB")
    except UnidentifiedImageError:
        raise OSError("not an image file, or one of an unknown format") from None
    except Exception as error:  # Pillow's decoders raise SyntaxError, ValueError, struct.error, DecompressionBombError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(reason if isinstance(error, OSError) else f"broken image: {reason}") from error


def mode_and_size(value: Any) -> tuple[str, int, int]:
    """Return Pillow's mode ("RGB", "L", ...), width and height of an image that `decode_image` reads, without its pixels.

    Raises OSError when the image is broken or missing.
    """
    image = open_image(value)
    return image.mode, image.width, image.height


def in_threads(function: Callable[[Any], Any], images: Iterable[Any], size: int, title: str) -> Iterator[Any]:
    """Yield what the function returns for each image, a few hundred at a time: a pool takes in all that it is given."""
    rest = iter(images)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        batches = iter(lambda: list(islice(rest, _BATCH)), [])
        results = (result for batch in batches for result in pool.map(function, batch))
        yield from progress(results, title, "image", size)


def check_images(images: Iterable[Any], size: int, where: str, strict: bool) -> tuple[list[int], list[str]]:
    """Decode every image once; return the positions of the good ones and "path: reason" for the broken ones.

    Raises `DataError` when one cannot be read and `strict` is set.
    """
    good: list[int] = []
    skipped: list[str] = []

    def examine(value: Any) -> tuple[str | None, str | None]:
        path = value.get("path") if isinstance(value, dict) else None
        try:
            decode_image(value)
        except OSError as error:
            return path, str(error)
        return path, None

    results = in_threads(examine, images, size, f"checking images ({where})")
    for position, (path, fault) in enumerate(results):
        if fault is None:
            good.append(position)
            continue
        skipped.append(f"{path or f'{where} row {position}'}: {fault}")
        if strict:
            raise DataError(f"broken image {skipped[0]}: repair or remove it, or leave strict off to skip such images")
    return good, skipped


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))


def image_table(
    paths: Sequence[Path],
    names: Sequence[str],
    labels: Sequence[str | None] | None,
    masks: Sequence[dict[str, Any] | None] | None = None,
) -> Dataset:
    """Return a table of image paths with their file names, and labels or masks ({"bytes", "path"}) where there are any."""
    images = [{"bytes": None, "path": str(path)} for path in paths]
    columns: dict[str, list[Any]] = {"image": images, "file_name": list(names)}
    columns |= {} if labels is None else {"label": list(labels)}
    columns |= {} if masks is None else {"mask": list(masks)}
    features = {name: Value("string") for name in columns} | {"image": Image(decode=False)}
    features |= {} if masks is None else {"mask": Image(decode=False)}
    return Dataset.from_dict(columns, features=Features(features))


def read_image_tree(folder: Path, read_file: Callable[[Path], Dataset]) -> Source:
    """Read a folder of images: with or without split folders, with class folders or a metadata file.

    Subfolders are splits when one is called train, or when all bear names of splits; otherwise they are classes.
    `read_file` reads a metadata file.
    """
    source = Source({}, folder.resolve().name, folder)
    children = _children(folder)
    if len(children) == 1 and not images_in(folder, "*") and any(map(has_images, _children(children[0]))):
        return read_image_tree(children[0], read_file)  # an archive often holds one folder with everything
    splits = [exact_split(child.name) for child in children]
    if "train" in splits or (children and all(splits)):
        for child, split in zip(children, splits, strict=True):
            if split is not None and has_images(child):
                _read_split(child, child.name, source, read_file)
    else:
        _read_split(folder, "train", source, read_file)
    return source


def _read_split(folder: Path, split: str, source: Source, read_file: Callable[[Path], Dataset]) -> None:
    """Add the images of one split: of a metadata file, else of class folders, else without labels."""
    metadata = next((folder / name for name in METADATA_NAMES if (folder / name).is_file()), None)
    if metadata is not None:
        source.tables[split], source.bases[split] = read_file(metadata), folder
        return
    classes = {child.name: images_in(child) for child in _children(folder)}
    paths = [path for images in classes.values() for path in images]
    labels = [name for name, images in classes.items() for _ in images]
    empty = [name for name, images in classes.items() if not images]
    source.empty_classes.update({split: empty} if empty else {})
    loose = images_in(folder, "*")
    if paths and loose:
        source.warnings.append(f"{len(loose)} images of {split} lie outside the class folders and are left out")
        source.loose[split] = image_table(loose, [path.name for path in loose], [None] * len(loose))
    images = paths or loose
    names = [path.relative_to(folder).as_posix() for path in images]
    source.tables[split] = image_table(images, names, labels if paths else None)
