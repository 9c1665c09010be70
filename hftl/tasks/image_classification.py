"""One label for one image."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from hftl.config import ModelConfig
from hftl.data.images import decode_image
from hftl.errors import ConfigError
from hftl.surroundings import progress
from hftl.tasks.augment import erase, jitter_colours, move_pixels
from hftl.tasks.encoded import EncodedImages
from hftl.tasks.task import Task


_SAMPLE = 200  # images whose size is looked at to choose the resolution
_STEP = 32  # convnets here halve the side five times; other sizes are padded differently by different code


def fit_processor(model: Any, processor: Any, datasets: list[Dataset], config: ModelConfig) -> list[str]:
    """Set the processor's size to the run's, so that it is saved with the model.

    The size is `--image_size`, else the smaller of the processor's own size and the median short side of the data
    rounded up to a multiple of 32; a model that reads one size only keeps it. Raises `ConfigError` for a size that
    the model refuses.
    """
    own = image_side(processor)
    if not _sizes(processor):  # timm's, whose steps are fixed by the checkpoint
        if config.image_size not in (None, own):
            raise ConfigError(
                f"--image_size {config.image_size}: this model's processor makes {own} pixels and no other."
            )
        return []
    if config.image_size is not None:
        if config.image_size < _STEP or config.image_size % _STEP:
            raise ConfigError(f"--image_size {config.image_size} is not a multiple of {_STEP}.")
        if not _reads(model, config.image_size):
            raise ConfigError(f"The model does not read images of {config.image_size} pixels; its size is {own}.")
        set_image_side(processor, config.image_size)
        return []
    median = _median_short_side(datasets[0])
    wanted = min(own, -(-median // _STEP) * _STEP)
    if wanted < own and _reads(model, wanted):
        set_image_side(processor, wanted)
    return []


def image_side(processor: Any) -> int:
    """The side in pixels of what the processor puts out."""
    output = _run(processor, [Image.new("RGB", (256, 256))])
    return int(output.shape[-1])


def set_image_side(processor: Any, side: int) -> None:
    """Make the processor put out `side` x `side` pixels, keeping the share that its centre crop cuts away."""
    old = image_side(processor)
    scale = side / old
    for name, value in _sizes(processor).items():
        plain = {k: v for k, v in dict(value).items() if v is not None}
        setattr(processor, name, {k: max(1, round(v * scale)) for k, v in plain.items()})


def _sizes(processor: Any) -> dict[str, Any]:
    """The sizes that can be set; which of the two exists differs between processors."""
    values = {name: getattr(processor, name, None) for name in ("size", "crop_size")}
    return {name: value for name, value in values.items() if value}


def _reads(model: Any, side: int) -> bool:
    channels = getattr(model.config, "num_channels", 3)  # some configs leave it out
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(pixel_values=torch.zeros(1, channels, side, side, device=model.device))
    except (ValueError, RuntimeError, AssertionError):  # how a model with fixed positions says no
        return False
    finally:
        model.train(was_training)
    return True


def _median_short_side(dataset: Dataset) -> int:
    step = max(1, len(dataset) // _SAMPLE)
    rows = dataset.select(range(0, len(dataset), step))
    return int(np.median([min(decode_image(value).size) for value in rows["image"][:]]))


def _run(processor: Any, images: list[Image.Image], **flags: Any) -> np.ndarray:
    return np.stack([np.asarray(x) for x in processor(images, **flags)["pixel_values"]])


def encode(dataset: Dataset, processor: Any, augment: bool = False) -> EncodedImages:
    """Decode and resize every image once, with the processor's own code.

    Pixels are kept as bytes, before rescaling and normalisation, when those are one affine map per channel (checked
    on real rows); else as the float32 that the processor puts out.
    """
    values = dataset["image"][:]
    labels = dataset["label"][:] if "label" in dataset.column_names else [0] * len(dataset)
    as_bytes = _is_affine(processor, [decode_image(v) for v in values[:4]])
    flags = {"do_rescale": False, "do_normalize": False} if as_bytes else {}
    side = image_side(processor)
    pixels = np.empty((len(values), 3, side, side), dtype=np.uint8 if as_bytes else np.float32)
    for start in progress(range(0, len(values), 32), "images", "batch"):
        chunk = [decode_image(v) for v in values[start : start + 32]]
        pixels[start : start + len(chunk)] = _run(processor, chunk, **flags)
    return EncodedImages(pixels, np.asarray(labels, dtype=np.int64), augment)


def affine_map(processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (scale, offset), each [3, 1, 1], of what the processor does to a byte after resizing.

    Read off the processor's answers to a black and a white image, since every processor class has constants of its
    own (EfficientNet's divides by the deviation twice with `include_top`).
    """
    black = _run(processor, [Image.new("RGB", (64, 64), (0, 0, 0))])[0][:, :1, :1].astype(np.float64)
    white = _run(processor, [Image.new("RGB", (64, 64), (255, 255, 255))])[0][:, :1, :1].astype(np.float64)
    return torch.tensor((white - black) / 255.0).float(), torch.tensor(black).float()


def _is_affine(processor: Any, images: list[Image.Image]) -> bool:
    if not hasattr(processor, "do_rescale"):  # timm's steps cannot be left out one by one
        return False
    scale, offset = affine_map(processor)
    raw = _run(processor, images, do_rescale=False, do_normalize=False)
    if not np.array_equal(raw, raw.astype(np.uint8)):
        return False
    full = torch.tensor(_run(processor, images)).float()
    return bool((torch.tensor(raw).float() * scale + offset - full).abs().max() < 1e-5)


def collator(processor: Any, flip: bool = True, augment: str = "light") -> Any:
    """Return a function that stacks items and normalises them, those of the train split augmented by a preset.

    The preset's colours change in [0, 1], before normalisation. Pixels that a processor had to put out as floats, since
    its map is not affine, are only moved: their colours stay, and nothing is erased.
    """
    scale, offset = affine_map(processor)

    def from_bytes(pixels: torch.Tensor, preset: str) -> torch.Tensor:
        values = pixels.float()
        if preset in ("none", "light"):  # no colours to change, and no rounding by 255
            return values * scale + offset
        return jitter_colours(values / 255, preset) * 255 * scale + offset

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.stack([item["pixels"] for item in items]))
        preset = augment if items[0]["augment"] else "none"
        as_bytes = pixels.dtype == torch.uint8
        values = move_pixels(from_bytes(pixels, preset) if as_bytes else pixels, preset, flip)
        values = erase(values, preset) if as_bytes else values
        return {"pixel_values": values, "labels": torch.tensor([item["labels"] for item in items])}

    return collate


def smallest_batch(model: Any, processor: Any) -> dict[str, torch.Tensor]:
    """One black image, enough to see which module runs when."""
    return {"pixel_values": torch.tensor(_run(processor, [Image.new("RGB", (64, 64))])).float()}


IMAGE_CLASSIFICATION = Task(
    name="image-classification",
    summary="one label for one image",
    input_column="image",
    auto_model="AutoModelForImageClassification",
    auto_processor="AutoImageProcessor",
    default_model="google/vit-base-patch16-224-in21k",
    default_method="full",
    best_metric="macro_f1",
    fit_processor=fit_processor,
    encode=encode,
    collator=collator,
    default_model_inputs=smallest_batch,
)
