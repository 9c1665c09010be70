"""Why the model answers as it does: the words of a text, or the places of an image, that speak for a label.

Integrated gradients (Sundararajan et al. 2017) of the label's log-odds, log p / (1 - p): what is added up are the
contributions to the difference between the output for this input and for a baseline that says nothing. Both functions
may be called from several threads at once, and while the model predicts; nothing of the model changes.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from hftl.data.images import decode_image
from hftl.demo.image_frame import Box, model_pixels, put_back, seen_box
from hftl.demo.image_view import heat_overlay
from hftl.demo.integrated_gradients import Batch, integrate, layer_output, share_weights
from hftl.demo.spatial_layer import CELLS, FromPixels, spatial_layer
from hftl.demo.token_layer import embedding_layer, emptied
from hftl.demo.word_spans import word_spans
from hftl.errors import DataError, ModelError, did_you_mean
from hftl.predict import Predictor


# Points of Gauss-Legendre quadrature: few enough for two seconds on one core with MiniLM at 128 tokens, so that longer
# texts get fewer. Of each answer the error is known: `completeness_gap`.
_TEXT_STEPS, _FEWEST_STEPS, _TOKEN_STEPS = 32, 16, 20 * 128
_BATCH_TOKENS, _BATCH_ROWS = 1024, 8  # of one forward and backward pass: bounds the memory of long texts
_IMAGE_STEPS = 16
_IMAGE_ROWS = 4
_BLUR = 1 / 12  # of the side: deviation of the blurred baseline, of which nothing can be recognised
_SHOWN = 256  # pixels of the longer side to which a smaller image is enlarged, by a whole number
_SMOOTHING = 0.7  # of a cell: neighbouring cells flicker, as the gradient of a network with strides does


@dataclass(frozen=True)
class TextAttribution:
    """How much each word speaks for a label (above 0) or against it (below 0)."""

    label: str
    spans: tuple[tuple[str, float], ...]  # pieces of the text, which they make up, with scores in [-1, 1]
    read: tuple[int, int]  # range of characters that the model reads; what lies outside scores 0
    truncated: bool  # is there text outside it?
    scale: float  # log-odds of a score of 1: the strongest word has this much
    change: float  # log-odds of the label for this text, minus those of the baseline
    completeness_gap: float  # sum of the attributions minus `change`, in log-odds: the error of the integral
    seconds: float


@dataclass(frozen=True, eq=False)
class ImageAttribution:
    """How much each place of an image speaks for a label."""

    label: str
    heat: np.ndarray  # [height, width] float32 in 0..1 for the upright image; 0 where nothing speaks for the label
    overlay: Image.Image  # the image with the heat over it; an image of few pixels is enlarged to be seen
    seen: Box  # left, top, right, bottom of what the processor shows to the model, in pixels of the image
    scale: float  # log-odds of the strongest cell, before smoothing
    change: float
    completeness_gap: float
    seconds: float


def explain_text(predictor: Predictor, text: str, label: str | None = None) -> TextAttribution:
    """Score every word of `text` for `label` (default: the predicted one).

    The integral runs over the token embeddings, from those of padding with the special tokens kept. The scores of a
    word's pieces are added. Raises `DataError` for a label that the model does not have or a wrong kind of input, and
    `ModelError` for a model that cannot be explained, such as one whose tokenizer knows no positions.
    """
    clock = time.perf_counter()
    _check(predictor, "text", text)
    model, tokenizer = share_weights(predictor.model), predictor.processor
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say where a token stands in the text: no words to score."
        )
    # the arguments of prediction: others would change the tokenizer's settings under the feet of another thread
    encoded = tokenizer(text, truncation=True, return_special_tokens_mask=True, return_offsets_mapping=True)
    special = [bool(s) for s in encoded["special_tokens_mask"]]
    batch = _text_batch(model, tokenizer, encoded["input_ids"])
    index = _label_index(predictor, model, batch, label)
    ids = batch["input_ids"]
    empty = torch.where(torch.tensor([special], device=ids.device), ids, _empty_token(tokenizer))
    tokens = ids.shape[1]
    steps = int(np.clip(_TOKEN_STEPS // max(1, tokens), _FEWEST_STEPS, _TEXT_STEPS))
    rows = int(np.clip(_BATCH_TOKENS // max(1, tokens), 1, _BATCH_ROWS))
    layer = embedding_layer(model, batch)
    found = integrate(model, layer, batch, [emptied(model, layer, batch, empty)], index, steps, rows)
    scores = found.attributions.sum(-1).tolist()
    spans, read = word_spans(text, encoded["offset_mapping"], encoded.word_ids(), special, scores)
    truncated = bool(encoded.encodings[0].overflowing)
    scale = max((abs(score) for _, score in spans), default=0.0)
    return TextAttribution(
        predictor.labels[index],
        tuple((piece, score / scale if scale else 0.0) for piece, score in spans),
        _read_range(tokenizer, read, len(text)) if truncated else (0, len(text)),
        truncated,
        scale,
        found.change,
        found.gap,
        time.perf_counter() - clock,
    )


def explain_image(predictor: Predictor, image: Image.Image, label: str | None = None) -> ImageAttribution:
    """Map what in `image` (PIL image or path) speaks for `label` (default: the predicted one).

    The integral runs over a layer with about 14 x 14 places, from its values for the blurred image and for a grey one.
    The signed map is smoothed, its part above 0 divided by its maximum, and put back into the frame of the upright image.
    Raises `DataError` for a label that the model does not have or a wrong kind of input, and `ModelError` when the
    gradients are not finite.
    """
    clock = time.perf_counter()
    _check(predictor, "image", image)
    try:
        upright = decode_image(image)
    except OSError as error:
        raise DataError(f"The image cannot be read: {error}.") from None
    model = FromPixels(share_weights(predictor.model)).eval()
    batch = {"pixel_values": model_pixels(predictor.processor, upright).to(predictor.model.device)}
    index = _label_index(predictor, model, batch, label)
    baselines = _image_baselines(predictor.processor, batch["pixel_values"])
    layer = spatial_layer(model, batch, baselines[0])
    starts = [layer_output(model, layer, baseline) for baseline in baselines]
    found = integrate(model, layer, batch, starts, index, _IMAGE_STEPS, _IMAGE_ROWS)
    cells = found.attributions.sum(0).numpy()
    seen = seen_box(predictor.processor, upright.size)
    return ImageAttribution(
        predictor.labels[index],
        _heat(cells, seen, upright.size),
        _overlay(upright, cells, seen),
        seen,
        float(np.abs(cells).max()),
        found.change,
        found.gap,
        time.perf_counter() - clock,
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


def _check(predictor: Predictor, kind: str, value: Any) -> None:
    expected = predictor.task.input_column
    if expected != kind:
        raise DataError(f"This model classifies {expected}s, so that it cannot explain a prediction for a {kind}.")
    if kind == "text":
        if not isinstance(value, str):
            raise DataError(f"A text model explains a text, not {type(value).__name__}.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError("The text holds half a character (a lone surrogate): it cannot be read.") from None


def _label_index(predictor: Predictor, model: Any, batch: Batch, label: str | None) -> int:
    if label is None:
        with torch.no_grad():
            return int(model(**batch).logits[0].argmax())
    if label not in predictor.labels:
        known = did_you_mean(label, predictor.labels)
        raise DataError(f"The model has no label {label!r}.{known}")
    return predictor.labels.index(label)


def _text_batch(model: Any, tokenizer: Any, ids: list[int]) -> Batch:
    """Return one row as the collator of prediction makes it."""
    batch = tokenizer.pad({"input_ids": [ids]}, return_tensors="pt")
    return {name: value.to(model.device) for name, value in batch.items()}


def _empty_token(tokenizer: Any) -> int:
    """Return the token that says nothing."""
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError(f"{type(tokenizer).__name__} has no padding token to compare the words with.")


def _read_range(tokenizer: Any, covered: tuple[int, int], length: int) -> tuple[int, int]:
    """What lies outside the tokens was cut off on one side alone."""
    return (covered[0], length) if tokenizer.truncation_side == "left" else (0, covered[1])


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
