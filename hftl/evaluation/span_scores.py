"""The scores of tags: which spans of words are found, as seqeval counts them, from the tags of whole rows at once.

Rows are lists or arrays of tag ids, one a word, and `names` the tags: "O", "B-PER", "I-PER", also of the schemes IOB1,
IOE1, IOE2, IOBES and BILOU, and "PER-B". A name without such a letter ("NOUN") is a span as long as it is repeated.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from scipy import sparse

from hftl.errors import DataError
from hftl.evaluation import metrics
from hftl.evaluation.bootstrap import Corrected, Scores


# Letters of the tags, BILOU's L and U being IOBES's E and S.
O, B, I, E, S = range(5)  # noqa: E741
_LETTER = {"B": B, "I": I, "E": E, "S": S, "L": E, "U": S}
_BEFORE, _AFTER = re.compile(r"([BIESLU])(?:[-_](.+))?", re.DOTALL), re.compile(r"(.+)-([BIESLU])", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Tags:
    """What the names of tags say: the letter and the type of each, [tags]; and the names of the types."""

    letters: np.ndarray
    kinds: np.ndarray  # -1 for "O"
    types: tuple[str, ...]


def read_tags(names: Sequence[str]) -> Tags:
    """Take the names of tags apart. "PER-B" is read so where every name ends in a letter; "B" alone is of type "_"."""
    parts = [_BEFORE.fullmatch(name) for name in names]
    ends = [_AFTER.fullmatch(name) for name in names]
    if not any(parts) and any(ends) and all(end or name == "O" for end, name in zip(ends, names, strict=True)):
        pairs = [end.group(2, 1) if end else ("O", "") for end in ends]
    else:
        whole = [("O", "") if name == "O" else ("I", name) for name in names]
        pairs = [part.group(1, 2) if part else pair for part, pair in zip(parts, whole, strict=True)]
    types = tuple(sorted({kind or "_" for letter, kind in pairs if letter != "O"}))
    kinds = [types.index(kind or "_") if letter != "O" else -1 for letter, kind in pairs]
    return Tags(np.array([_LETTER.get(letter, O) for letter, _ in pairs]), np.array(kinds), types)


@dataclass(frozen=True, eq=False)
class _Flat:
    """The words of all rows in one line, an "O" before each row and after the last: letters and types [words]."""

    letters: np.ndarray
    kinds: np.ndarray
    row: np.ndarray  # of each word
    rows: int

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], tags: Tags) -> "_Flat":
        rows = list(rows)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(tags.letters):
            raise DataError(f"Tag ids go from {ids.min()} to {ids.max()}, but there are {len(tags.letters)} tags.")
        row = np.repeat(np.arange(len(rows)), lengths)
        places = np.arange(len(ids)) + row + 1
        letters, kinds, of = (np.full(len(ids) + len(rows) + 1, fill) for fill in (O, -1, -1))
        letters[places], kinds[places], of[places] = tags.letters[ids], tags.kinds[ids], row
        return cls(letters, kinds, of, len(rows))


def _lenient(flat: _Flat) -> np.ndarray:
    """Return the spans [m, 3] as seqeval's `get_entities` finds them: type, place of the first word and of the last."""
    before, here = flat.letters[:-1], flat.letters[1:]
    other = flat.kinds[:-1] != flat.kinds[1:]
    ends = np.isin(before, (E, S)) | (np.isin(before, (B, I)) & np.isin(here, (O, B, S))) | ((before != O) & other)
    starts = np.isin(here, (B, S)) | (np.isin(before, (O, E, S)) & np.isin(here, (I, E))) | ((here != O) & other)
    latest = np.maximum.accumulate(np.where(starts, np.arange(1, len(here) + 1), 0))
    last = np.flatnonzero(ends)  # a span may end at the word before
    return np.stack([flat.kinds[last], latest[last - 1], last], axis=1)


