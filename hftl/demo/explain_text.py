"""Why a text model answers as it does: how much each word speaks for a label, as numbers and as HTML.

Integrated gradients (Sundararajan et al. 2017) of the label's log-odds, log p / (1 - p): what is added up are the
contributions to the difference between the output for this text and for one that says nothing. It may be called from
several threads at once, and while the model predicts; nothing of the model changes.
"""

import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch

from hftl.demo.integrated_gradients import (
    check_input_kind,
    embedding_layer,
    emptied,
    explained_label,
    integrate,
    share_weights,
)
from hftl.errors import DataError, ModelError
from hftl.predict import Predictor
from hftl.report.visible import one_line, visible


# Points of Gauss-Legendre quadrature: few enough for two seconds on one core with MiniLM at 128 tokens, so that longer
# texts get fewer. Of each answer the error is known: `completeness_gap`.
_TEXT_STEPS, _FEWEST_STEPS, _TOKEN_STEPS = 32, 16, 20 * 128
_BATCH_TOKENS, _BATCH_ROWS = 1024, 8  # of one forward and backward pass: bounds the memory of long texts
_JOINER = "\u200d"  # joins emoji into one
# Blue for, orange against: apart for the colour-blind. Both are mid-tones at an opacity of at most 0.4, so that the
# page's own text colour stays legible on them, dark on light as light on dark. A page may set the two variables.
FOR, AGAINST, OPACITY = "37 99 235", "234 108 10", 0.4
_STYLE = f"""<style>
.hftl-why {{ line-height: 2; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }}
.hftl-why span {{ border-radius: 3px; text-underline-offset: 3px; text-decoration-skip-ink: none; }}
.hftl-why .for {{ --c: var(--hftl-for, {FOR}); text-decoration-style: solid; }}
.hftl-why .against {{ --c: var(--hftl-against, {AGAINST}); text-decoration-style: dashed; }}
.hftl-why .for, .hftl-why .against {{
  background: rgb(var(--c) / calc(var(--s) * {OPACITY})); text-decoration-line: underline;
  text-decoration-color: rgb(var(--c)); text-decoration-thickness: calc(1px + 3px * var(--s));
}}
.hftl-why .unread {{ opacity: 0.65; font-style: italic; }}
.hftl-why-note {{ margin: 0 0 0.5em; font-size: 0.875em; }}
.hftl-why-note span {{ padding: 0 0.25em; }}
</style>"""
_LEGEND = '<span class="for" style="--s:0.7">speaks for it</span> <span class="against" style="--s:0.7">speaks against it</span>'


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


@dataclass
class _Word:
    start: int
    end: int
    number: int | None  # of the tokenizer's own word
    score: float


