"""Images that are larger than what the model was trained on: answered in overlapping windows."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F


# Neighbouring windows share a third of their side, as in mmsegmentation's configurations for sliding windows (769 with a
# stride of 513, 512 with 341).
_SHARED = 1 / 3
_AT_ONCE = 4  # windows of one forward pass


def in_windows(model: Callable[..., Any], side: int, **batch: Any) -> Any:
    """Answer images [b, 3, height, width] in windows of `side` pixels; where windows overlap, take the mean of the logits.

    Returns the model's output with maps [b, classes, height, width]. The last windows of a row and of a column end with
    the image. An image with a side shorter than a window's is filled up with zeros, which answer nothing.
    """
    if getattr(model, "whole", False):
        return model(**batch)
    pixels = batch.pop("pixel_values")
    height, width = pixels.shape[-2:]
    pixels, places = filled(pixels, side, 0.0), places_of(height, width, side)
    total: Any = None
    count: Any = None
    for begin in range(0, len(places), _AT_ONCE):
        group = places[begin : begin + _AT_ONCE]
        output = model(pixel_values=torch.cat([pixels[..., y : y + side, x : x + side] for y, x in group]), **batch)
        maps = F.interpolate(output["logits"].float(), size=(side, side), mode="bilinear", align_corners=False)
        if total is None:
            total = maps.new_zeros((len(pixels), maps.shape[1], *pixels.shape[-2:]))
            count = maps.new_zeros(pixels.shape[-2:])
        for (y, x), part in zip(group, maps.split(len(pixels)), strict=True):
            total[..., y : y + side, x : x + side] += part
            count[y : y + side, x : x + side] += 1
    output["logits"] = (total / count)[..., :height, :width]
    return output


def filled(values: torch.Tensor, side: int, value: float) -> torch.Tensor:
    """Return an image or a mask [..., height, width] of at least `side` pixels, filled up on the right and at the bottom."""
    height, width = values.shape[-2:]
    return F.pad(values, (0, max(0, side - width), 0, max(0, side - height)), value=value)


def places_of(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """Return where the windows of an image begin, (y, x), in the order in which they are read."""
    return [(y, x) for y in starts(max(side, height), side) for x in starts(max(side, width), side)]


def starts(length: int, side: int) -> list[int]:
    """Return where windows of `side` begin along `length`, evenly, so that neighbours share a third or more."""
    step = max(1, int(side * (1 - _SHARED)))
    gaps = -(-(length - side) // step)
    return [round(i * (length - side) / gaps) for i in range(gaps + 1)] if gaps > 0 else [0]
