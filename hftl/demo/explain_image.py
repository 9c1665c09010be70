"""Why an image model answers as it does: the places that speak for a label, put back into the image as it came.

Integrated gradients as for texts, over a layer with places. It may be called from several threads at once, and while the
model predicts; nothing of the model changes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from hftl.data.images import decode_image
from hftl.demo.integrated_gradients import (
    CELLS,
    Batch,
    FromPixels,
    check_input_kind,
    explained_label,
    integrate,
    layer_output,
    share_weights,
    spatial_layer,
)
from hftl.errors import DataError
from hftl.predict import Predictor


Box = tuple[float, float, float, float]  # left, top, right, bottom
_IMAGE_STEPS = 16
_IMAGE_ROWS = 4
_BLUR = 1 / 12  # of the side: deviation of the blurred baseline, of which nothing can be recognised
_SHOWN = 256  # pixels of the longer side to which a smaller image is enlarged, by a whole number
_SMOOTHING = 0.7  # of a cell: neighbouring cells flicker, as the gradient of a network with strides does
STRONGEST = 0.75  # opacity of the greatest heat: the image stays to be seen under it


@dataclass(frozen=True, eq=False)
class ImageAttribution:
    """How much each place of an image speaks for a label."""

    label: str
    heat: np.ndarray  # [height, width] float32 in 0..1 for the upright image; 0 where nothing speaks for the label
    overlay: Image.Image  # the image with the heat over it; an image of few pixels is enlarged to be seen
    seen: Box  # left, top, right, bottom of what the processor shows to the model, in pixels of the image
    change: float
    completeness_gap: float


def explain_image(predictor: Predictor, image: Image.Image, label: str | None = None) -> ImageAttribution:
    """Map what in `image` (PIL image or path) speaks for `label` (default: the predicted one).

    The integral runs over a layer with about 14 x 14 places, from its values for the blurred image and for a grey one.
    The signed map is smoothed, its part above 0 divided by its maximum, and put back into the frame of the upright image.
    Raises `DataError` for a label that the model does not have or a wrong kind of input, and `ModelError` when the
    gradients are not finite.
    """
    check_input_kind(predictor, "image")
    try:
        upright = decode_image(image)
    except OSError as error:
        raise DataError(f"The image cannot be read: {error}.") from None
    model = FromPixels(share_weights(predictor.model)).eval()
    batch = {"pixel_values": model_pixels(predictor.processor, upright).to(predictor.model.device)}
    index = explained_label(predictor, model, batch, label)
    baselines = _image_baselines(predictor.processor, batch["pixel_values"])
    layer = spatial_layer(model, batch, baselines[0])
    starts = [layer_output(model, layer, baseline) for baseline in baselines]
    integral = integrate(model, layer, batch, starts, index, _IMAGE_STEPS, _IMAGE_ROWS)
    cells = integral.attributions.sum(0).numpy()
    seen = seen_box(predictor.processor, upright.size)
    return ImageAttribution(
        predictor.labels[index],
        _heat(cells, seen, upright.size),
        _overlay(upright, cells, seen),
        seen,
        integral.change,
        integral.gap,
    )


def _heat(cells: np.ndarray, seen: Box, size: tuple[int, int]) -> np.ndarray:
    """Smooth the signed map, keep what lies above 0, and lay it in the frame of (width, height); at most 1."""
    smooth = gaussian_filter(cells, _SMOOTHING * cells.shape[0] / CELLS, mode="nearest").clip(0)
    placed = put_back(smooth, seen, size).clip(0)
    highest = placed.max()
    return placed / highest if highest > 0 else placed


def _overlay(image: Image.Image, cells: np.ndarray, seen: Box) -> Image.Image:
    times = max(1, _SHOWN // max(image.size))
    large = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    left, top, right, bottom = (edge * times for edge in seen)
    return heat_overlay(large, _heat(cells, (left, top, right, bottom), large.size))


def _image_baselines(processor: Any, pixels: torch.Tensor) -> list[Batch]:
    """Return two rows of which nothing can be recognised: the blurred image, and a grey one.

    Each is blind to what it shares with the image (Sturmfels et al. 2020, "Visualizing the impact of feature
    attribution baselines"): the blurred one to colours, the grey one to grey.
    """
    side = pixels.shape[-1]
    blurred = gaussian_filter(pixels.cpu().numpy(), (0, 0, side * _BLUR, side * _BLUR), mode="nearest")
    grey = model_pixels(processor, Image.new("RGB", (64, 64), (127, 127, 127)))[:, :, :1, :1]
    return [
        {"pixel_values": pixels_of.to(pixels)} for pixels_of in (torch.from_numpy(blurred), grey.expand(*pixels.shape))
    ]


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
    inside = ((y >= top) & (y <= bottom))[:, None] & ((x >= left) & (x <= right))[None, :]
    return np.where(inside, np.asarray(placed), 0).astype(np.float32)


def heat_colours(heat: np.ndarray) -> np.ndarray:
    """Return [height, width, 3] uint8 for heat [height, width] in 0..1."""
    from matplotlib import colormaps  # takes half a second, of which captum has spent the most by now

    # its lightness rises evenly, so that equal steps of heat look equal, in grey and to the colour-blind too
    return np.asarray((colormaps["inferno"](heat)[..., :3] * 255).round(), dtype=np.uint8)


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
