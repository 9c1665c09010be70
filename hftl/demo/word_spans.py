"""From tokens back to the words of the text that was typed."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


_JOINER = "\u200d"  # joins emoji into one


@dataclass
class _Word:
    start: int
    end: int
    number: int | None  # of the tokenizer's own word
    score: float


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
    found: list[_Word] = []
    carried = 0.0  # of tokens that hold nothing but a space: part of the word that follows
    for (start, end), number, is_special, score in zip(offsets, words, special, scores, strict=True):
        if is_special:
            continue
        start += len(text[start:end]) - len(text[start:end].lstrip())
        if start >= end:
            carried += score
            continue
        last = found[-1] if found else None
        if last and (start < last.end or (start == last.end and (number == last.number or _is_joined(text, start)))):
            last.end, last.number = max(last.end, end), number
            last.score += score + carried
        else:
            found.append(_Word(start, end, number, score + carried))
        carried = 0.0
    if found:
        found[-1].score += carried
    return _fill(text, found), (found[0].start, found[-1].end) if found else (0, 0)


def _fill(text: str, found: list[_Word]) -> tuple[tuple[str, float], ...]:
    """Put what lies between the words in its place."""
    spans: list[tuple[str, float]] = []
    at = 0
    for word in found:
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
