"""Why a model answers as it does: how much each word of a text, or each place of an image, speaks for a label.

Both are integrated gradients of the label's log-odds, and add up to the difference between the output for this input
and for one that says nothing. The functions may be called from several threads at once, and while the model predicts.
"""

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import regex
import torch
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from hftl.data.images import decode_image
from hftl.demo import integrated_gradients as ig
from hftl.demo.looks import piece
from hftl.errors import ModelError
from hftl.predict import Predictor


Spans = tuple[tuple[str, float], ...]  # pieces of a text, which they make up, each with its score
Box = tuple[float, float, float, float]  # left, top, right, bottom
# Points of quadrature: so many take two seconds on one core with MiniLM at 128 tokens; longer texts get fewer.
_TEXT_STEPS, _FEWEST_STEPS, _TOKEN_STEPS = 32, 16, 20 * 128
_BATCH_TOKENS, _BATCH_ROWS = 1024, 8  # of one forward and backward pass: bounds the memory of long texts
_IMAGE_STEPS, _IMAGE_ROWS = 16, 4
_BLUR = 1 / 12  # of the side: deviation of the blurred baseline, of which nothing can be recognised
_SMOOTHING = 0.7  # of a cell: neighbouring cells flicker, as the gradient of a network with strides does
STRONGEST = 0.75  # opacity of the greatest heat: the image stays to be seen under it
_LARGEST = 1024  # pixels a side of an image on the page: the map has about 14 x 14 places
_TINY = 64  # pixels a side up to which an image is shown with its pixels as squares


@dataclass(frozen=True)
class TextAttribution:
    """How much each word speaks for a label (above 0) or against it (below 0)."""

    label: str
    spans: Spans  # scores in [-1, 1]
    read: tuple[int, int]  # range of characters that the model reads; what lies outside scores 0
    truncated: bool  # is there text outside it?
    scale: float  # log-odds of a score of 1: the strongest word has this much
    change: float  # log-odds of the label for this text, minus those of the baseline
    completeness_gap: float  # sum of the attributions minus `change`, in log-odds: the error of the integral
    unit: str = " log-odds"  # of these three; "" for a number, whose own unit it is

    @property
    def marks(self) -> Iterator[tuple[str, float, bool]]:
        """Each piece with its score, and whether the model reads it."""
        ends = accumulate(len(text) for text, _ in self.spans)
        for (text, score), end in zip(self.spans, ends, strict=True):
            yield text, score, self.read[0] <= end - len(text) < self.read[1]


@dataclass(frozen=True, eq=False)
class ImageAttribution:
    """How much each place of an image speaks for a label."""

    label: str
    heat: np.ndarray  # [height, width] float32 in 0..1 for the upright image; 0 where nothing speaks for the label
    overlay: Image.Image  # the upright image with the heat over it
    seen: Box  # what the processor shows to the model, in pixels of the image
    change: float
    completeness_gap: float


