"""What an image processor does, as the few steps that `predict.py` can do with Pillow alone; checked, not believed."""

from typing import Any

import numpy as np
from PIL import Image

from hftl.errors import ModelError
from hftl.tasks.inputs.image import affine_map, image_side


Plan = dict[str, Any]

# Odd, tiny, tall and wide images: rounding, upscaling and cropping differ in these first. Width, height.
_PROBES = ((64, 48), (37, 91), (200, 133), (301, 300), (9, 5), (31, 250))
# One grey level is 1/255 before normalisation, which only enlarges it; fp32 arithmetic differs by 1e-6.
_TOLERANCE = 1e-4


def read_preprocessing(processor: Any, name: str) -> Plan:
    """Return the processor's steps: `size` [width, height] or `shortest_edge`, then `resample` (Pillow's number), then
    the centre `crop` [width, height], then `scale` and `offset` per channel of bytes.

    The steps are run on odd images and must give the processor's own pixels. Raises `ModelError` when none of the
    known ways of resizing does.
    """
    kind = type(processor).__name__
    images = [_probe(width, height) for width, height in _PROBES]
    try:
        side = image_side(processor)
        scale, offset = affine_map(processor)
        wanted = [np.asarray(processor([image])["pixel_values"][0], dtype=np.float32) for image in images]
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(f"{name} cannot be exported: its {kind} fails on a plain RGB image ({error}).") from None
    fixed = {"resample": int(getattr(processor, "resample", 2)), "crop": [side, side]}
    fixed |= {"scale": scale.flatten().tolist(), "offset": offset.flatten().tolist()}
    for size, shortest in _resizings(processor, side):
        plan = {"size": size, "shortest_edge": shortest, **fixed}
        if all(_same(apply(plan, image), pixels) for image, pixels in zip(images, wanted, strict=True)):
            return plan
    raise ModelError(
        f"{name} cannot be exported: predict.py cannot reproduce what its {kind} does to images "
        "(known: resize, centre crop, rescale, normalise)."
    )


def apply(plan: Plan, image: Image.Image) -> np.ndarray:
    """Return [3, height, width] fp32 of an upright RGB image: what `predict.py` computes."""
    size = plan["size"] or [int(plan["shortest_edge"] * side / min(image.size)) for side in image.size]
    image = image.resize(size, plan["resample"])
    left, top = ((has - kept) // 2 for has, kept in zip(image.size, plan["crop"], strict=True))
    image = image.crop((left, top, left + plan["crop"][0], top + plan["crop"][1]))
    scaled = np.asarray(image, dtype=np.float32) * np.float32(plan["scale"]) + np.float32(plan["offset"])
    return scaled.transpose(2, 0, 1)


def _resizings(processor: Any, side: int) -> list[tuple[list[int] | None, int | None]]:
    """The ways of resizing that the processor's sizes allow: (size, shortest_edge), one of the two None."""
    size = {k: v for k, v in dict(getattr(processor, "size", None) or {}).items() if v}
    ways: list[tuple[list[int] | None, int | None]] = []
    if "height" in size and "width" in size:
        ways.append(([size["width"], size["height"]], None))
    edge = size.get("shortest_edge")
    if edge:
        # ConvNeXt's edge is that of the crop; LeViT's is 224 of 256.
        crop_pct = getattr(processor, "crop_pct", None) or 1.0
        ways += [(None, e) for e in dict.fromkeys((edge, int(edge / crop_pct), int(256 / 224 * edge)))]
        ways.append(([edge, edge], None))
    return [*ways, ([side, side], None)]


def _probe(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() < _TOLERANCE)
