"""A file of rows again: as it is, but for the rows that are left out and the cells that are others."""

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from hftl.data.annotated import relabelled
from hftl.data.conll import conll_copy
from hftl.data.files import CONLL_SUFFIXES, JSON_LINES, csv_form, json_content, text_encoding
from hftl.data.sources import records_of


_Cells = Mapping[int, Mapping[str, Any]]  # by row and column: what is another than in the file


def copy_of(path: Path, old: Dataset, new: Dataset, columns: Sequence[str], rows: Sequence[int]) -> bytes | None:
    """Return a file with these rows alone, in this order; cells of `columns` are those of `new` where they differ from `old`.

    `old` is the table that was read from the file. None where the file cannot be told from it, row by row: parquet, several
    files that make a table, columns of JSON.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return None
    encoding = text_encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        text = file.read()
    cells: dict[int, dict[str, Any]] = {}
    for name in columns:
        for row, (before, after) in enumerate(zip(old[name][:], new[name][:], strict=True)):
            if before != after:
                cells.setdefault(row, {})[name] = after
    if suffix in CONLL_SUFFIXES:
        (name,) = columns
        tags = {row: changed[name] for row, changed in cells.items()}
        made: str | None = conll_copy(path, text, rows, old.column_names.index(name), tags)
    elif suffix in (".csv", ".tsv"):
        made = _csv_copy(path, text, old, cells, rows)
    else:
        made = _json_copy(path, text, len(old), cells, rows)
    marked = encoding != "utf-8-sig" or path.read_bytes().startswith(codecs.BOM_UTF8)
    return None if made is None else made.encode(encoding if marked else "utf-8")


def _csv_copy(path: Path, text: str, old: Dataset, cells: _Cells, rows: Sequence[int]) -> str | None:
    form = csv_form(path)
    lines = io.StringIO(text, newline="").readlines()
    reader, begin = csv.reader(iter(lines), delimiter=form["sep"]), 0
    records: list[tuple[list[str], str]] = []
    for record in reader:
        records.append((record, "".join(lines[begin : reader.line_num])))
        begin = reader.line_num
    top = next((i for i, (record, _) in enumerate(records) if any(map(str.strip, record))), 0)
    body = records[top + 1 :]
    if len(body) != len(old):
        body = [one for one in body if any(one[0])]
    width = len(old.column_names)
    read = [tuple(cell or None for cell in [*record, *[""] * width][: max(width, len(record))]) for record, _ in body]
    if read != [*zip(*(old[name][:] for name in old.column_names), strict=True)]:
        return None
    end = "\r\n" if records[top][1].endswith("\r\n") else "\n"
    written = ["".join(whole for _, whole in records[: top + 1])]
    for row in rows:
        record, whole = body[row]
        for name, cell in cells.get(row, {}).items():
            at = old.column_names.index(name)
            record = [*record, *[""] * width][: max(width, len(record))]
            record[at] = cell or ""
        if row in cells:
            csv.writer(line := io.StringIO(), delimiter=form["sep"], lineterminator=end).writerow(record)
            whole = line.getvalue()
        written.append(whole)
    return "".join(one if one.endswith(("\n", "\r")) else f"{one}{end}" for one in written)


def _json_copy(path: Path, text: str, count: int, cells: _Cells, rows: Sequence[int]) -> str | None:
    content = json_content(path, text)
    in_lines = path.suffix.lower() in JSON_LINES or not _is_json(text)
    records, key = (content, None) if in_lines else records_of(content)
    if len(records) != count or (not in_lines and key is None and records is not content):
        return None
    try:
        new = {row: relabelled(records[row], changed, records) for row, changed in cells.items()}
    except ValueError:
        return None
    style: dict[str, Any] = {"ensure_ascii": "\\u" in text}
    if '": ' not in text:
        style["separators"] = (",", ":")
    if in_lines:
        lines = [line for line in text.split("\n") if line.strip()]
        end = "\r\n" if lines[0].endswith("\r") else "\n"
        lines = [json.dumps(new[row], **style) if row in new else lines[row].rstrip("\r") for row in rows]
        return "".join(f"{line}{end}" for line in lines)
    chosen = [new.get(row, records[row]) for row in rows]
    indent = re.match(r"\s*[\[{][^\S\n]*\n([ \t]+)", text)
    whole = chosen if key is None else {**content, key: chosen}
    return f"{json.dumps(whole, indent=indent[1] if indent else None, **style)}\n"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
