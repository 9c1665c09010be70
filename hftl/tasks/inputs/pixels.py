"""Images of which every pixel is answered: decoded when asked for, resized or read in windows, moved with their masks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers.modeling_outputs import SemanticSegmenterOutput

from hftl.config import ModelConfig
from hftl.data.columns import is_image
from hftl.data.images import decode_image
from hftl.errors import ConfigError
from hftl.evaluation.pixel_baseline import pixel_map
from hftl.tasks.inputs.augment import move_pixels
from hftl.tasks.inputs.image import (
    IMAGE,
    affine_map,
    file_digest,
    find,
    fit_processor,
    image_side,
    reads,
    scaled,
    set_image_side,
)
from hftl.tasks.task import NOT_ASKED, Finish, Made


def find_beside(table: Dataset, label: str | None, named: Sequence[str | None] = (None,)) -> tuple[str, ...] | None:
    """Return the column of the images, which is not that of the masks."""
    others = [name for name, feature in table.features.items() if name == label and is_image(feature)]
    return find(table.remove_columns(others), label, named)


def fit_size(model: Any, processor: Any, datasets: list[Dataset], config: ModelConfig) -> Finish:
    """Set the side as for other images, and round it to whole patches: what a patch cuts off would have no answer.

    With `--sliding_windows` it is that of the windows, and the processor leaves images in their own size. Raises
    `ConfigError` for a model that reads one size only: plain `pipeline` could not use it on whole images.
    """
    finish = fit_processor(model, processor, datasets, config)
    body = model.base_model.config
    patch = getattr(getattr(body, "backbone_config", None) or body, "patch_size", 1)  # convnets have none
    side = image_side(processor)
    if isinstance(patch, int) and side % patch:
        side = max(1, round(side / patch)) * patch
        set_image_side(processor, side)
    if config.sliding_windows:
        if not reads(model, 2 * side):
            raise ConfigError(
                f"--sliding_windows: the model reads images of {side} pixels and of no other size. Leave it out, or choose "
                "another model."
            )
        processor.do_resize = False
    return finish


def window_of(processor: Any) -> int | None:
    """Return the side of the windows in which images are read; None where they are resized as a whole."""
    return None if processor.do_resize else image_side(processor)


def alike(images: Sequence[Any], processor: Any) -> Sequence[Any]:
    """Return the images, of those in windows the corner of one window: `pipeline` has one pass for all of a larger one."""
    side = window_of(processor)
    if side is None:
        return images
    return [image.crop((0, 0, side, side)) for image in images if min(image.size) >= side]


def encode(dataset: Dataset, processor: Any) -> dict[str, Any]:
    """Return the images as bytes of the size that the processor makes, before it rescales and normalises them."""

    def make(value: Any) -> np.ndarray:
        flags = {"do_rescale": False, "do_normalize": False}
        pixels: np.ndarray = np.asarray(processor([decode_image(value)], **flags)["pixel_values"][0]).astype(np.uint8)
        return pixels

    return {"pixels": Made.of(dataset["image"][:], make, file_digest)}


def resized(mask: np.ndarray, size: Sequence[int]) -> torch.Tensor:
    """Return a mask as float32 of a size (height and width), each pixel with the id of the nearest one."""
    values = torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None]
    return F.interpolate(values, size=(size[0], size[1]), mode="nearest-exact")[0, 0]


def collator(processor: Any, flip: bool = True, augment: str = "light") -> Any:
    """Return a function that makes a batch of images and masks of one size, those of the train split moved together.

    Of images in their own size it draws a window of each for training. The presets change and move pixels as for other
    images; nothing is erased.
    """
    scale, offset = affine_map(processor)
    window, mean = window_of(processor), (-offset / scale).round().clamp(0, 255).byte()

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        preset = augment if items[0]["augment"] else "none"
        pairs = [(torch.from_numpy(item["pixels"]), item["labels"]) for item in items]
        if window is not None and items[0]["augment"]:
            places = [item["place"].tolist() for item in items]
            pairs = [
                some_window(pixels, resized(mask, pixels.shape[-2:]), window, mean, *place)
                for (pixels, mask), place in zip(pairs, places, strict=True)
            ]
        pixels = torch.stack([pixels for pixels, _ in pairs])
        masks = torch.stack([resized(mask, pixels.shape[-2:]) for _, mask in pairs])
        values, masks = move_pixels(scaled(pixels, scale, offset, preset), preset, flip, masks)
        return {"pixel_values": values, "labels": masks.long()}

    return collate


def some_window(
    pixels: torch.Tensor, mask: torch.Tensor, side: int, mean: torch.Tensor, down: float, right: float
) -> tuple[torch.Tensor, np.ndarray]:
    """Return a window of an image [3, height, width] and of its mask [height, width], from 0 to 1 down and to the right.

    What an image has too little is filled up with `mean` [3, 1, 1], which is 0 to the model, and not asked.
    """
    height, width = mask.shape
    high, wide = max(side, height), max(side, width)
    canvas, asked = mean.repeat(1, high, wide), torch.full((high, wide), float(NOT_ASKED))
    canvas[:, :height, :width], asked[:height, :width] = pixels, mask
    y, x = int(down * (high - side + 1)), int(right * (wide - side + 1))
    return canvas[:, y : y + side, x : x + side], asked[y : y + side, x : x + side].numpy()


class PixelAnswers(torch.nn.Module):
    """A baseline of masks in a model's place: it answers every pixel of images as the processor makes them."""

    whole = True  # it knows places in the image, so that it is not asked window by window

    def __init__(self, baseline: Any, config: Any, processor: Any):
        super().__init__()
        self.baseline, self.config, self.affine = baseline, config, affine_map(processor)

    def forward(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
        """Return logits [n, classes, height, width] for images [n, 3, height, width]."""
        scale, offset = self.affine
        pixels = ((pixel_values.cpu() - offset) / scale).round().clamp(0, 255)
        maps = np.stack([pixel_map(self.baseline, one.numpy()) for one in pixels])
        return SemanticSegmenterOutput(logits=torch.from_numpy(maps).to(pixel_values.device))


PIXELS = replace(
    IMAGE,
    find=find_beside,
    fit=fit_size,
    encode=encode,
    collate=collator,
    window=window_of,
    alike=alike,
    raw=lambda encoded: encoded,
    features=("pixel_regression",),
    thumbs=None,
)
