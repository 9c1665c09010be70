"""Tags as they come: read from any of their schemes into BIO, named, and refused where they do not fit their words."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from hftl.data.columns import quoted
from hftl.errors import DataError
from hftl.tasks.outputs.names import IN_SOURCE, index, lists_in, refuse_unlearnt
from hftl.tasks.ragged import Ragged


OUTSIDE = "O"
_ODD = 0.1  # share of words in entities whose tags are in no scheme, up to which they are typing errors
_LETTERS = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}  # of BIOES, BILOU and BMES, and what they are in BIO


def tags_of(table: Dataset, column: str, where: str, known: Any = None) -> list[tuple[str, ...] | None]:
    """Return the tags of every row's words in BIO, where an entity always begins with B-; None where there are none.

    IOB1 (B- only between neighbours), BIOES and BILOU are turned into it: `pipeline` joins no others to entities. Tags
    without B- and I-, such as parts of speech, stay as they are. Raises `DataError` for other than lists of names.
    """
    rows: list[tuple[str, ...] | None] = []
    for row, tags in lists_in(table, column, where, "and a list with a tag for every word is needed"):
        if tags is None or any(tag in (None, "", -1) for tag in tags):
            rows.append(None)
            continue
        if not all(isinstance(tag, str) for tag in tags):
            raise DataError(
                f"{where}: the tags in row {row} (counted from 0) of {column!r} are numbers, and nothing says what they "
                "stand for: write names, such as B-PER and O, or a ClassLabel"
            )
        rows.append(tuple(tags))
    scheme = scheme_of(tag for tags in rows for tag in tags or ())
    if scheme == "none":
        _refuse_odd(Counter(tag for tags in rows for tag in tags or () if tag != OUTSIDE), where, column)
    return rows if scheme == "none" else [None if tags is None else in_bio(tags) for tags in rows]


def _refuse_odd(counts: Counter[str], where: str, column: str) -> None:
    """Raise `DataError` for a few tags that are not in the scheme of all others: they are typing errors."""
    odd = [tag for tag in counts if scheme_of([tag]) == "none"]
    words = sum(counts[tag] for tag in odd)
    if odd and words <= _ODD * counts.total():
        raise DataError(
            f"{where}: {quoted(odd)} in {column!r} ({words} word{'s' * (words > 1)}) cannot be read: the other tags have B- or I- before "
            "the type. Correct it"
        )


def scheme_of(tags: Any) -> str:
    """Return "BIOES" (also BILOU and BMES), "BIO" or "none": all tags but O have a letter and a dash before the type."""
    letters = {tag[:1] if tag[1:2] in ("-", "_") else "" for tag in {*tags} - {OUTSIDE}}
    if not letters <= {"B", "I", *_LETTERS}:
        return "none"
    return "BIOES" if letters & {*_LETTERS} else "BIO" if letters else "none"


def in_bio(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of one row with B- where an entity begins and I- inside of it, whatever scheme they are in."""
    result = []
    before = ""  # type of the entity that goes on
    for tag in tags:
        if tag == OUTSIDE:
            before = ""
            result.append(tag)
            continue
        letter, kind = _LETTERS.get(tag[0], tag[0]), tag[2:]
        result.append(f"{'I' if letter == 'I' and kind == before else 'B'}-{kind}")
        before = "" if tag[0] in "SUEL" else kind
    return tuple(result)


def tag_names(parts: dict[str, list[tuple[str, ...]]], feature: Any, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Return O and then B- and I- of every type of train, sorted, or the plain tags; and what was recognised.

    Raises `DataError` where train has no entity, or lacks a type of another split.
    """
    counts = Counter(tag for row in parts["train"] for tag in row)
    plain = scheme_of(counts) == "none"
    types = sorted({tag if plain else tag[2:] for tag in counts if tag != OUTSIDE})
    if len(types) + (OUTSIDE in counts) < 2:
        raise DataError(f"train holds no entities: every word has the tag {OUTSIDE!r} in the column {column!r}")
    of_types = types if plain else [f"{letter}-{kind}" for kind in types for letter in "BI"]
    names = (OUTSIDE, *of_types) if OUTSIDE in counts or not plain else tuple(of_types)
    refuse_unlearnt(parts, names, "tag", "tags")
    spans = sum(count for tag, count in counts.items() if tag[:2] == "B-")
    if plain:
        return names, [f"The tags ({column}) have no B- or I-: neighbours of one tag count as one entity."]
    found = f"{len(types)} types of entities, {spans:,} entities {IN_SOURCE} ({column})"
    return names, [f"{found}, learnt in BIO: an entity begins with B-."]


def tag_ids(rows: Sequence[Sequence[str]], names: Sequence[str]) -> Ragged:
    """Return the index of every tag among the names, by row."""
    places = index(names)
    return Ragged.of([[places[tag] for tag in row] for row in rows])


def check_lengths(inputs: Dataset, rows: Sequence[Any]) -> dict[int, str]:
    """Return why a row cannot be used that has not one tag for every word."""
    pairs = enumerate(zip(inputs["words"][:], rows, strict=True))
    return {n: "with more or fewer tags than words" for n, (words, tags) in pairs if len(words) != len(tags)}
