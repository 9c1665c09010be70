"""The words of a text, and which window of a long one answers each of them.

An export carries a copy of this file: it needs nothing of hftl, and no library.
"""

import math
import unicodedata
from collections.abc import Sequence
from itertools import accumulate, groupby


_JOINERS = "\u200c\u200d"  # inside words of Persian, Hindi and their kin


def split_words(line: str) -> tuple[list[str], list[int]]:
    """Return the words of a text and where each begins: runs of letters and digits, and single marks.

    Vowel signs and accents belong to their letter. Chinese and Japanese characters are words of their own, since
    nothing between them says where one ends.
    """
    kinds = [_kind(character) for character in line]
    words, starts = [], []
    for kind, run in groupby(range(len(line)), key=lambda i: kinds[i]):
        places = list(run)
        if kind == "word":
            words.append(line[places[0] : places[-1] + 1])
            starts.append(places[0])
        elif kind == "mark":
            words += [line[i] for i in places]
            starts += places
    return words, starts


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LNM" or character in _JOINERS or character == "_":
        wide = "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or character >= "\U00020000"
        return "mark" if wide and category[0] == "L" else "word"
    return "space" if category[0] in "ZC" or character.isspace() else "mark"


def starts_of(words: Sequence[str]) -> list[int]:
    """Return where each word begins when a space stands between every two."""
    return [0, *accumulate(len(word) + 1 for word in words[:-1])] if len(words) else []


def text_of(words: Sequence[str], starts: Sequence[int]) -> str:
    """Return the words at their places in one text, with spaces between them."""
    parts, at = [], 0
    for word, start in zip(words, starts, strict=True):
        parts.append(" " * (start - at) + word)
        at = start + len(word)
    return "".join(parts)


def answered(windows: Sequence[Sequence[int | None]], words: int, stride: int) -> list[list[int]]:
    """Return for every window the places of the first pieces that it answers, in the order of the words.

    `windows` tell which word each token is of, None for the model's own marks; neighbours share `stride` tokens.
    """
    best: dict[int, tuple[float, int, int]] = {}  # word → tokens on the narrower side, window, place
    before: int | None = None  # the word of the token before this window
    for number, of_token in enumerate(windows):
        content = [place for place, word in enumerate(of_token) if word is not None]
        last = len(content) - 1
        for k, place in enumerate(content):
            word = of_token[place]
            if word != before:  # a first piece
                left = k if number else math.inf  # where the row begins or ends there is nothing more to see
                right = last - k if number < len(windows) - 1 else math.inf
                if word not in best or min(left, right) > best[word][0]:
                    best[word] = (min(left, right), number, place)  # type: ignore[index]
            before = word
        if number < len(windows) - 1:
            at = len(content) - stride - 1
            before = of_token[content[at]] if at >= 0 else None
    places: list[list[int]] = [[] for _ in windows]
    window = 0
    for word in range(words):
        _, window, place = best.get(word, (0.0, window, -1))
        places[window].append(place)
    return places
