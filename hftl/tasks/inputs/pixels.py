"""Images of which every pixel is answered: decoded when they are asked for, resized as a whole, moved with their masks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

from hftl.config import ModelConfig
from hftl.data.columns import is_image
from hftl.data.images import decode_image
from hftl.errors import ConfigError
from hftl.tasks.inputs.augment import augment_batch
from hftl.tasks.inputs.image import (
    IMAGE,
    affine_map,
    file_digest,
    find,
    fit_processor,
    image_side,
    set_image_side,
)
from hftl.tasks.task import Finish, Made, nothing_left


def find_beside(table: Dataset, label: str | None, named: Sequence[str | None] = (None,)) -> tuple[str, ...] | None:
    """Return the column of the images, which is not that of the masks."""
    others = [name for name, feature in table.features.items() if name == label and is_image(feature)]
    return find(table.remove_columns(others), label, named)


def fit_whole(model: Any, processor: Any, datasets: list[Dataset], config: ModelConfig) -> Finish:
    """Set the side as for other images, and round it to whole patches: what a patch cuts off would have no answer."""
    fit_processor(model, processor, datasets, config)
    patch = getattr(getattr(model.config, "backbone_config", None), "patch_size", 1)  # convnets have none
    side = image_side(processor)
    if isinstance(patch, int) and side % patch:
        set_image_side(processor, max(1, round(side / patch)) * patch)
    return nothing_left


def encode(dataset: Dataset, processor: Any) -> dict[str, Any]:
    """Return the images as bytes of the processor's size, before it rescales and normalises them."""

    def make(value: Any) -> np.ndarray:
        flags = {"do_rescale": False, "do_normalize": False}
        pixels: np.ndarray = np.asarray(processor([decode_image(value)], **flags)["pixel_values"][0]).astype(np.uint8)
        return pixels

    return {"pixels": Made.of(dataset["image"][:], make, file_digest)}


def resized(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Return a mask as float32 of a size (height and width), each pixel with the id of the nearest one."""
    values = torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None]
    return F.interpolate(values, size=size, mode="nearest-exact")[0, 0]


def collator(processor: Any, flip: bool = True, augment: str = "light") -> Any:
    """Return a function that makes a batch of images and masks of one size, those of the train split moved together.

    Raises `ConfigError` for a preset that moves images alone.
    """
    if augment not in ("none", "light"):
        raise ConfigError(f"--augment {augment} does not move masks with their images yet: use light or none.")
    scale, offset = affine_map(processor)

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.stack([item["pixels"] for item in items])).float() * scale + offset
        height, width = pixels.shape[-2:]
        masks = torch.stack([resized(item["labels"], (height, width)) for item in items])
        if items[0]["augment"] and augment == "light":
            pixels, masks = augment_batch(pixels, flip, masks)
        return {"pixel_values": pixels, "labels": masks.long()}

    return collate


PIXELS = replace(
    IMAGE,
    find=find_beside,
    fit=fit_whole,
    encode=encode,
    collate=collator,
    raw=lambda encoded: encoded,
    features=("pixel_regression",),
    thumbs=None,
)
