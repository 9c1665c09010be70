"""Rows back in the form in which a source has them, some with other labels: for copies of data in the same format."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset

from hftl.config import DataConfig
from hftl.data.annotated import SPAN_KEYS
from hftl.data.columns import is_list, is_string, numbers_of, shortened, written_numbers
from hftl.data.lists import FALLBACK, LIST, listed, ticked
from hftl.data.splits import Source, Written
from hftl.data.tagged import listed_words, names_in
from hftl.errors import DataError
from hftl.values import convert


def file_rows(source: Source, split: str, rows: Sequence[int]) -> list[int]:
    """Return the rows of the table that `with_labels` returns which the rows of the source's table were made of.

    Where empty rows part the sentences of a table of words, one stands after each.
    """
    written = source.written.get(split)
    if written is None:
        return [*rows]
    inside = {i for run in written.rows for i in run}
    empty = [i for i in range(len(written.table)) if i not in inside][:1] if written.words else []
    return [i for row in rows for i in (*written.rows[row], *empty)]


def with_labels(source: Source, split: str, column: str, values: Mapping[int, Any], config: DataConfig) -> Dataset:
    """Return the table of a split as its file has it, with these labels, by row, in the column of labels.

    A value is what `Output.read` gives: a name, a number, a tuple of names, or a tuple of tags in BIO.

    Raises:
        DataError: the column cannot hold such a label.
    """
    written = source.written.get(split)
    table = source.tables[split] if written is None else written.table
    if not values:
        return table
    if config.label_columns:
        for name in config.label_columns:
            table = _replaced(table, name, {row: _tick(table, name, name in value) for row, value in values.items()})
        return table
    if written is not None and column in source.tables[split].column_names:
        return _with_tags(source.tables[split], written, column, values)
    cells = {row: _cell(value, table, column, config.label_separator) for row, value in values.items()}
    return _replaced(table, column, cells)


def _replaced(table: Dataset, column: str, cells: Mapping[int, Any]) -> Dataset:
    feature, values = table.features[column], table[column][:]
    for row, cell in cells.items():
        values[row] = cell
    changed = table.remove_columns(column).add_column(column, values, feature=feature)  # type: ignore[arg-type]
    return changed.select_columns(table.column_names)


def _tick(table: Dataset, column: str, yes: bool) -> Any:
    """Return how a column of `--label_columns` writes yes or no: as its other cells do."""
    ways = ("1", "1.0", "true") if yes else ("0", "0.0", "false")
    known = (cell for cell in table[column][:] if str(cell).lower() in ways)
    return next(known, str(int(yes)) if is_string(table.features[column]) else int(yes))


def _cell(value: Any, table: Dataset, column: str, separator: str | None) -> Any:
    """Return a label as the cells of a column hold it. Raises `DataError` for one that they cannot hold."""
    feature, cells = table.features[column], table[column][:]
    try:
        if is_list(feature) or (isinstance(value, tuple) and separator is None):
            return _list_cell(value, feature, cells)
        if isinstance(value, tuple):
            return str(separator).join(value)
        if is_string(feature):
            return value if isinstance(value, str) else _number_cell(value, table, column)
        if isinstance(feature, ClassLabel):
            return feature.str2int(value)
        kind = next((k for k in (bool, int, float) if k.__name__ in feature.dtype), float)
        return convert(kind, value)
    except (ValueError, TypeError, KeyError):
        name = ", ".join(value) if isinstance(value, tuple) else str(value)
        raise DataError(f"the column {column!r} cannot hold {shortened(name)}: edit the file itself") from None


def _number_cell(value: float, table: Dataset, column: str) -> str:
    """Return a number as the cells of a column of texts write theirs, such as "$1,234.50"."""
    cells = [cell for cell in table[column][:] if cell and cell.strip()]
    plain = repr(value).removesuffix(".0")
    if numbers_of(table, column) is not None:
        return plain
    first = next(i for i, character in enumerate(cells[0]) if character.isdigit())
    last = max(i for i, character in enumerate(cells[0]) if character.isdigit())
    before, after = cells[0][:first].lstrip("+-\u2212"), cells[0][last + 1 :]
    for text in (plain, plain.replace(".", ",")):
        cell = f"{'-' * (value < 0)}{before}{text.removeprefix('-')}{after}"
        ways, had = written_numbers([*cells, cell]), written_numbers(cells)
        if len(had) == 1 and [way[-1] for way in ways if way[:-1] == had[0]] == [value]:
            return cell
    raise ValueError(value)


def _list_cell(value: tuple[str, ...], feature: Any, cells: Sequence[Any]) -> Any:
    """Return names as a column of lists, or of lists written as text, holds them; one 0 or 1 for each where it does so."""
    texts = is_string(feature)
    lists = [cell if cell is None or not texts else _parts(cell) for cell in cells]
    parts: list[Any] = [*value]
    if ticked(lists) is not None:
        row = next(one for one in lists if one)
        parts = [type(row[0])(int(FALLBACK.format(i) in value)) for i in range(len(row))]
    elif not texts:
        inner = feature[0] if isinstance(feature, list) else feature.feature
        if isinstance(inner, ClassLabel):
            parts = [inner.str2int(name) for name in parts]
        elif not is_string(inner):
            parts = [convert(int, name) for name in parts]
    if not texts:
        return parts
    as_lists = [cell for cell in cells if cell and LIST.fullmatch(cell)]
    if not as_lists:  # words with spaces between them
        return " ".join(value)
    if ticked(lists) is not None:
        return f"[{', '.join(map(str, parts))}]"
    return json.dumps(parts, ensure_ascii=False) if any('"' in cell for cell in as_lists) else repr(parts)


def _parts(cell: str) -> list[str] | None:
    try:
        return listed(cell) if LIST.fullmatch(cell) else cell.split()
    except ValueError:
        return None


# --------------------------------------------------------------------------------------------------------- tags


def _with_tags(read: Dataset, written: Written, column: str, values: Mapping[int, Sequence[str]]) -> Dataset:
    """Return the table of a file with other tags of words: as spans, as rows of one word each, or as lists."""
    table = written.table
    cells: dict[int, Any] = {}
    if written.spans is not None:
        for row, tags in values.items():
            (at,) = written.rows[row]
            cells[at] = _spans(read[row], tags, table[at][written.spans], table.features[written.spans], written.shift)
        return _replaced(table, written.spans, cells)
    tagged = names_in(read, column) or []
    raw = _as_written(written, column)
    spelled: dict[str, str] = {}
    for here, there in zip(tagged, raw, strict=True):
        spelled |= dict(zip(here or (), there or (), strict=False))
    for row, tags in values.items():
        names = [spelled.get(tag, tag) for tag in in_scheme(tags, tagged)]
        runs = written.rows[row]
        cells |= dict(zip(runs, names, strict=True)) if written.words else {runs[0]: tuple(names)}
    if not written.words:
        cells = {at: _cell(names, table, column, None) for at, names in cells.items()}
    return _replaced(table, column, cells)


def _as_written(written: Written, column: str) -> list[Sequence[str] | None]:
    """Return the tags of every row as the file spells them."""
    table = written.table
    if written.words:
        cells = table[column][:]
        return [[cells[i] or "" for i in run] for run in written.rows]
    lists = names_in(table, column)
    if lists is None:
        lists = [listed_words(cell, column) for cell in table[column][:]]
    return [lists[i] for (i,) in written.rows]


def in_scheme(tags: Sequence[str], others: Sequence[Sequence[str] | None]) -> list[str]:
    """Return tags that are in BIO in the scheme of others: IOB1, BIOES, BILOU, BMES, or BIO. Those in none stay so."""
    known = {tag for row in others for tag in row or () if tag and tag != "O"}
    letters, mark = {tag[0] for tag in known}, "_" if known and all(tag[1:2] == "_" for tag in known) else "-"
    alone, end = (next((one for one in pair if one in letters), "") for pair in ("SU", "EL"))
    inner = "M" if "M" in letters and "I" not in letters else "I"
    loose = not alone and not end and any(_begins_inside(row or ()) for row in others)
    result: list[str] = []
    for i, tag in enumerate(tags):
        if tag[:2] not in ("B-", "I-"):
            result.append(tag)
            continue
        kind, begins = tag[2:], tag[0] == "B"
        ends = i + 1 == len(tags) or tags[i + 1] != f"I-{kind}"
        letter = (alone if begins and ends else "") or ("B" if begins else end if ends and end else inner)
        if loose and begins and (i == 0 or tags[i - 1][2:] != kind):
            letter = "I"
        result.append(f"{letter}{mark}{kind}")
    return result


def _begins_inside(tags: Sequence[str]) -> bool:
    """Does an entity begin with I-, as in IOB1?"""
    return any(tag[:1] == "I" and before[2:] != tag[2:] for before, tag in zip(("O", *tags), tags, strict=False))


def _spans(row: Mapping[str, Any], tags: Sequence[str], had: Any, feature: Any, shift: int) -> list[dict[str, Any]]:
    """Return the spans of a row of words with such tags, as dicts of the same keys; one that it had stays as it was."""
    kinds = feature[0] if isinstance(feature, list) else feature.feature
    start, end, label = (next(key for key in keys if key in kinds) for keys in SPAN_KEYS)
    several = is_list(kinds[label])
    before = {(span[start], span[end], str(span[label])): span for span in had or ()}
    spans = []
    for i, tag in enumerate(tags):
        if tag[:2] != "B-":
            continue
        last = next((j for j in range(i + 1, len(tags)) if tags[j] != f"I-{tag[2:]}"), len(tags)) - 1
        begin, stop = row["starts"][i], row["starts"][last] + len(row["tokens"][last]) - shift
        name = [tag[2:]] if several else tag[2:]
        new = dict.fromkeys(kinds) | {start: begin, end: stop, label: name}
        spans.append(before.get((begin, stop, str(name)), new))
    return spans
