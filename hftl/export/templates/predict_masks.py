"""What predict.py needs beside to answer every pixel: a map of classes in the size of the image, as a PNG with colours."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from predict import config, image_feeds


ROWS = 64  # of the picture at a time: the scores of all classes at every pixel of a photo would fill the memory


def between(count, size):
    """For every pixel of `size` the two of `count` beside it and how near the second is, as PyTorch's interpolate has it."""
    at = np.clip((np.arange(size) + 0.5) * (count / size) - 0.5, 0, None)
    first = np.minimum(at.astype(int), count - 1)
    return first, np.minimum(first + 1, count - 1), (at - first).astype("f4")


def strips(logits, width, height):
    """Logits [classes, rows, columns] in another size, some rows at a time: where they begin, and [classes, some, width]."""
    (above, below, down), (left, right, across) = (
        between(*pair) for pair in zip(logits.shape[1:], (height, width), strict=True)
    )
    for start in range(0, height, ROWS):
        part = slice(start, start + ROWS)
        share = down[part, None]
        rows = logits[:, above[part]] * (1 - share) + logits[:, below[part]] * share
        yield start, rows[..., left] * (1 - across) + rows[..., right] * across


def enlarged(logits, width, height):
    """The likeliest class of every pixel [height, width], of logits [classes, rows, columns]."""
    ids = np.empty((height, width), np.uint8 if len(logits) <= 256 else np.uint16)
    for start, rows in strips(logits, width, height):
        ids[start : start + ROWS] = rows.argmax(0)
    return ids


def starts(length, side):
    """Where windows of `side` begin along `length`, evenly, so that neighbours share a third or more."""
    step = max(1, int(side * (1 - 1 / 3)))
    gaps = max(0, -(-(length - side) // step))
    return [round(i * (length - side) / max(1, gaps)) for i in range(gaps + 1)]


def in_windows(answer, pixels, side):
    """The logits [classes, height, width] of pixels [1, 3, height, width]: the mean of those of all windows."""
    height, width = pixels.shape[2:]
    high, wide = max(side, height), max(side, width)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, high - height), (0, wide - width)))
    total, count = None, np.zeros((high, wide), "f4")
    for y, x in [(y, x) for y in starts(high, side) for x in starts(wide, side)]:
        logits = answer(pixels[..., y : y + side, x : x + side])
        total = np.zeros((len(logits), high, wide), "f4") if total is None else total
        for start, rows in strips(logits, side, side):
            total[:, y + start : y + start + rows.shape[1], x : x + side] += rows
        count[y : y + side, x : x + side] += 1
    return (total / count)[:, :height, :width]


def pictures(inputs, graph):
    """For every image its map, as a picture whose pixels are ids of classes."""
    steps, palette = config()["preprocessing"], config()["palette"]

    def answer(pixels):
        return graph.run(["logits"], {"pixel_values": np.ascontiguousarray(pixels)})[0][0]

    for path, feed in zip(inputs, image_feeds(inputs, steps), strict=True):
        with Image.open(path) as image:
            size = ImageOps.exif_transpose(image).size
        pixels, side = feed["pixel_values"], steps.get("window")
        picture = Image.fromarray(enlarged(in_windows(answer, pixels, side) if side else answer(pixels), *size))
        if picture.mode == "L":
            picture.putpalette([value for colour in palette for value in colour])
        yield picture


def lines(inputs, graph, labels):
    """Write the picture of NAME.jpg as NAME.mask.png into the working folder; say what there is of each class."""
    names = [f"{Path(path).stem}.mask.png" for path in inputs]
    if len({*names}) < len(names):
        raise ValueError("Two images have the same name, so that their masks would be one file: answer them apart.")
    for name, picture in zip(names, pictures(inputs, graph), strict=True):
        picture.save(name)
        shares = np.bincount(np.asarray(picture).ravel(), minlength=len(labels)) / (picture.width * picture.height)
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
        yield f"{name}\t" + ", ".join(f"{labels[i]} {shares[i]:.4f}" for i in order)
