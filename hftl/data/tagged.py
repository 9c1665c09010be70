"""Sources of words and their tags: CoNLL files, texts with marked spans, and lists that CSV holds as text."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, List, Value

from hftl.data.columns import (
    SPAN_NAMES,
    TAG_NAMES,
    TEXT_NAMES,
    WORD_NAMES,
    column_named,
    is_list,
    is_string,
    records_table,
)
from hftl.data.lists import LIST, listed
from hftl.data.words import split_words
from hftl.errors import DataError


_KEYS = (  # of a span
    ("start", "start_offset", "begin"),
    ("end", "end_offset"),
    ("label", "type", "tag", "entity_group", "entity"),
)


def read_conll(path: Path, text: str) -> Dataset:
    """Return the sentences of a CoNLL file as lists of "tokens" and of "tags": its first and its last column.

    Columns stand apart by tabs, or by spaces; a blank line ends a sentence, -DOCSTART- lines and comments are left
    out. Raises `DataError` naming the line that has fewer columns than the first one.
    """
    rows: list[dict[str, list[str]]] = []
    sentence: list[tuple[str, str]] = []
    width = 0
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.rstrip("\r")
        cells = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or cells[0] == "-DOCSTART-":
            rows += [{"tokens": [w for w, _ in sentence], "tags": [t for _, t in sentence]}] if sentence else []
            sentence = []
            continue
        if not sentence and re.match(r"#\s", line) and len(cells) != width:  # such as "# sent_id = 3"
            continue
        width = width or len(cells)
        if len(cells) < 2 or len(cells) != width or not cells[0].strip() or not cells[-1].strip():
            raise DataError(
                f"{path.name}, line {number}: {line[:60]!r} has {len(cells)} column{'s' * (len(cells) != 1)}, and "
                f"{max(2, width)} are needed: a word and its tag, with blank lines between sentences"
            )
        sentence.append((cells[0], cells[-1].strip()))
    if not rows:
        raise DataError(f"{path.name} holds no sentences: a word and its tag are needed on every line")
    return records_table(rows, path.name)


def as_words(table: Dataset, where: str) -> Dataset:
    """Return a table of words and tags: spans over characters, and lists written as text, become lists.

    A table that holds neither is returned as it is. Raises `DataError` for spans that mark nothing or overlap.
    """
    lists = [name for name in table.column_names if is_list(table.features[name])]
    strings = [name for name in table.column_names if is_string(table.features[name])]
    if not column_named(table.select_columns(lists), WORD_NAMES):
        text = column_named(table.select_columns(strings), TEXT_NAMES)
        spans = column_named(table.select_columns(lists), SPAN_NAMES)
        if text is not None and spans is not None:
            return _from_spans(table, text, spans, where)
    named = [column_named(table.select_columns(strings), names) for names in (WORD_NAMES, TAG_NAMES)]
    for column in named if named[0] else ():  # a column of labels is one of tags where words stand beside it
        values = table[column][:] if column else []
        if any(values):
            inner = [_listed(value, f"{where}, row {row}") for row, value in enumerate(values)]
            table = table.remove_columns([column]).add_column(column, inner, feature=List(Value("string")))
    return table


def with_spans(records: Any) -> Any:
    """Return records of JSON with spans such as [0, 5, "PER"] as dicts: a column holds values of one kind."""
    for record in records if isinstance(records, list) else []:
        for key in SPAN_NAMES if isinstance(record, dict) else ():
            spans = record.get(key)
            if isinstance(spans, list) and any(isinstance(span, list) and len(span) == 3 for span in spans):
                names = [keys[0] for keys in _KEYS]
                record[key] = [dict(zip(names, s, strict=False)) if isinstance(s, list) else s for s in spans]
    return records


def _listed(value: str | None, where: str) -> list[str] | None:
    """Return the words of "['EU', 'rejects']", or of words with spaces between them."""
    if value is None or not LIST.fullmatch(value):
        return None if value is None else value.split()
    try:
        return listed(value)
    except ValueError:
        raise DataError(f"{where} (counted from 0): {value[:60]!r} is no list of words") from None


def _from_spans(table: Dataset, text: str, spans: str, where: str) -> Dataset:
    rows = []
    for row, (line, marked) in enumerate(zip(table[text][:], table[spans][:], strict=True)):
        here = f"{where}, row {row} (counted from 0)"
        rows.append(_cut(line or "", [_span(span, here) for span in marked or ()], here))
    made = {"tokens": "string", "starts": "int64", "tags": "string"}
    table = table.remove_columns(sorted({spans, *made} & {*table.column_names}))
    for i, (name, kind) in enumerate(made.items()):
        table = table.add_column(name, [[piece[i] for piece in pieces] for pieces in rows], feature=List(Value(kind)))
    return table


def _span(span: Any, where: str) -> tuple[int, int, str]:
    """Return start, end and label of {"start", "end", "label"} or of [start, end, label]."""
    if isinstance(span, dict):
        known = [[span[key] for key in keys if span.get(key) is not None] for keys in _KEYS]
        span = [values[0] for values in known if values]
    try:
        start, end, label = span
        return int(start), int(end), str(label)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {span!r:.60} is no span: start, end and label are needed") from None


def _cut(line: str, spans: Sequence[tuple[int, int, str]], where: str) -> list[tuple[str, int, str]]:
    """Return (word, start, tag) of a text; a span that begins or ends inside a word splits it."""
    pieces: list[tuple[str, int, str]] = []
    at = 0
    for start, end, label in sorted(spans):
        span = f"{where}: the span {start} to {end} ({label})"
        if not 0 <= start < end <= len(line):
            raise DataError(f"{span} lies outside of a text of {len(line)} characters")
        if start < at:
            raise DataError(f"{span} overlaps the one before it: a word has one tag")
        inside = _pieces(line, start, end, f"B-{label}", f"I-{label}")
        if not inside:
            raise DataError(f"{span} holds no word")
        pieces += [*_pieces(line, at, start), *inside]
        at = end
    return [*pieces, *_pieces(line, at, len(line))]


def _pieces(line: str, start: int, end: int, first: str = "O", others: str = "O") -> list[tuple[str, int, str]]:
    words = zip(*split_words(line[start:end]), strict=True)
    return [(word, start + place, others if i else first) for i, (word, place) in enumerate(words)]
