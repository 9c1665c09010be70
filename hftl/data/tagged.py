"""Sources of words and their tags: rows of one word each, texts with marked spans, and lists that CSV holds as text."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from hftl.data.annotated import SPAN_KEYS
from hftl.data.columns import (
    SPAN_NAMES,
    TAG_NAMES,
    TEXT_NAMES,
    WORD_NAMES,
    column_named,
    is_list,
    is_string,
)
from hftl.data.lists import LIST, listed
from hftl.data.splits import Source, Written
from hftl.data.words import split_words
from hftl.errors import DataError


_SENTENCES = {"", "s", "idx", "id", "no", "nr", "num", "number", "index", "key"}  # after "sentence" or "sent"
_SIGNS = ("o", "0", "")  # that stand for O in files without one
_SCHEME = re.compile(r"[BIESLUMbieslum][-_].+", re.DOTALL)
_MIXED = 0.1  # share of inclusive ends among those that tell, from which spans are not all exclusive
_SPACED = 0.05  # share of words that hold a space, at most
_FEW = 3  # rows in a line
# A text; its spans, None where nothing is said of it, or why they cannot be read; and where it stands.
_Marked = tuple[str, list[tuple[int, int, str]] | str | None, str]
_BROKEN = "with a span that cannot be read"


def as_words(source: Source) -> Source:
    """Return the source with words and tags, and notes of what was recognised: rows of one word each, spans over characters
    and lists written as text become lists, and what stands for O is called so.

    A table that holds none of these stays as it is. Rows whose spans mark nothing or overlap have no tags, and stand in the
    faults. Raises `DataError` for words of which nothing says where their sentences begin.
    """
    notes, tables, where = list[str](), source.tables, source.name
    faults: dict[str, dict[int, str]] = {}
    written = {name: _grouped(table, name, notes) for name, table in tables.items()}
    tables = {name: _sentences(one) for name, one in written.items()}
    marked = {name: _marked(table, name) for name, table in tables.items()}
    shift = _shift([one for ones in marked.values() for one in ones or ()], where)
    notes += ["The ends of spans are inclusive: every word is whole by them, and cut otherwise."] * shift
    for name, rows in marked.items():
        if rows is not None:
            spans = _spans_column(tables[name])
            tables[name], faults[name] = _from_spans(tables[name].remove_columns([str(spans)]), rows, shift)
            written[name] = replace(written[name], spans=spans, shift=shift)
    tables = _with_outside({name: _as_lists(table, name) for name, table in tables.items()}, notes)
    warnings = [*source.warnings, *dict.fromkeys(notes)]
    return replace(source, tables=tables, faults=faults, warnings=warnings, written=written)


def _strings(table: Dataset) -> Dataset:
    return table.select_columns([name for name in table.column_names if is_string(table.features[name])])


def _lists(table: Dataset) -> Dataset:
    return table.select_columns([name for name in table.column_names if is_list(table.features[name])])


def _spans_column(table: Dataset) -> str | None:
    return column_named(_lists(table), SPAN_NAMES)


def _as_lists(table: Dataset, where: str) -> Dataset:
    """Return the table with lists in place of words and tags that are written as text."""
    named = [column_named(_strings(table), names) for names in (WORD_NAMES, TAG_NAMES)]
    for column in named if named[0] else ():  # a column of labels is one of tags where words stand beside it
        values = table[column][:] if column else []
        if any(values):
            inner = [listed_words(value, f"{where}, row {row}") for row, value in enumerate(values)]
            table = table.remove_columns([column]).add_column(column, inner, feature=List(Value("string")))
    return table


def single_words(table: Dataset) -> tuple[str, str | None, str | None] | None:
    """Return the columns of words, of tags and of what numbers the sentences, where a row holds one word; None elsewhere.

    Without tags (what is to be predicted) the sentences must be numbered; where they are, a few words may hold a space.
    """
    strings = _strings(table)
    word, tag = (column_named(strings, names) for names in (WORD_NAMES, TAG_NAMES))
    number = next((n for n in table.column_names if n not in (word, tag) and _numbers_sentences(n)), None)
    if word is None or (tag or number) is None or any(LIST.fullmatch(cell or "") for cell in strings[word]):
        return None
    cells = [cell or "" for name in (word, tag) if name for cell in strings[name]]
    several = sum(len(cell.split()) > 1 for cell in cells)
    return (word, tag, number) if several <= (_SPACED * len(cells) if number else 0) else None


def lists_as_text(table: Dataset) -> tuple[str, str] | None:
    """Return the columns of words and of tags where every row holds lists, those of words written as text; else None."""
    word, tag = column_named(_strings(table), WORD_NAMES), column_named(table, TAG_NAMES)
    if word is None or tag is None or not len(table):
        return None
    cells = [cell for name in (word, tag) if is_string(table.features[name]) for cell in table[name][:]]
    listed = is_list(table.features[tag]) or is_string(table.features[tag])
    return (word, tag) if listed and all(LIST.fullmatch(cell or "") for cell in cells) else None


def _grouped(table: Dataset, where: str, notes: list[str]) -> Written:
    """Return which rows are a sentence, of a table with a row for each word; of another one each row that is not empty.

    A column numbers the sentences, on every row or on the first one of each; or an empty row stands between them.
    """
    strings, columns = _strings(table), single_words(table)
    texts = zip(*(strings[name] for name in strings.column_names), strict=True)
    all_text = len(strings.column_names) == len(table.column_names)
    empty = {i for i, row in enumerate(texts) if not any(row)} if all_text else set[int]()
    if columns is None or len(table) - len(empty) < 2:
        return Written(table, [[i] for i in range(len(table)) if i not in empty])
    number = columns[2]
    ids = [None] * len(table) if number is None else table[number][:]
    begins: list[int] = []
    before = None
    for i in range(len(table)):
        if i not in empty and (not begins or i - 1 in empty or ids[i] not in (None, before)):
            begins.append(i)
        before = before if ids[i] is None else ids[i]
    runs = [[i for i in range(a, b) if i not in empty] for a, b in pairwise([*begins, len(table)])]
    if (number is None and not empty) or (len(runs) == len(table) and len({*ids}) < len(ids)):
        fault = "nothing says where a sentence begins" if number is None else f"{number!r} changes from word to word"
        raise DataError(
            f"{where}: every row holds one word, and {fault}: number the sentences in a column 'sentence_id', the words in order"
        )
    notes.append(f"Every row holds one word; {number or 'an empty row'!r} says where a sentence begins.")
    return Written(table, runs, words=True)


def _sentences(written: Written) -> Dataset:
    """Return the rows that were made of a table: of single words lists, of which those that never differ are one value."""
    table, runs = written.table, written.rows
    if not written.words:
        return table if len(runs) == len(table) else table.select([i for (i,) in runs])
    word, tag, number = single_words(table) or ("", None, None)
    made = {}
    for name in table.column_names:
        cells = table[name][:]
        cells = [cell or "" for cell in cells] if name == tag else cells
        lists = [[cells[i] for i in run] for run in runs]
        varies = name in (word, tag) or (name != number and any(len({*one}) > 1 for one in lists))
        made[name] = lists if varies else [one[0] for one in lists]
    return Dataset.from_dict(made)


def _numbers_sentences(name: str) -> bool:
    """Is this the name of a column that says which sentence a word is of, such as "Sentence #" or "sent_id"?"""
    parts = re.fullmatch(r"sent(?:ence)?(.*)", re.sub(r"[\W_]", "", name.lower()))
    return parts is not None and parts[1] in _SENTENCES


def _with_outside(tables: dict[str, Dataset], notes: list[str]) -> dict[str, Dataset]:
    """Return the tables with O in place of "o", "0" or nothing, where these stand for it and no tag is O."""
    for column in {name: None for table in tables.values() for name in table.column_names}:
        lists = {name: names_in(table, column) for name, table in tables.items()}
        counts = Counter(tag for rows in lists.values() for row in rows or () for tag in row or () if tag is not None)
        signs, rest = [sign for sign in _SIGNS if sign in counts], counts.keys() - {*_SIGNS}
        scheme = bool(rest) and all(_SCHEME.fullmatch(tag) for tag in rest)
        if column.lower().strip() in WORD_NAMES or len(signs) != 1 or not rest or "O" in rest:
            continue
        most = counts[signs[0]] == max(counts.values())
        named = column.lower().strip() in TAG_NAMES and not any(re.fullmatch(r"[\d.]+", tag) for tag in rest)
        if not (scheme and signs[0]) and not (most and (scheme or named)):
            continue
        known = {tag: tag[0].upper() + tag[1:] if scheme else tag for tag in rest} | {signs[0]: "O"}
        notes.append(f"The tag {signs[0]!r} ({column}) was read as O: of no entity.")
        for name, rows in lists.items():
            if rows is not None:
                tags = [row and [known.get(tag, tag) for tag in row] for row in rows]
                tables[name] = (
                    tables[name].remove_columns([column]).add_column(column, tags, feature=List(Value("string")))
                )
    return tables


def names_in(table: Dataset, column: str) -> list[Any] | None:
    """Return the lists of names in a column, None where it holds others."""
    inner = getattr(table.features.get(column), "feature", None)
    if isinstance(inner, ClassLabel):
        names = dict(enumerate(inner.names))
        return [row and [names.get(tag) for tag in row] for row in table[column][:]]
    return table[column][:] if is_list(table.features.get(column)) and is_string(inner) else None


def listed_words(value: str | None, where: str) -> list[str] | None:
    """Return the words of "['EU', 'rejects']", or of words with spaces between them."""
    if value is None or not LIST.fullmatch(value):
        return None if value is None else value.split()
    try:
        return listed(value)
    except ValueError:
        raise DataError(f"{where} (counted from 0): {value[:60]!r} is no list of words") from None


def _marked(table: Dataset, where: str) -> list[_Marked] | None:
    """Return the text of every row with its spans, None where nothing is said of it; None for a table without spans."""
    strings = _strings(table)
    if column_named(_lists(table), WORD_NAMES) or not len(table):
        return None
    only = strings.column_names[0] if len(strings.column_names) == 1 else None
    text = column_named(strings, (*TEXT_NAMES, "data")) or only
    spans = _spans_column(table)
    if text is None or spans is None:
        return None
    rows: list[_Marked] = []
    for row, (line, marked) in enumerate(zip(table[text][:], table[spans][:], strict=True)):
        try:
            read: list[tuple[int, int, str]] | str | None = (
                None if marked is None else [_span(span) for span in marked]
            )
        except DataError as error:
            read = str(error)
        rows.append((line or "", read, f"{where}, row {row} (counted from 0)"))
    told = [(here, read) for _, read, here in rows if read]
    if told and all(isinstance(read, str) for _, read in told):  # another column of that name
        raise DataError(": ".join(map(str, told[0])))
    return rows


def _shift(rows: Sequence[_Marked], where: str) -> int:
    """Return what the ends of all spans lack: 1 where a word is cut by one or more of them, and by none with one character
    more, which is no space. Raises `DataError` where some ends are so and others are not.
    """
    more: list[str] = []
    enough: list[str] = []
    neither = 0  # ends that are meant to be inside of a word
    for line, spans, here in rows:
        for start, end, _ in spans if isinstance(spans, list) else ():
            if 0 <= start <= end < len(line) and (end == start or _inside(line, end)):
                cut = _inside(line, end + 1) or line[end].isspace()
                neither += cut
                more += [] if cut else [here]
            elif 0 <= start < end and (end == len(line) or line[end : end + 1].isspace()):
                enough.append(here)
    if neither >= _MIXED * (neither + len(more)) or len(more) < _MIXED * (len(more) + len(enough)):
        return 0
    if enough:
        few, other = sorted((more, enough), key=len)
        kind = "inclusive" if few is more else "exclusive"
        rest = f" and {len(few) - _FEW} more" if len(few) > _FEW else ""
        raise DataError(
            f"{where}: the ends of {len(few)} spans look {kind} ({'; '.join(few[:_FEW])}{rest}), those of {len(other)} others "
            "do not: write all ends in one way, such as the place after the last character"
        )
    return 1


def _inside(line: str, at: int) -> bool:
    """Does a word go on at this place of the line?"""
    pair = line[at - 1 : at + 1] if at > 0 else ""
    return len(pair) == 2 and split_words(pair)[0] == [pair]


def _from_spans(table: Dataset, marked: Sequence[_Marked], shift: int) -> tuple[Dataset, dict[int, str]]:
    """Return the table with words and tags in place of the spans, and why rows have no tags whose spans cannot be read."""
    rows, said, faults = [], list[bool](), dict[int, str]()
    for row, (line, spans, _) in enumerate(marked):
        try:
            if isinstance(spans, str):
                raise DataError(spans)
            rows.append(_cut(line, [(a, b + shift, kind) for a, b, kind in spans or ()]))
        except DataError as error:
            faults[row] = f"{_BROKEN}: {error}"
            rows.append(_pieces(line, 0, len(line)))
        said.append(spans is not None and row not in faults)
    made = {"tokens": "string", "starts": "int64", "tags": "string"}
    table = table.remove_columns(sorted({*made} & {*table.column_names}))
    for i, (name, kind) in enumerate(made.items()):
        known = said if name == "tags" else [True] * len(rows)
        values = [[piece[i] for piece in pieces] if yes else None for yes, pieces in zip(known, rows, strict=True)]
        table = table.add_column(name, values, feature=List(Value(kind)))
    return table, faults


def _span(span: Any) -> tuple[int, int, str]:
    """Return start, end and label of {"start", "end", "label"} or of [start, end, label]."""
    if isinstance(span, dict):
        known = [[span[key] for key in keys if span.get(key) is not None] for keys in SPAN_KEYS]
        span = [values[0] for values in known if values]
    try:
        start, end, label = span
        if isinstance(label, list):
            (label,) = label
        return int(start), int(end), str(label)
    except (TypeError, ValueError):
        raise DataError(f"{span!r:.60} is no span: start, end and one label are needed") from None


def _cut(line: str, spans: Sequence[tuple[int, int, str]]) -> list[tuple[str, int, str]]:
    """Return (word, start, tag) of a text; a span that begins or ends inside a word splits it."""
    pieces: list[tuple[str, int, str]] = []
    at = 0
    for start, end, label in sorted(spans):
        span = f"the span {start} to {end} ({label})"
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
