"""What the checks need to know of an image, seen in one pass; and which images are nearly the same.

A perceptual hash finds near duplicates, the grey pixels verify them. The hash is the usual DCT one (Zauner 2010,
Implementation and benchmarking of perceptual image hash functions): which of the low frequencies lie above their median.
Computed on all thumbs at once with scipy: imagehash hashes one image at a time and has no index, and the thumbs are needed
here to verify.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from datasets import Dataset
from PIL import Image as PILImage
from scipy.fft import dctn

from hftl.data.columns import name_stem
from hftl.data.images import decode_image, in_threads, open_image
from hftl.doctor.findings import NO_LABEL, SERIOUS, Facts, Feature, Finding, Kind, Records, warned
from hftl.doctor.texts import group_near
from hftl.evaluation.mirror import in_words, turned
from hftl.report.statements import counted


if TYPE_CHECKING:
    from hftl.tasks.task import Inputs  # it brings torch, which the checks do without


THUMB = 32  # pixels per side of the grey copy that near duplicates are looked for with
# In `hftl train`, pixels are looked at when all images together have at most so many (about two seconds).
_QUICK_PIXELS = 150_000_000
_SIDE = 8  # low frequencies per axis
# Bits in which the hashes of near duplicates differ at most. Six changed bits leave two of the eight bytes as they
# were, so each of the 28 pairs of bytes is a band: none within the six is missed, and buckets are small.
_MAX_BITS = 6
# Correlation of the grey thumbs from which two images are nearly the same, and the stricter one for images smaller
# than a thumb, which resemble each other more easily. Measured, see docs/doctor.md.
NEAR, NEAR_SMALL = 0.97, 0.99
_FLAT = 2.0  # standard deviation of grey below which an image has no structure to compare
_CHUNK = 8192
TINY = 32  # pixels: the smallest side that hftl reads images at
_STRETCHED = 5.0  # times as long as wide
_USUAL_MODES = ("RGB", "L", "P", "1")
_ONE_COLOUR = 1.0  # standard deviation of grey: one colour and nothing else
_NAMES = 3  # of groups to a class, below which they are only another word for it
OF_NAMES = ("the wording of the file name", "the number in the file name")


@dataclass(frozen=True, eq=False)
class ImageFacts(Facts):
    """One image: what its header, its file and its pixels say."""

    width: int = 0
    height: int = 0
    mode: str = ""  # Pillow's, before the conversion to RGB
    frames: int = 1
    file_bytes: int = 0
    thumb: np.ndarray | None = None  # [THUMB, THUMB] uint8, grey


def look(tables: Sequence[Dataset], inputs: "Inputs", quick: bool) -> list[ImageFacts]:
    """Return what there is to know of the images of these tables, broken ones included.

    Each is decoded once, and images are the same whose RGB pixels are. A `quick` look goes by the key of the
    inputs, that of the files, and decodes the images of small sets only.
    """

    def run(examine: Callable[[Any], ImageFacts], title: str) -> list[ImageFacts]:
        values = (row["image"] for table in tables for row in table)
        return list(in_threads(examine, values, sum(map(len, tables)), title))

    key = inputs.key
    if not quick:
        return run(look_at, "images")
    facts = run(lambda value: look_at(value, key, pixels=False), "files of the images")
    if sum(one.width * one.height for one in facts) > _QUICK_PIXELS:
        return facts
    return run(lambda value: look_at(value, key), "images")


def look_at(
    value: dict[str, Any] | None, key: Callable[[Any], bytes | None] | None = None, pixels: bool = True
) -> ImageFacts:
    """Return the facts of one image, a dict of bytes and path; by `key` where given, else by its pixels it is the same."""
    if value is None or (value["bytes"] is None and not value["path"]):
        return ImageFacts(missing=True)
    path, content = str(value["path"] or ""), value["bytes"]
    size = len(content) if content is not None else Path(path).stat().st_size if Path(path).is_file() else 0
    known: dict[str, Any] = {"path": path, "file_bytes": size, "own_file": content is None}
    with suppress(Exception), open_image(value) as image:  # decoding meets the fault again, and names it
        frames = int(getattr(image, "n_frames", 1))  # only formats that can hold several have it
        known |= {"width": image.width, "height": image.height, "mode": image.mode, "frames": frames}
    if not pixels:
        return ImageFacts(digest=key(value) if key and size else None, **known)
    try:
        image = decode_image(value)
    except OSError as error:
        return ImageFacts(fault=str(error), **known)
    grey = np.asarray(image.convert("L").resize((THUMB, THUMB), PILImage.Resampling.BOX))
    return ImageFacts(digest=key(value) if key else _digest(image), thumb=grey, **known)


def _digest(image: PILImage.Image) -> bytes:
    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


def features(facts: Sequence[ImageFacts]) -> list[Feature]:
    """Return what should not tell the label of an image.

    Of a file name these are its letters and its first number: "IMG_0042.jpg" is "IMG_#.jpg" and 42.
    """
    names = [Path(one.path).name for one in facts]
    numbers = [float(m.group()) if (m := re.search(r"\d{1,15}", name)) else None for name in names]
    return [
        ("the size of the file", [one.file_bytes for one in facts]),
        ("the width of the image", [one.width for one in facts]),
        ("the height of the image", [one.height for one in facts]),
        ("the mode of the image", [one.mode for one in facts]),
        (OF_NAMES[0], [re.sub(r"\d+", "#", name) for name in names]),
        (OF_NAMES[1], numbers),
    ]


def broken_images(records: Records) -> Finding:
    """Count the images that cannot be decoded, or at the start of a run those that loading left out."""
    if records.skipped:
        level = warned(fails=records.skipped >= SERIOUS * (len(records) + records.skipped))
        fix = "Repair or remove these files; they are left out, and named in the report."
        return Finding("broken_images", level, records.skipped, fix=fix)
    broken = records.where(lambda one: one.fault is not None)
    if not len(broken):
        return Finding("broken_images")
    share = max(len(rows) / records.within(split).sum() for split, rows in records.of(broken).items())
    absent = sum(not records.facts[i].file_bytes for i in broken)
    fix = f"Repair or remove these files ({absent} empty or not there): hftl leaves them out, and so does --fix OUT."
    return records.finding("broken_images", warned(fails=share >= SERIOUS), broken, fix)


def tiny_or_odd_images(records: Records) -> Finding:
    """Count the images of unusual size, shape or mode, those of several frames, and those of one colour."""
    oddities = {i: _oddities(one) for i, one in enumerate(records.facts) if one.fault is None and not one.missing}
    odd = np.array([i for i, kinds in oddities.items() if kinds], dtype=np.int64)
    if not len(odd):
        return Finding("tiny_or_odd_images")
    counts = Counter(chain(*oddities.values())).most_common()
    fix = (
        f"Check that these are the images you mean ({', '.join(f'{count:,}: {kind}' for kind, count in counts)}); all are "
        "read as RGB, enlarged or squeezed to one size."
    )
    return records.finding("tiny_or_odd_images", "WARN", odd, fix)


def _oddities(image: ImageFacts) -> list[str]:
    short, long = min(image.width, image.height), max(image.width, image.height)
    odd = {
        f"a side below {TINY} pixels": short < TINY,
        f"more than {_STRETCHED:g} times as long as wide": long > _STRETCHED * short,
        "several frames, of which the first is used": image.frames > 1,
        f"mode {image.mode}": image.mode not in _USUAL_MODES,
        "one colour only": image.thumb is not None and image.thumb.std() < _ONE_COLOUR and short > 1,
    }
    return [name for name, is_so in odd.items() if is_so]


def mirror_images(records: Records) -> Finding:
    """Count the classes that a mirror makes of each other, by their names or their grey thumbs; no model is asked."""
    seen = np.intersect1d(records.where(lambda one: one.thumb is not None), np.flatnonzero(records.label != NO_LABEL))
    thumbs = np.array([records.facts[i].thumb for i in seen]) if records.classes else None
    said = turned(records.labels, thumbs, records.label[seen])
    if not said:
        return Finding("mirror_images")
    fix = f"{in_words(said)}: training does not mirror them; beside a typed --augment, add --no_flip."
    return Finding("mirror_images", "INFO", len(said), fix=fix)


def file_groups(records: Records) -> Finding:
    """Count the groups that the names of image files tell ("obj12_003.jpg" is of "obj12"): of those in several splits
    the images, if there are any.

    A name that all images of a class share tells none: there must be three names to a class, and two images to a name.
    """
    own = records.where(lambda one: one.own_file)
    stems = [name_stem("/".join(Path(records.facts[i].path).parts[-2:])) for i in own]
    frame = pd.DataFrame({"stem": stems, "label": records.label[own], "split": records.split[own]})
    by_stem = frame.groupby("stem")
    several = frame["stem"][by_stem["label"].transform("size") > 1]
    if 2 * len(several) <= len(frame) or frame.groupby("label")["stem"].nunique().median() < _NAMES:
        return Finding("file_groups")
    advice = f"--group_column file_name keeps the images of each ({several.iloc[0]!r:.42}, ...) on one side of a cut"
    across = by_stem["split"].transform("nunique").to_numpy() > 1
    if not across.any():
        return Finding("file_groups", "INFO", several.nunique(), fix=f"File names tell groups: {advice}.")
    many = counted(frame["stem"][across].nunique(), "group lies", "groups lie")
    fix = f"By file names {many} in several splits, which makes the scores too good: {advice}."
    return records.finding("file_groups", "WARN", own[across], fix)


def near_groups(facts: Sequence[ImageFacts], quick: bool) -> np.ndarray | None:
    """Return the groups of images that look the same, or None where a quick look decoded none."""
    thumbs = [one.thumb for one in facts if one.thumb is not None]
    small = np.array([min(one.width, one.height) < THUMB for one in facts], dtype=bool)
    return near_image_groups(thumbs, small) if len(thumbs) == len(facts) else None


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


IMAGES = Kind(
    name="image",
    look=look,
    check_of_faults="broken_images",
    checks=(broken_images, tiny_or_odd_images, mirror_images, file_groups),
    groups=near_groups,
    alike="images that look alike",
    features=features,
)
