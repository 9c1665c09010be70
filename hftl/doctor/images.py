"""What the checks need to know of an image, found in one pass; and which images are nearly the same.

A perceptual hash finds near duplicates, the grey pixels verify them. The hash is the usual DCT one (Zauner 2010,
Implementation and benchmarking of perceptual image hash functions): which of the low frequencies lie above their median.
Computed on all thumbs at once with scipy: imagehash hashes one image at a time and has no index, and the thumbs are needed
here to verify.
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from scipy.fft import dctn

from hftl.data.images import decode_image
from hftl.doctor.near_texts import group_near
from hftl.surroundings import progress


THUMB = 32  # pixels per side of the grey copy that near duplicates are found with
_ENDS = 65536  # bytes
_BATCH = 256  # a pool takes in all it is given at once, bytes and all
_SIDE = 8  # low frequencies per axis
# Bits in which the hashes of near duplicates differ at most. Six changed bits leave two of the eight bytes as they
# were, so each of the 28 pairs of bytes is a band: none within the six is missed, and buckets are small.
_MAX_BITS = 6
# Correlation of the grey thumbs from which two images are nearly the same, and the stricter one for images smaller
# than a thumb, which resemble each other more easily. Measured, see docs/doctor.md.
NEAR, NEAR_SMALL = 0.97, 0.99
_FLAT = 2.0  # standard deviation of grey below which an image has no structure to compare
_CHUNK = 8192


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

    `values` are dicts of bytes and path (where there are no bytes), PIL images, or None.
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


def _is_missing(value: Any) -> bool:
    """Tell whether there is no image at all: neither bytes nor a path."""
    return value is None or (isinstance(value, dict) and value["bytes"] is None and not value["path"])


def _open(value: Any) -> PILImage.Image:
    if isinstance(value, PILImage.Image):
        return value
    return PILImage.open(value["path"] if value["bytes"] is None else BytesIO(value["bytes"]))


def _file(value: dict[str, Any]) -> BytesIO | BufferedReader:
    return Path(value["path"]).open("rb") if value["bytes"] is None else BytesIO(value["bytes"])


def _known(value: Any) -> dict[str, Any]:
    """Return what file and header say; of an image that cannot even be opened, only its path and bytes."""
    file = value if isinstance(value, dict) else {"bytes": None, "path": None}
    path, content = str(file["path"] or ""), file["bytes"]
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


def _thumb(image: PILImage.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((THUMB, THUMB), PILImage.Resampling.BOX))


def _quick_thumb(value: Any) -> np.ndarray | None:
    try:
        image = _open(value)
        image.draft("RGB", (2 * THUMB, 2 * THUMB))  # JPEG only: decode at 1/2, 1/4 or 1/8 of the size
        return _thumb(decode_image(image))
    except Exception:  # broken images are the business of another check
        return None


def near_image_groups(thumbs: Sequence[np.ndarray], small: np.ndarray) -> np.ndarray:
    """Return a group number per thumb [n] of grey uint8 [side, side]; images of one group look the same.

    `small` [n] tells the images with a side shorter than that of a thumb. Flat images, which have no structure, are in
    no group.
    """
    if len(thumbs) < 2:
        return np.arange(len(thumbs))
    pixels = np.stack(thumbs)
    bits = perceptual_hash(pixels)
    flat = pixels.reshape(len(pixels), -1).std(axis=1) < _FLAT

    def verify(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        near = ~flat[left] & ~flat[right] & ((bits[left] != bits[right]).sum(axis=1) <= _MAX_BITS)
        limit = np.where(small[left] | small[right], NEAR_SMALL, NEAR)
        near[near] = correlation(pixels, left[near], right[near]) >= limit[near]
        return near

    return group_near(_bands(bits), len(pixels), verify)


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Return the hash bits [n, 64] of grey images [n, side, side]."""
    bits = np.empty((len(pixels), _SIDE * _SIDE), dtype=bool)
    for start in range(0, len(pixels), _CHUNK):
        part = dctn(pixels[start : start + _CHUNK].astype(np.float32), axes=(1, 2), norm="ortho")
        low = part[:, :_SIDE, :_SIDE].reshape(len(part), -1)
        bits[start : start + _CHUNK] = low > np.median(low[:, 1:], axis=1, keepdims=True)  # without the mean grey
    return bits


def _bands(bits: np.ndarray) -> Iterator[np.ndarray]:
    packed = np.packbits(bits, axis=1).astype(np.uint16)  # [n, 8]
    for first, second in combinations(range(packed.shape[1]), 2):
        yield packed[:, first] * np.uint16(256) + packed[:, second]


def correlation(pixels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation [m] of the grey values of the pairs of images (left[i], right[i])."""
    result = np.empty(len(left))
    for start in range(0, len(left), _CHUNK):
        a, b = (_standardised(pixels[side[start : start + _CHUNK]]) for side in (left, right))
        result[start : start + _CHUNK] = (a * b).mean(axis=1)
    return result


def _standardised(pixels: np.ndarray) -> np.ndarray:
    values = pixels.reshape(len(pixels), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(values.std(axis=1, keepdims=True), 1e-6)
