"""Draw a heat map over an image."""

import numpy as np
from PIL import Image


# Seventeen of the 256 colours of "inferno" (Smith & van der Walt 2015, CC0), at equal distances: its lightness rises evenly,
# so that equal steps of heat look equal, in grey and to the colour-blind too. Straight lines between them stay within
# 7 of 255 of the original; matplotlib, which has it, takes half a second to import.
_COLOURS = np.array(
    [
        (0, 0, 4), (11, 7, 36), (33, 12, 74), (61, 9, 101), (87, 16, 110), (113, 25, 110),
        (138, 34, 106), (163, 44, 97), (188, 55, 84), (210, 70, 68), (228, 90, 49), (241, 115, 29),
        (249, 142, 9), (252, 172, 17), (249, 203, 53), (242, 234, 105), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip
STRONGEST = 0.75  # opacity of the greatest heat: the image stays to be seen under it


def heat_colours(heat: np.ndarray) -> np.ndarray:
    """Return [height, width, 3] uint8 for heat [height, width] in 0..1."""
    place = np.linspace(0, 1, len(_COLOURS))
    flat = np.stack([np.interp(heat, place, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    return np.asarray(flat.round(), dtype=np.uint8)


def heat_overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """Return an RGB image with `heat` [height, width] in 0..1 over it; where there is no heat, the image as it was.

    Raises `ValueError` when the two differ in size.
    """
    if heat.shape != (image.height, image.width):
        raise ValueError(
            f"a heat map of {heat.shape[1]} x {heat.shape[0]} over an image of {image.width} x {image.height}"
        )
    heat = np.nan_to_num(heat).clip(0, 1)
    opacity = Image.fromarray((heat * STRONGEST * 255).round().astype(np.uint8))
    return Image.composite(Image.fromarray(heat_colours(heat)), image.convert("RGB"), opacity)
