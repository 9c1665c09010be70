"""Pairs of texts, which the tokenizer takes together: entailment, duplicates, question and answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, Value

from hftl.data.columns import column_named, is_string
from hftl.errors import DataError
from hftl.tasks.inputs.text import TEXT, blanks, read_texts, text_digest, with_text
from hftl.tasks.inputs.text import find as find_text
from hftl.tasks.task import Faults, Read


# Names of the two columns in the wild, those of GLUE's sets and of their kin first.
USUAL = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "answer"),
    ("question", "sentence"),
    ("query", "passage"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("text_a", "text_b"),
    ("text_1", "text_2"),
    ("query", "document"),
    ("question", "context"),
)


def find(table: Dataset, label: str | None, named: Sequence[str | None] = (None, None)) -> tuple[str, ...] | None:
    """Return the two columns: the second as named, else both by their usual names; None where there is no pair.

    Where the first alone is named, it is a text by itself that is meant.
    """
    first, second = named
    if second is not None:
        others = table.remove_columns([second]) if second in table.column_names else table
        one = find_text(others, label, (first,))
        return None if one is None else (one[0], second)
    if first is not None:
        return None
    for names in USUAL:
        columns = tuple(column_named(table, (name,), label) for name in names)
        if all(column is not None and is_string(table.features[column]) for column in columns):
            return tuple(map(str, columns))
    return None


def read(table: Dataset, columns: Sequence[str], base: Path, where: str, faults: Faults, refuse_numbers: bool) -> Read:
    """Return the columns as "text" and "text_pair", verbatim, the numbers of their rows, and why others are left out.

    Raises `DataError` for a column without strings.
    """
    first, second = (read_texts(table, column, False) for column in columns)
    one, other = blanks(first), blanks(second)
    both = {row: one[row] for row in one.keys() & other.keys()}
    half = dict.fromkeys(one.keys() ^ other.keys(), "with one text of the pair missing or empty")
    return with_text({"text": first, "text_pair": second}, dict(sorted((both | half).items())), faults)


def as_table(inputs: list[Any]) -> Dataset:
    """Return a table of pairs, each two texts or a dict with text and text_pair. Raises `DataError` for anything else."""
    pairs = []
    for item in inputs:
        pair = (item.get("text"), item.get("text_pair")) if isinstance(item, dict) else item
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            forms = '("one text", "another") or {"text": ..., "text_pair": ...} for each, or --text_pair in a terminal'
            raise DataError(f"This model reads pairs of texts: give {forms}.")
        pairs.append(pair)
    first, second = (TEXT.table([pair[i] for pair in pairs]) for i in (0, 1))
    return first.add_column("text_pair", second["text"][:], feature=Value("string"))


def pair_digest(pair: Sequence[str | None]) -> bytes | None:
    """Return what is equal for pairs whose texts are equal as `text_digest` has it; None where a side is empty."""
    first, second = map(text_digest, pair)
    return None if first is None or second is None else hashlib.blake2b(first + second, digest_size=16).digest()


PAIR = replace(
    TEXT,
    kind="pair",
    noun="a pair of texts",
    columns=("text", "text_pair"),
    flags=("text_column", "text_pair_column"),
    find=find,
    read=read,
    table=as_table,
    key=pair_digest,
    row=lambda pair: {"text": pair[0], "text_pair": pair[1]},
    show="\n".join,
    features=("tfidf_pair",),
    example={"text": "one text", "text_pair": "another"},
)