def explain_text(predictor: Predictor, content: Any, label: str | None = None) -> TextAttribution:
    """Score every word of a text, or of a pair in a dict, for `label` (default: the predicted one).

    The integral runs over the token embeddings, from those of padding with the special tokens kept. The scores of a
    word's pieces are added. Raises `DataError` for a label that the model does not have, and `ModelError` for a model
    that cannot be explained, such as one whose tokenizer knows no positions.
    """
    model, tokenizer = ig.share_weights(predictor.model), predictor.processor
    if not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise ModelError(f"{kind} does not give the positions of its tokens, so single words cannot be scored.")
    # the arguments of prediction: others would change the tokenizer's settings under the feet of another thread
    sides = [content] if isinstance(content, str) else [*content.values()]
    encoded = tokenizer(*sides, truncation=True, return_special_tokens_mask=True, return_offsets_mapping=True)
    read = ["input_ids", *(["token_type_ids"] if len(sides) > 1 and "token_type_ids" in encoded else [])]
    padded = tokenizer.pad({name: [encoded[name]] for name in read}, return_tensors="pt")  # as prediction does
    batch = {name: value.to(model.device) for name, value in padded.items()}
    index, ids = ig.explained_label(predictor, model, batch, label), batch["input_ids"]
    special = torch.tensor([encoded["special_tokens_mask"]], device=ids.device).bool()
    empty = torch.where(special, ids, _empty_token(tokenizer))
    steps = int(np.clip(_TOKEN_STEPS // max(1, ids.shape[1]), _FEWEST_STEPS, _TEXT_STEPS))
    rows = int(np.clip(_BATCH_TOKENS // max(1, ids.shape[1]), 1, _BATCH_ROWS))
    layer = ig.embedding_layer(model, batch)
    values, start = ig.layer_output(model, layer, batch), ig.emptied(model, layer, batch, empty)
    link = predictor.task.output.link
    integral = ig.integrate(ig.log_odds(model, layer, batch, index, link), values, [start], steps, rows)
    scores = integral.attributions.sum(-1).tolist()
    words = [None if is_special else word for word, is_special in zip(encoded.word_ids(), special[0], strict=True)]
    text, offsets = "\n".join(sides), encoded["offset_mapping"]
    if len(sides) > 1:  # the second text begins behind the first, and its words are others
        second, shift = [one == 1 for one in encoded.sequence_ids()], len(sides[0]) + 1
        offsets = [(a + shift * b, e + shift * b) for (a, e), b in zip(offsets, second, strict=True)]
        words = [w if w is None else w + len(text) * b for w, b in zip(words, second, strict=True)]
    spans, (first, last) = word_spans(text, offsets, words, scores)
    # what lies outside the tokens was cut off on one side alone; of a pair, at the end of either text
    truncated = bool(encoded.encodings[0].overflowing)
    cuts = truncated and len(sides) == 1
    cut_left, cut_right = (cuts and tokenizer.truncation_side == side for side in ("left", "right"))
    scale = max((abs(score) for _, score in spans), default=0.0)
    return TextAttribution(
        predictor.labels[index],
        tuple((word, score / (scale or 1)) for word, score in spans),
        (first if cut_left else 0, last if cut_right else len(text)),
        truncated,
        scale,
        integral.change,
        integral.gap,
        "" if link == "none" else " log-odds",
    )


def _empty_token(tokenizer: Any) -> int:
    """Return the token that says nothing."""
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError(f"{type(tokenizer).__name__} has no padding token to compare the words with.")


def word_spans(
    text: str, offsets: Sequence[tuple[int, int]], words: Sequence[int | None], scores: Sequence[float]
) -> tuple[Spans, tuple[int, int]]:
    """Return (piece, score) pairs whose pieces make up `text`, and the range of characters that the tokens cover.

    `offsets` [tokens] are character ranges in `text`, `words` the tokenizer's word numbers (None for tokens that stand
    for no text), and `scores` are per token. A piece is a word (the sum of its tokens) or what lies between words
    (score 0). No piece begins inside a character that is drawn with the one before it (accents, joined emoji).
    """
    cuts, places = {0, len(text)}, []
    first, end, last_word, carried = None, 0, None, 0.0  # carried: of tokens that hold nothing but a space
    for (start, stop), word, score in zip(offsets, words, scores, strict=True):
        if word is None:
            continue
        start += len(text[start:stop]) - len(text[start:stop].lstrip())
        carried += score
        if start >= stop:
            continue
        if start > end or (start == end and word != last_word):
            cuts |= {end, start}
        first = start if first is None else first
        end, last_word = max(end, stop), word
        places.append((stop - 1, carried))
        carried = 0.0
    ends = [0, *(match.end() for match in regex.finditer(r"\X", text))]  # where one drawn character ends
    edges = sorted({ends[bisect_left(ends, cut)] for cut in (*cuts, end)})
    sums = [0.0] * (len(edges) - 1)
    for place, score in [*places, *((place, carried) for place, _ in places[-1:])]:
        sums[bisect_right(edges, place) - 1] += score
    pieces = (text[start:stop] for start, stop in pairwise(edges))
    return tuple(zip(pieces, sums, strict=True)), (first or 0, end)


def explain_image(predictor: Predictor, image: Image.Image, label: str | None = None) -> ImageAttribution:
    """Map what in `image` (PIL image or path) speaks for `label` (default: the predicted one).

    The integral runs over a layer with about 14 x 14 places, from its values for the blurred image and for a grey one.
    The signed map is smoothed, its part above 0 divided by its maximum, and put back into the frame of the upright image.
    Raises `DataError` for a label that the model does not have, and `ModelError` for gradients that are not finite.
    """
    upright = decode_image(image)
    model = ig.FromPixels(ig.share_weights(predictor.model)).eval()
    batch = {"pixel_values": model_pixels(predictor.processor, upright).to(predictor.model.device)}
    index = ig.explained_label(predictor, model, batch, label)
    baselines = _image_baselines(predictor.processor, batch["pixel_values"])
    layer = ig.spatial_layer(model, batch, baselines[0])
    values, *starts = (ig.layer_output(model, layer, row) for row in (batch, *baselines))
    score = ig.log_odds(model, layer, batch, index, predictor.task.output.link)
    integral = ig.integrate(score, values, starts, _IMAGE_STEPS, _IMAGE_ROWS)
    cells = integral.attributions.sum(0).numpy()
    box = seen_box(predictor.processor, upright.size)
    smooth = gaussian_filter(cells, _SMOOTHING * cells.shape[0] / ig.CELLS, mode="nearest").clip(0)
    heat = put_back(smooth, box, upright.size).clip(0)
    heat = heat / (heat.max() or 1)
    overlay = heat_overlay(upright, heat)
    return ImageAttribution(predictor.labels[index], heat, overlay, box, integral.change, integral.gap)


def _image_baselines(processor: Any, pixels: torch.Tensor) -> list[ig.Batch]:
    """Return two rows of which nothing can be recognised: the blurred image, and a grey one.

    Each is blind to what it shares with the image (Sturmfels et al. 2020, "Visualizing the impact of feature
    attribution baselines"): the blurred one to colours, the grey one to grey.
    """
    side = pixels.shape[-1]
    blurred = gaussian_filter(pixels.cpu().numpy(), (0, 0, side * _BLUR, side * _BLUR), mode="nearest")
    grey = model_pixels(processor, Image.new("RGB", (64, 64), "#7f7f7f"))[:, :, :1, :1]
    return [{"pixel_values": row.to(pixels)} for row in (torch.from_numpy(blurred), grey.expand(*pixels.shape))]


def model_pixels(processor: Any, image: Image.Image) -> torch.Tensor:
    """Return [1, channels, height, width] as the model reads the image."""
    return torch.from_numpy(np.stack([np.asarray(x) for x in processor([image])["pixel_values"]])).float()


def seen_box(processor: Any, size: tuple[int, int]) -> Box:
    """Return what the processor keeps of an image of (width, height), in its pixels; beyond it where it pads.

    Read off the processor's answer to a picture whose colours are the column and the row, since every processor class
    resizes and crops in its own way. A straight line is fitted through the middle of the values, where neither the
    padding nor the rounding at the ends is.
    """
    width, height = size
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    picture = Image.fromarray(np.stack([columns, rows, columns], -1).round().astype(np.uint8))  # alike as RGB and BGR
    out = np.asarray(processor([picture], do_rescale=False, do_normalize=False)["pixel_values"][0], dtype=np.float64)
    (left, right), (top, bottom) = _ends(out[0].mean(0), width), _ends(out[1].mean(1), height)
    return left, top, right, bottom


def _ends(values: np.ndarray, length: int) -> tuple[float, float]:
    """Return where the processor's output begins and ends along one axis of `length` pixels."""
    places = np.arange(len(values)) + 0.5
    inside = (values > 20) & (values < 235)
    slope, offset = np.polyfit(places[inside], values[inside], 1) if inside.sum() > 1 else (0.0, 0.0)
    if length < 2 or slope <= 0:
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
    frame = (across, 0.0, 1 - left * across, 0.0, down, 1 - top * down)
    placed = picture.transform(size, Image.Transform.AFFINE, frame, resample=Image.Resampling.BILINEAR)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((y >= top) & (y <= bottom))[:, None] & ((x >= left) & (x <= right))[None, :]
    return np.where(inside, np.asarray(placed), 0).astype(np.float32)


def heat_overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """Return an RGB image with `heat` [height, width] in 0..1 over it; where there is no heat, the image as it was."""
    from matplotlib import colormaps  # takes half a second, of which captum has spent the most by now

    # its lightness rises evenly, so that equal steps of heat look equal, in grey and to the colour-blind too
    colours = Image.fromarray((colormaps["inferno"](heat)[..., :3] * 255).round().astype(np.uint8))
    opacity = Image.fromarray((heat * STRONGEST * 255).round().astype(np.uint8))
    return Image.composite(colours, image.convert("RGB"), opacity)


def why_text(predictor: Predictor, content: Any, label: str | None) -> str:
    """Return the text with its words coloured, as HTML. Raises as `explain_text` does."""
    return piece("why_text", why=explain_text(predictor, content, label), words=predictor.task.output.words)


def why_image(predictor: Predictor, image: Image.Image, label: str | None) -> str:
    """Return the image beside its heat map, as HTML. Raises as `explain_image` does."""
    if max(image.size) > _LARGEST:
        image = ImageOps.contain(image, (_LARGEST, _LARGEST))
    why, tiny = explain_image(predictor, image, label), max(image.size) <= _TINY
    images = {"before": _uri(image, tiny), "after": _uri(why.overlay, tiny), "tiny": tiny}
    return piece("why_image", label=why.label, words=predictor.task.output.words, **images)


def _uri(image: Image.Image, lossless: bool) -> str:
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=85, lossless=lossless)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
