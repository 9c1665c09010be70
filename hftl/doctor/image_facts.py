"""What the checks need to know of an image, found in one pass: an image is opened once and its pixels are let go."""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from hftl.data.images import decode_image
from hftl.surroundings import progress


THUMB = 32  # pixels per side of the grey copy that near duplicates are found with
_ENDS = 65536  # bytes
_BATCH = 256  # a pool takes in all it is given at once, bytes and all


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """One image: what its header, its file and its pixels say."""

    missing: bool = False  # no image at all in this row
    fault: str | None = None  # why it cannot be decoded
    width: int = 0
    height: int = 0
    mode: str = ""  # Pillow's, before the conversion to RGB
    frames: int = 1
    file_bytes: int = 0
    path: str = ""  # of the file, where there is one
    digest: bytes | None = None  # of size and RGB pixels; of the file's bytes where pixels were not decoded
    thumb: np.ndarray | None = None  # [THUMB, THUMB] uint8, grey

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return Path(self.path).name


def image_facts(values: Iterable[Any], size: int, title: str) -> list[ImageFacts]:
    """Decode every image once and return what there is to know; a broken one has a `fault`.

    `values` are dicts of bytes and path, bytes, paths, PIL images, or None.
    """
    return _in_threads(_examine, values, size, title)


def file_facts(values: Iterable[Any], size: int, title: str) -> list[ImageFacts]:
    """Read headers and files only: no pixels, no thumbs, and broken images pass unless their header is broken."""
    return _in_threads(_examine_file, values, size, title)


def told_apart(facts: list[ImageFacts], values: Iterable[Any]) -> list[ImageFacts]:
    """Return facts whose digests are those of whole files where size, beginning and end of several are equal."""
    counts = Counter(fact.digest for fact in facts if fact.digest is not None)
    doubtful = {digest for digest, count in counts.items() if count > 1}
    if not doubtful:
        return facts
    return [
        replace(fact, digest=_whole_digest(value)) if fact.digest in doubtful else fact
        for fact, value in zip(facts, values, strict=True)
    ]


def add_thumbs(facts: list[ImageFacts], values: Iterable[Any], title: str) -> list[ImageFacts]:
    """Return the facts with thumbs, from a decoding that JPEG does at a fraction of the size and of the time."""
    thumbs = _in_threads(_quick_thumb, values, len(facts), title)
    return [replace(fact, thumb=thumb) for fact, thumb in zip(facts, thumbs, strict=True)]


def _in_threads(examine: Any, values: Iterable[Any], size: int, title: str) -> list[Any]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = (result for batch in _batches(values) for result in pool.map(examine, batch))
        return list(progress(results, title, "image", total=size))


def _batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(values)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _path_of(value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else value if isinstance(value, (str, os.PathLike)) else None
    return str(path or "")


def _content(value: Any) -> bytes | None:
    """Return the bytes that the table holds of the image's file; None where it holds but a path, or pixels."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return bytes(content) if isinstance(content, (bytes, bytearray, memoryview)) else None


def _is_missing(value: Any) -> bool:
    """Tell whether there is no image at all: neither bytes nor a path."""
    empty = isinstance(value, dict) and value.get("bytes") is None and not value.get("path")
    return value is None or value == "" or empty


def _open(value: Any) -> PILImage.Image:
    if isinstance(value, PILImage.Image):
        return value
    content = _content(value)
    return PILImage.open(_path_of(value) if content is None else BytesIO(content))


def _known(value: Any) -> dict[str, Any]:
    """Return what file and header say; of an image that cannot even be opened, only its path and bytes."""
    path, content = _path_of(value), _content(value)
    size = len(content) if content is not None else Path(path).stat().st_size if Path(path).is_file() else 0
    known: dict[str, Any] = {"path": path, "file_bytes": size}
    try:
        with contextlib.ExitStack() as stack:
            image = _open(value)
            if image is not value:  # a file that is closed here; an image in memory is the user's own
                stack.enter_context(image)
            frames = int(getattr(image, "n_frames", 1))  # only formats that can hold several have it
            return {**known, "width": image.width, "height": image.height, "mode": image.mode, "frames": frames}
    except Exception:  # Pillow raises many kinds; decoding finds the fault again and reports it
        return known


def _examine(value: Any) -> ImageFacts:
    if _is_missing(value):
        return ImageFacts(missing=True)
    known = _known(value)
    try:
        image = decode_image(value)
    except OSError as error:
        return ImageFacts(fault=str(error), **known)
    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return ImageFacts(digest=digest.digest(), thumb=_thumb(image), **known)


def _examine_file(value: Any) -> ImageFacts:
    if _is_missing(value):
        return ImageFacts(missing=True)
    known = _known(value)
    if "width" not in known:
        return ImageFacts(fault="not an image file, or one of an unknown format", **known)
    return ImageFacts(digest=_ends_digest(value, known["file_bytes"]), **known)


def _ends_digest(value: Any, size: int) -> bytes:
    """Return a digest of the file's size, beginning and end, so that most large files stay unread."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with _file(value) as file:
        digest.update(file.read(_ENDS))
        file.seek(max(size - _ENDS, 0))
        digest.update(file.read(_ENDS))
    return digest.digest()


def _whole_digest(value: Any) -> bytes:
    with _file(value) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _file(value: Any) -> BytesIO | BufferedReader:
    content = _content(value)
    return BytesIO(content) if content is not None else Path(_path_of(value)).open("rb")


def _thumb(image: PILImage.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((THUMB, THUMB), PILImage.Resampling.BOX))


def _quick_thumb(value: Any) -> np.ndarray | None:
    try:
        image = _open(value)
        image.draft("RGB", (2 * THUMB, 2 * THUMB))  # JPEG only: decode at 1/2, 1/4 or 1/8 of the size
        return _thumb(decode_image(image))
    except Exception:  # broken images are the business of another check
        return None
