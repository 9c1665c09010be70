"""Images: decoded and resized once, normalised and augmented batch by batch."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from hftl.config import ModelConfig
from hftl.data.columns import IMAGE_NAMES, arrow_table, column_named, is_image, is_string
from hftl.data.images import check_images, decode_image, is_deep, mode_and_size, open_image
from hftl.data.splits import Splits
from hftl.errors import ConfigError, DataError
from hftl.paths import typed_path
from hftl.tasks.inputs.augment import erase, jitter_colours, move_pixels
from hftl.tasks.task import Encoded, Faults, Finish, Fitted, Inputs, Read
from hftl.terminal import progress


_SAMPLE = 200  # images whose size is looked at to choose the resolution
_STEP = 32  # convnets here halve the side five times; other sizes are padded differently by different code
_SIZES = 8  # that are named
_THUMB = 32  # pixels a side, at least
DEEP = "images of 16 bits or of floats were scaled to eight bits: convert them before plain `pipeline`, which clips them (docs/data.md)"


def find(table: Dataset, label: str | None, named: Sequence[str | None] = (None,)) -> tuple[str, ...] | None:
    """Return the column that was named, else the only image column, one with a usual name, or one of paths that has it."""
    images = [name for name, feature in table.features.items() if is_image(feature)]
    strings = [name for name, feature in table.features.items() if is_string(feature) and name != label]
    column = named[0] or column_named(table.select_columns(images or strings), IMAGE_NAMES)
    column = column or next(iter(images), None)
    return None if column is None else (column,)


def read(table: Dataset, columns: Sequence[str], base: Path, where: str, faults: Faults, refuse_numbers: bool) -> Read:
    """Return the column as "image", the numbers of its rows, and "path: reason" for each that was left out."""
    stored = _stored(table, columns[0], base)
    images = arrow_table({"image": stored}, {"image": ImageFeature(decode=False)})
    if faults == "keep":
        return images, np.arange(len(images)), {}
    good, broken = check_images((row["image"] for row in images), len(images), where, faults == "refuse")
    rows = np.asarray(good, dtype=np.int64)
    left_out = np.setdiff1d(np.arange(len(images)), rows).tolist()
    return images.select(good), rows, dict(zip(left_out, broken, strict=True))


def _stored(table: Dataset, column: str, base: Path) -> pa.ChunkedArray:
    """Return the column as storage of an Image feature; paths are taken relative to where the table lies."""
    feature = table.features[column]
    arrow = table.select_columns([column]).with_format("arrow")[:].column(column)
    kind = ImageFeature.pa_type
    if isinstance(feature, ImageFeature) or pa.types.is_struct(arrow.type):
        return arrow.cast(kind)
    if isinstance(feature, Value) and "binary" in feature.dtype:
        return pa.chunked_array([pa.array([{"bytes": v, "path": None} for v in arrow.to_pylist()], kind)])
    if not isinstance(feature, Value) or "string" not in feature.dtype:
        holds = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        needed = "images, bytes or paths of files are needed"
        raise DataError(f"the image column {column!r} holds {holds} values: {needed}")
    rows = [None if not path else {"bytes": None, "path": str(base / path)} for path in arrow.to_pylist()]
    return pa.chunked_array([pa.array(rows, kind)])


def as_table(inputs: Sequence[Any]) -> Dataset:
    """Return a table of these PIL images and paths. Raises `DataError` for anything else, and for a broken file."""
    for item in inputs:
        if not isinstance(item, str | Path | Image.Image):
            raise DataError(f"An image model predicts image files or PIL images, not {type(item).__name__}.")
        if isinstance(item, str | Path) and not typed_path(item).is_file():
            hint = " It is a folder: name it with --data." if typed_path(item).is_dir() else ""
            raise DataError(f"There is no image file {item}.{hint}")
        try:
            if 0 in decode_image(item).size:
                raise DataError("An image without pixels cannot be predicted.")
        except OSError as error:
            raise DataError(f"{item} cannot be read as an image: {error}.") from None
    plain = [str(i) if isinstance(i, Path) else i for i in inputs]
    table = Dataset.from_dict({"image": plain}, features=Features({"image": ImageFeature()}))
    return table.cast_column("image", ImageFeature(decode=False))


def file_digest(value: Any) -> bytes | None:
    """Return what is equal for images whose files are the same; None for an image that is no file."""
    content = value.get("bytes") if isinstance(value, dict) else None
    path = value.get("path") if isinstance(value, dict) else None
    if content is None and path is not None:
        content = Path(path).read_bytes()
    return None if content is None else hashlib.blake2b(content, digest_size=16).digest()


def no_notes(model: Any, processor: Any, name: str) -> list[str]:
    """Say nothing: every image processor goes with its model, and images are not padded."""
    return []


def fit_processor(model: Any, processor: Any, datasets: list[Dataset], config: ModelConfig) -> Finish:
    """Set the processor's size to the run's, so that it is saved with the model.

    The size is `--image_size`, else the smaller of the processor's own size and the median short side of the data
    rounded up to a multiple of 32; a model that reads one size only keeps it. Raises `ConfigError` for a size that
    the model refuses.
    """
    own, asked = image_side(processor), config.image_size
    deep = any(is_deep(open_image(value)) for value in _some(datasets[0])["image"][:])
    fitted = Fitted([DEEP] if deep else [], 0)  # rows of one size are not cut
    if not _sizes(processor):  # timm's, whose steps are fixed by the checkpoint
        if asked not in (None, own):
            raise ConfigError(f"--image_size {asked}: this model's processor makes {own} pixels and no other.")
        return lambda lengths: fitted
    if asked is not None:
        if asked < _STEP or asked % _STEP:
            raise ConfigError(f"--image_size {asked} is not a multiple of {_STEP}.")
        if not reads(model, asked):
            raise ConfigError(f"The model does not read images of {asked} pixels; its size is {own}.")
        set_image_side(processor, asked)
        return lambda lengths: fitted
    fitting = min(own, -(-_median_short_side(datasets[0]) // _STEP) * _STEP)
    if fitting < own and reads(model, fitting):
        set_image_side(processor, fitting)
    return lambda lengths: fitted


def image_side(processor: Any) -> int:
    """The side in pixels of what the processor puts out; of one that leaves images as they are, that of a window."""
    sizes = _sizes(processor)
    if not getattr(processor, "do_resize", True) and "size" in sizes and "crop_size" not in sizes:
        return int(sizes["size"]["height"])
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


def reads(model: Any, side: int) -> bool:
    """Tell whether the model reads images of `side` x `side` pixels."""
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


def _some(dataset: Dataset) -> Dataset:
    return dataset.select(range(0, len(dataset), max(1, len(dataset) // _SAMPLE)))


def _median_short_side(dataset: Dataset) -> int:
    return int(np.median([min(decode_image(value).size) for value in _some(dataset)["image"][:]]))


def _run(processor: Any, images: list[Image.Image], **flags: Any) -> np.ndarray:
    return np.stack([np.asarray(x) for x in processor(images, **flags)["pixel_values"]])


def encode(dataset: Dataset, processor: Any) -> dict[str, np.ndarray]:
    """Decode and resize every image once, with the processor's own code.

    Pixels are kept as bytes, before rescaling and normalisation, when those are one affine map per channel (checked
    on real rows); else as the float32 that the processor puts out.
    """
    values = dataset["image"][:]
    as_bytes = _is_affine(processor, [decode_image(v) for v in values[:4]])
    flags = {"do_rescale": False, "do_normalize": False} if as_bytes else {}
    side = image_side(processor)
    pixels = np.empty((len(values), 3, side, side), dtype=np.uint8 if as_bytes else np.float32)
    for start in progress(range(0, len(values), 32), "images", "batch"):
        chunk = [decode_image(v) for v in values[start : start + 32]]
        pixels[start : start + len(chunk)] = _run(processor, chunk, **flags)
    return {"pixels": pixels}


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

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.stack([item["pixels"] for item in items]))
        preset = augment if items[0]["augment"] else "none"
        as_bytes = pixels.dtype == torch.uint8
        values = move_pixels(scaled(pixels, scale, offset, preset) if as_bytes else pixels, preset, flip)
        return {"pixel_values": erase(values, preset) if as_bytes else values}

    return collate


def scaled(pixels: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, preset: str) -> torch.Tensor:
    """Return bytes [b, 3, height, width] as the model reads them, their colours changed by a preset."""
    values = pixels.float()
    if preset in ("none", "light"):  # no colours to change, and no rounding by 255
        return values * scale + offset
    return jitter_colours(values / 255, preset) * 255 * scale + offset


def grey_thumbs(encoded: Encoded) -> np.ndarray:
    """Return the images in grey, 32 to 63 pixels a side, or as they are, [n, side, side]."""
    pixels: Any = encoded.arrays["pixels"]
    step = max(1, pixels.shape[-1] // _THUMB)
    side = pixels.shape[-1] // step
    blocks = pixels[:, :, : side * step, : side * step].reshape(len(pixels), 3, side, step, side, step)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def smallest_batch(model: Any, processor: Any) -> dict[str, torch.Tensor]:
    """One black image, enough to see which module runs when; of a processor that resizes nothing, a window."""
    side = 64 if getattr(processor, "do_resize", True) else image_side(processor)
    return {"pixel_values": torch.tensor(_run(processor, [Image.new("RGB", (side, side))])).float()}


def describe_images(splits: Splits, processor: Any) -> dict[str, Any]:
    """Sizes and modes of a sample of the training images as they are stored, and the size they will have."""
    images = [mode_and_size(value) for value in _some(splits.train)["image"][:]]
    sizes = Counter((width, height) for _, width, height in images)
    short = [min(size) for size in sizes.elements()]
    return {
        "sampled": len(images),
        "short_side": {"min": min(short), "median": float(np.median(short)), "max": max(short)},
        "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in sizes.most_common(_SIZES)],
        "other_sizes": max(0, len(sizes) - _SIZES),
        "modes": dict(Counter(mode for mode, _, _ in images).most_common()),
        "image_size": image_side(processor),
    }


def groups(table: Dataset) -> list[tuple[str, list[Any], str | None]]:
    """Return the slices by which images are scored apart: their size and Pillow's mode."""
    images = [mode_and_size(value) for value in table["image"][:]]
    sides = [min(width, height) for _, width, height in images]
    return [("image size", sides, "pixels on the short side"), ("image mode", [mode for mode, _, _ in images], None)]


def raw_pixels(encoded: Encoded) -> np.ndarray | None:
    """Return the resized pixels, bytes [n, height, width, channels]; None where the processor puts out no bytes."""
    pixels = encoded.arrays["pixels"]
    assert isinstance(pixels, np.ndarray)
    return np.moveaxis(pixels, 1, -1) if pixels.dtype == np.uint8 else None


IMAGE = Inputs(
    kind="image",
    noun="an image",
    columns=("image",),
    flags=("image_column",),
    processor="AutoImageProcessor",
    argument="image_processor",
    find=find,
    read=read,
    table=as_table,
    check=no_notes,
    settle=no_notes,
    fit=fit_processor,
    encode=encode,
    collate=collator,
    smallest=smallest_batch,
    describe=lambda splits, processor, *_: {"images": describe_images(splits, processor)},
    poolings=("native",),
    key=file_digest,
    groups=groups,
    row=decode_image,
    show=decode_image,
    raw=raw_pixels,
    features=("colour_histogram", "raw_pixels"),
    example="image.jpg",
    sample="sample:digits",
    box="Image",
    augmentable=True,
    lenient=True,
    thumbs=grey_thumbs,
)
