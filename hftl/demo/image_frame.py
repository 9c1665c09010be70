"""Which part of an image a processor shows to the model, and a map of the model's input put back in its place."""

from typing import Any

import numpy as np
import torch
from PIL import Image


Box = tuple[float, float, float, float]


def model_pixels(processor: Any, image: Image.Image) -> torch.Tensor:
    """Return [1, channels, height, width] as the model reads the image."""
    return torch.from_numpy(np.stack([np.asarray(x) for x in processor([image])["pixel_values"]])).float()


def seen_box(processor: Any, size: tuple[int, int]) -> Box:
    """Return left, top, right, bottom of what the processor keeps of an image of (width, height), in its pixels.

    Read off the processor's answers to two pictures whose brightness is the column or the row, since every processor
    class resizes and crops in its own way. Beyond the image where the processor pads. A straight line is fitted through
    the middle of the brightness, where neither the padding nor the rounding at the ends is.
    """
    width, height = size
    columns = np.broadcast_to(np.linspace(0, 255, width)[None, :], (height, width))
    rows = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    left, right = _ends(_answer(processor, columns).mean(0), width)
    top, bottom = _ends(_answer(processor, rows).mean(1), height)
    return left, top, right, bottom


def _answer(processor: Any, plane: np.ndarray) -> np.ndarray:
    image = Image.fromarray(plane.round().astype(np.uint8)).convert("RGB")
    out = processor([image], do_rescale=False, do_normalize=False)["pixel_values"][0]
    return np.asarray(out, dtype=np.float64)[0]


def _ends(values: np.ndarray, length: int) -> tuple[float, float]:
    """Return where the processor's output begins and ends along one axis of `length` pixels."""
    places = np.arange(len(values)) + 0.5
    inside = (values > 20) & (values < 235)
    if length < 2 or inside.sum() < 2:
        return 0.0, float(length)
    slope, offset = np.polyfit(places[inside], values[inside], 1)
    if slope <= 0:
        return 0.0, float(length)
    # brightness 0 and 255 lie in the middle of the first and the last pixel
    first, last = (0.5 + (slope * at + offset) / 255 * (length - 1) for at in (0.0, float(len(values))))
    return float(first), float(last)


def put_back(heat: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Return `heat` [rows, columns] of the model's input as [height, width] of the image; 0 where it was cut off."""
    width, height = size
    left, top, right, bottom = box
    across, down = heat.shape[1] / (right - left), heat.shape[0] / (bottom - top)
    # one cell more on each side, so that the edge is not mixed with the nothing beyond it
    picture = Image.fromarray(np.pad(heat.astype(np.float32), 1, mode="edge"))
    placed = picture.transform(
        size,
        Image.Transform.AFFINE,
        (across, 0.0, 1 - left * across, 0.0, down, 1 - top * down),
        resample=Image.Resampling.BILINEAR,
    )
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    shown = ((y >= top) & (y <= bottom))[:, None] & ((x >= left) & (x <= right))[None, :]
    return np.where(shown, np.asarray(placed), 0).astype(np.float32)