def _strict(flat: _Flat) -> np.ndarray:
    """Return the spans [m, 3] as seqeval's `mode="strict"` finds them in IOB2: a B and the I of its type that follow."""
    first = np.flatnonzero(flat.letters == B)
    goes_on = (flat.letters[1:] == I) & (flat.kinds[1:] == flat.kinds[:-1])
    breaks = np.flatnonzero(~goes_on) + 1
    after = breaks[np.searchsorted(breaks, first, side="right")]  # there is one: the last place is an O
    return np.stack([flat.kinds[first], first, after - 1], axis=1)


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (type, first, last) of the spans in one row of tags, as seqeval's `get_entities` does, whatever scheme the
    tags keep to or break.
    """
    names = sorted(set(tags))
    read = read_tags(names)
    spans = _lenient(_Flat.of([[names.index(tag) for tag in tags]], read))
    return [(read.types[kind], first - 1, last - 1) for kind, first, last in spans.tolist()]


def span_statistics(answers: Iterable[Any], targets: Iterable[Any], names: Sequence[str]) -> sparse.csr_array:
    """Return [n, 6 types]: how many spans of each type are true, predicted and both, and then the same strictly.

    Tags of which none has a B, such as parts of speech, have no scheme to keep to. Raises `DataError` unless the rows are equally long and hold ids of `names`.
    """
    tags, true, predicted = _pair(answers, targets, names)
    parts = []
    for find in (_lenient, _strict if B in tags.letters else _lenient):
        first, second = find(true), find(predicted)
        parts += [first, second, first[_among(first, second)]]
    columns = np.concatenate([spans[:, 0] + i * len(tags.types) for i, spans in enumerate(parts)])
    rows = true.row[np.concatenate(parts)[:, 1]]
    shape = (true.rows, 6 * len(tags.types))
    return sparse.csr_array(sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape))


def _pair(answers: Iterable[Any], targets: Iterable[Any], names: Sequence[str]) -> tuple[Tags, _Flat, _Flat]:
    tags = read_tags(names)
    true, predicted = (_Flat.of(rows, tags) for rows in (targets, answers))
    if not np.array_equal(true.row, predicted.row):
        raise DataError("Tags need as many answers as words in every row.")
    if not tags.types:
        raise DataError(f"The tags {', '.join(names)} name no span.")
    return tags, true, predicted


def _among(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell for each of the spans [m, 3] whether it is one of the others, [m]."""
    base = max(int(spans.max(initial=0)), int(others.max(initial=0))) + 1
    keys, known = ((part[:, 0] * base + part[:, 1]) * base + part[:, 2] for part in (spans, others))
    return np.isin(keys, known)


def _half(score: metrics.Score, *, strict: bool = False) -> metrics.Score:
    """Return the score of the first half of the sums [b, 6 types], or of the second: the spans that keep to the scheme."""
    return lambda sums: score(np.split(sums, 2, axis=-1)[strict])


SCORES: Scores = {
    "f1": Corrected(_half(metrics.micro("f1"))),
    "macro_f1": Corrected(_half(metrics.macro("f1"))),
    "strict_f1": Corrected(_half(metrics.micro("f1"), strict=True)),
    "precision": _half(metrics.micro("precision")),
    "recall": _half(metrics.micro("recall")),
}
COMPARED = ("f1", "precision", "recall", "macro_f1", "strict_f1")  # with an interval and a verdict, headline first


def type_confusion(answers: Iterable[Any], targets: Iterable[Any], names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return (true type, predicted type, spans) in that order, as ids among the types of `read_tags`, cells of 0 left out.

    A true span counts with the predicted one that has most of its words, the first of equals. A span that meets none
    counts with the id after the last type: true ones that are missed, predicted ones that are made up.
    """
    tags, true, predicted = _pair(answers, targets, names)
    spans = [_lenient(flat) for flat in (true, predicted)]
    of_word = []
    for part, flat in zip(spans, (true, predicted), strict=True):
        inside = np.full(len(flat.letters), -1)
        lengths = part[:, 2] - part[:, 1] + 1
        words = np.repeat(part[:, 1] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        inside[words] = np.repeat(np.arange(len(part)), lengths)
        of_word.append(inside)
    both = np.flatnonzero((of_word[0] >= 0) & (of_word[1] >= 0))
    pairs, words = np.unique(np.stack([inside[both] for inside in of_word], axis=1), axis=0, return_counts=True)
    pairs = pairs[np.lexsort([pairs[:, 1], -words, pairs[:, 0]])]
    met = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
    kinds, none = [part[:, 0] for part in spans], len(tags.types)
    answered = np.full(len(kinds[0]), none)
    answered[met[:, 0]] = kinds[1][met[:, 1]]
    made_up = np.delete(kinds[1], np.unique(pairs[:, 1]))
    cells = np.concatenate([kinds[0] * (none + 1) + answered, none * (none + 1) + made_up])
    cells, counts = np.unique(cells, return_counts=True)
    return [(int(c) // (none + 1), int(c) % (none + 1), int(n)) for c, n in zip(cells, counts, strict=True)]
