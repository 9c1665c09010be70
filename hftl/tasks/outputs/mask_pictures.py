"""Maps of classes as pictures: in the colours of a model's config, and as plain `pipeline` answers them."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


_GRID = 256  # pixels a side that are held beside those of another program: all of a small map, 65,536 of a large one
_SHOWN = 1024  # pixels a side of an image that is shown in a browser
_HALF = 128  # grey from which on a pixel of `pipeline`'s picture of a class, which holds 0 and 255, is of that class


# Black for the ground, and colours that can be told apart on dark and on bright images, also by those who see few: Paul
# Tol's "vibrant" and "bright" schemes (personal.sron.nl/~pault), strong ones first.
_DISTINCT = "000000 ee3377 33bbee ee7733 009988 ccbb44 0077bb aa3377 66ccee cc3311 228833 4477aa ee6677"


def colour_map(count: int) -> list[int]:
    """Return colours of so many classes, one after another, black first: `_DISTINCT`, then those of PASCAL VOC."""
    colours = [*bytes.fromhex(_DISTINCT)]
    for number in range(len(colours) // 3, count):
        rest, colour = number, [0, 0, 0]
        for place in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (rest >> channel & 1) << place
            rest >>= 3
        colours += colour
    return colours[: 3 * count]


def colours_of(config: Any, count: int) -> list[list[int]]:
    """Return the colours [red, green, blue] of so many classes: those of a model's config, else of `colour_map`."""
    values = colour_map(count)
    known = [list(colour) for colour in getattr(config, "palette", None) or []]
    return (known + [values[3 * i : 3 * i + 3] for i in range(len(known), count)])[:count]


def picture(answer: Any, config: Any) -> Image.Image:
    """Return the map as a picture of ids in the colours of `colours_of`."""
    image = Image.fromarray(answer.mask.astype(np.uint8 if answer.mask.max(initial=0) < 256 else np.uint16))
    if image.mode == "L":
        image.putpalette([value for colour in colours_of(config, 256) for value in colour])
    return image


def annotated(answer: Any, image: Image.Image, config: Any) -> tuple[Image.Image, list[tuple[np.ndarray, str]]]:
    """Return an image of at most `_SHOWN` pixels a side, and where in it each class is, the largest first.

    A class in black, as the ground is, is left out: it would hide the image.
    """
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    colours = colours_of(config, len(names))
    small = image.copy()
    small.thumbnail((_SHOWN, _SHOWN))
    ids = np.asarray(Image.fromarray(answer.mask.astype(np.int32)).resize(small.size, Image.Resampling.NEAREST))
    there = [i for i in map(names.index, answer.shares) if any(colours[i])]
    return small, [((ids == i).astype(np.float32), names[i]) for i in there]


def blended(image: Image.Image, answer: Any, config: Any) -> Image.Image:
    """Return the image with the colours of the classes half over it; black is not painted."""
    size = image.size
    colours = np.array(colours_of(config, config.num_labels), dtype=np.uint8)
    ids = Image.fromarray(answer.mask.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    over, under = colours[np.asarray(ids)], np.asarray(image.convert("RGB"))
    half = ((over.astype(np.uint16) + under) // 2).astype(np.uint8)
    return Image.fromarray(np.where(over.any(axis=-1, keepdims=True), half, under))


def on_grid(ids: np.ndarray) -> np.ndarray:
    """Return the ids of a map [height, width] on an even grid of its pixels, [pixels, 1] int16."""
    rows, columns = (np.linspace(0, side - 1, min(side, _GRID)).round().astype(int) for side in ids.shape)
    return ids[np.ix_(rows, columns)].reshape(-1, 1).astype(np.int16)


def assembled(answer: Sequence[dict[str, Any]], names: Sequence[str], row: Any) -> np.ndarray:
    """Return `on_grid` of the map that the entries of `pipeline` make up, whose masks are PNGs in base64.

    A pixel that is in no mask is -1.
    """
    ids = np.full((row.height, row.width), -1, dtype=np.int16)
    for entry in answer:
        mask = np.asarray(Image.open(BytesIO(base64.b64decode(entry["mask"]))))
        if mask.shape != ids.shape:
            return np.full((0, 1), -1, dtype=np.int16)  # of another size than its image: no pixel has its answer
        ids[mask >= _HALF] = names.index(entry["label"])
    return on_grid(ids)