def explain_text(predictor: Predictor, text: str, label: str | None = None) -> TextAttribution:
    """Score every word of `text` for `label` (default: the predicted one).

    The integral runs over the token embeddings, from those of padding with the special tokens kept. The scores of a
    word's pieces are added. Raises `DataError` for a label that the model does not have or a wrong kind of input, and
    `ModelError` for a model that cannot be explained, such as one whose tokenizer knows no positions.
    """
    clock = time.perf_counter()
    _check_text(predictor, text)
    model, tokenizer = share_weights(predictor.model), predictor.processor
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not give the positions of its tokens, so single words cannot be scored."
        )
    # the arguments of prediction: others would change the tokenizer's settings under the feet of another thread
    encoded = tokenizer(text, truncation=True, return_special_tokens_mask=True, return_offsets_mapping=True)
    special = [bool(s) for s in encoded["special_tokens_mask"]]
    padded = tokenizer.pad({"input_ids": [encoded["input_ids"]]}, return_tensors="pt")  # as prediction's collator does
    batch = {name: value.to(model.device) for name, value in padded.items()}
    index = explained_label(predictor, model, batch, label)
    ids = batch["input_ids"]
    empty = torch.where(torch.tensor([special], device=ids.device), ids, _empty_token(tokenizer))
    tokens = ids.shape[1]
    steps = int(np.clip(_TOKEN_STEPS // max(1, tokens), _FEWEST_STEPS, _TEXT_STEPS))
    rows = int(np.clip(_BATCH_TOKENS // max(1, tokens), 1, _BATCH_ROWS))
    layer = embedding_layer(model, batch)
    integral = integrate(model, layer, batch, [emptied(model, layer, batch, empty)], index, steps, rows)
    scores = integral.attributions.sum(-1).tolist()
    spans, (start, end) = word_spans(text, encoded["offset_mapping"], encoded.word_ids(), special, scores)
    cuts_left, truncated = tokenizer.truncation_side == "left", bool(encoded.encodings[0].overflowing)
    scale = max((abs(score) for _, score in spans), default=0.0)
    return TextAttribution(
        predictor.labels[index],
        tuple((piece, score / scale if scale else 0.0) for piece, score in spans),
        # what lies outside the tokens was cut off on one side alone
        (start if truncated and cuts_left else 0, end if truncated and not cuts_left else len(text)),
        truncated,
        scale,
        integral.change,
        integral.gap,
        time.perf_counter() - clock,
    )


def _check_text(predictor: Predictor, text: Any) -> None:
    check_input_kind(predictor, "text")
    if not isinstance(text, str):
        raise DataError(f"A text model explains a text, not {type(text).__name__}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError("The text holds half a character (a lone surrogate): it cannot be read.") from None


def _empty_token(tokenizer: Any) -> int:
    """Return the token that says nothing."""
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError(f"{type(tokenizer).__name__} has no padding token to compare the words with.")


def word_spans(
    text: str,
    offsets: Sequence[tuple[int, int]],
    words: Sequence[int | None],
    special: Sequence[bool],
    scores: Sequence[float],
) -> tuple[tuple[tuple[str, float], ...], tuple[int, int]]:
    """Return (piece, score) pairs whose pieces make up `text`, and the range of characters that the tokens cover.

    `offsets` [tokens] are character ranges in `text`, `words` the tokenizer's word numbers, `special` marks tokens
    that stand for no text, and `scores` are per token. A piece is a word (the sum of its tokens) or what lies between
    words (score 0). No piece begins inside a character that is drawn with the one before it (accents, joined emoji).
    """
    pieces: list[_Word] = []
    carried = 0.0  # of tokens that hold nothing but a space: part of the word that follows
    for (start, end), number, is_special, score in zip(offsets, words, special, scores, strict=True):
        if is_special:
            continue
        start += len(text[start:end]) - len(text[start:end].lstrip())
        if start >= end:
            carried += score
            continue
        last = pieces[-1] if pieces else None
        if last and (start < last.end or (start == last.end and (number == last.number or _is_joined(text, start)))):
            last.end, last.number = max(last.end, end), number
            last.score += score + carried
        else:
            pieces.append(_Word(start, end, number, score + carried))
        carried = 0.0
    if pieces:
        pieces[-1].score += carried
    return _fill(text, pieces), (pieces[0].start, pieces[-1].end) if pieces else (0, 0)


def _fill(text: str, pieces: list[_Word]) -> tuple[tuple[str, float], ...]:
    """Put what lies between the words in its place."""
    spans: list[tuple[str, float]] = []
    at = 0
    for word in pieces:
        start, end = word.start, word.end
        while end < len(text) and _is_joined(text, end):
            end += 1
        if end <= at:  # swallowed by the piece before it
            piece, score = spans[-1]
            spans[-1] = (piece, score + word.score)
            continue
        if start > at:
            spans.append((text[at:start], 0.0))
        spans.append((text[max(start, at) : end], word.score))
        at = end
    if at < len(text):
        spans.append((text[at:], 0.0))
    return tuple(spans)


def _is_joined(text: str, at: int) -> bool:
    """Is the character at `at` drawn as one with the character before it?"""
    if not 0 < at < len(text):
        return False
    char, before = text[at], text[at - 1]
    if before.isspace():
        return False
    flags = all("\U0001f1e6" <= c <= "\U0001f1ff" for c in (before, char))
    tone = "\U0001f3fb" <= char <= "\U0001f3ff"
    tag = "\U000e0020" <= char <= "\U000e007f"
    return flags or tone or tag or _JOINER in (before, char) or unicodedata.category(char) in ("Mn", "Mc", "Me")


def text_html(attribution: TextAttribution) -> str:
    """Return the text with the score of every word that counts as colour, as weight of an underline (dashed: against) and in its title.

    All of the text is escaped, and characters that nobody can see are spelt out. What the model does not read is set
    in grey italics, and a sentence says so. There is no script in it.
    """
    note = f"Why <bdi>{escape(one_line(attribution.label))}</bdi>: {_LEGEND}"
    if attribution.truncated:
        note += " The model reads only part of this text; what is in italics counts for nothing."
    pieces: list[str] = []
    at = 0
    first, last = attribution.read
    for piece, score in attribution.spans:
        is_read = first <= at < last
        at += len(piece)
        pieces.append(_piece(piece, score, attribution.scale, is_read))
    text = "".join(pieces)
    return f'{_STYLE}<p class="hftl-why hftl-why-note">{note}</p><div class="hftl-why" dir="auto">{text}</div>'


def _piece(piece: str, score: float, scale: float, is_read: bool) -> str:
    text = escape(visible(piece))
    if not is_read:
        return f'<span class="unread" title="not read by the model">{text}</span>'
    if abs(score) < 0.05:  # of no account beside the strongest word
        return text
    side = "for" if score > 0 else "against"
    title = f"{score:+.2f} ({score * scale:+.2f} log-odds)"
    return f'<span class="{side}" style="--s:{abs(score):.2f}" title="{title}">{text}</span>'
