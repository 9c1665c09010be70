"""Image augmentation presets (`--augment`), on batches of tensors.

`none` changes nothing. `light` is written in torch below: it is the default and needs no further import. `default`
and `strong` are kornia's operations: kornia is kept up, needs torch alone (no torchvision), works on batches instead
of image by image (5 to 10 ms per operation for 32 images of 96 pixels on one core), and draws its random numbers from
torch's global generator, which the training loop seeds for each batch (`hftl/training/order.py`): a resumed run draws
the same numbers. kornia is imported when the first image is augmented (0.3 s).

Three steps, because each belongs to another space: `jitter_colours` acts on values in [0, 1], before normalisation;
`move_pixels` commutes with normalisation, a map per channel, and acts after it; `erase` fills with 0 after it.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F


MAX_SHIFT = 1 / 16  # of the side: 4 pixels of 64
MAX_SCALE = 1.1


@dataclass(frozen=True)
class Preset:
    """The strength of each operation of kornia; `scale` is that of the content, per axis when it has four values."""

    degrees: float
    shift: float  # of the side
    scale: tuple[float, float] | tuple[float, float, float, float]
    colour: float  # brightness, contrast and saturation are each multiplied by 1 - colour to 1 + colour
    erased: float  # share of the images that lose a rectangle


PRESETS: dict[str, Preset | None] = {
    "none": None,
    "light": None,  # `augment_batch`: shift, scale, mirror (shift and mirror: Krizhevsky et al. 2012)
    # The light one and two more. 10 degrees is RandAugment's rotation at magnitude 10 of 30 (Cubuk et al. 2020; 9 is
    # torchvision's default there). Colour: half of what is usual for ImageNet from random weights, next line.
    "default": Preset(10.0, MAX_SHIFT, (1 / MAX_SCALE, MAX_SCALE), 0.2, 0.0),
    # Each axis is enlarged by 1 to 1.41, so that 1 to 0.5 of the area stays in sight at an aspect of 0.71 to 1.41: a
    # random resized crop (Szegedy et al. 2015), which for ImageNet goes down to 0.08 of the area with an aspect of
    # 3/4 to 4/3 (torchvision's reference, timm); half keeps the object in sight. As part of the one warp it blurs once.
    # Colour 0.4 is timm's `--color-jitter`. Erasing a quarter of the images is DeiT's rate (Touvron et al. 2021).
    "strong": Preset(20.0, 0.1, (1.0, 2**0.5, 1.0, 2**0.5), 0.4, 0.25),
}
ERASED_AREA = (0.02, 0.33)  # of the image, with the next line torchvision's RandomErasing
ERASED_ASPECT = (0.3, 3.3)  # Zhong et al. 2020: areas of 0.02 to 0.4 and aspects of 0.3 to 3.3


def jitter_colours(images: torch.Tensor, preset: str) -> torch.Tensor:
    """Return `images` [n, 3, height, width], in [0, 1], with other brightness, contrast and saturation, in [0, 1]."""
    strength = PRESETS[preset]
    return images if strength is None else _kornia(strength)["colour"](images)


def move_pixels(images: torch.Tensor, preset: str, flip: bool, masks: torch.Tensor | None = None) -> Any:
    """Shift, scale and rotate `images` [n, channels, height, width], and mirror half of them when `flip`.

    Edges repeat and values stay between those of the image, so that it holds for normalised images as for others. With
    `masks` [n, height, width] of ids as float32, return both, moved alike: a pixel of a mask has the nearest id.
    """
    strength = PRESETS[preset]
    if strength is None:
        if preset == "light":
            return augment_batch(images, flip, masks)
        return images if masks is None else (images, masks)
    if masks is not None:
        moved, near = _kornia(strength)["both" if flip else "both, not mirrored"](images, masks[:, None])
        return moved, near[:, 0]
    moved = _kornia(strength)["warp"](images)
    return _kornia(strength)["mirror"](moved) if flip else moved


def erase(images: torch.Tensor, preset: str) -> torch.Tensor:
    """Set a rectangle in some of the normalised `images` to 0: the mean colour that the model was pretrained with.

    torchvision's reference erases after normalisation too; Zhong et al. found the mean close to the best filling.
    """
    strength = PRESETS[preset]
    return _kornia(strength)["erase"](images) if strength is not None and strength.erased else images


def augment_batch(images: torch.Tensor, flip: bool, masks: torch.Tensor | None = None) -> Any:
    """Shift by up to 1/16 of the side, scale by up to 1.1 either way, and mirror half of them when `flip`.

    `images` is [n, channels, height, width]; edges repeat. Random numbers come from torch's global generator. With
    `masks` [n, height, width] of ids as float32, return both, moved alike: a pixel of a mask has the nearest id.
    """
    n = len(images)
    shift = (torch.rand(n, 2) * 2 - 1) * 2 * MAX_SHIFT  # affine_grid counts from -1 to 1
    scale = torch.exp((torch.rand(n) * 2 - 1) * math.log(MAX_SCALE))
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = scale * mirror
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if masks is None:
        return moved
    near = F.grid_sample(masks[:, None], grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved, near[:, 0]


@cache
def _kornia(preset: Preset) -> dict[str, Any]:
    """Build the operations of a preset once."""
    from kornia import augmentation

    shift = (preset.shift, preset.shift)
    warp = augmentation.RandomAffine(preset.degrees, shift, preset.scale, padding_mode="border", p=1.0)
    mirror = augmentation.RandomHorizontalFlip(p=0.5)
    return {
        # ColorJitter has torchvision's formulas (brightness multiplies); ColorJiggle, beside it, adds brightness.
        "colour": augmentation.ColorJitter(preset.colour, preset.colour, preset.colour, 0.0, p=1.0),
        # RandomRotation and RandomResizedCrop beside it would each resample once more, and the former only pads black.
        "warp": warp,
        "mirror": mirror,
        "both": augmentation.AugmentationSequential(warp, mirror, data_keys=["input", "mask"]),
        "both, not mirrored": augmentation.AugmentationSequential(warp, data_keys=["input", "mask"]),
        "erase": augmentation.RandomErasing(ERASED_AREA, ERASED_ASPECT, value=0.0, p=preset.erased),
    }
