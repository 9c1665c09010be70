"""Rows that cannot be used: how many, why, where they stand as a program and as a spreadsheet count, and the ways out."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from hftl.config import COLUMN_FLAGS, DataConfig
from hftl.data.files import JSON_LINES, csv_form, csv_records
from hftl.data.splits import Source


Bad = Mapping[str, Mapping[int, str]]  # of each split: row, counted from 0 -> why it cannot be used
NO_LABEL = "without label"
_NAMED = 10  # rows


def counted_rows(bad: Bad, total: int, verb: str = "") -> str:
    """Return "5 of 600 rows (1 without label, 4 without text)", with the verb after "rows".

    What a reason says of its row alone, after a colon, is said of the first such row.
    """
    reasons: dict[str, list[str]] = {}
    for why in (why for rows in bad.values() for why in rows.values()):
        kind, _, more = why.partition(": ")
        reasons.setdefault(kind, []).append(more)
    told = [f"{len(ones)} {kind}{f', such as {ones[0]}' if ones[0] else ''}" for kind, ones in reasons.items()]
    return f"{sum(map(len, bad.values()))} of {total} rows{verb} ({', '.join(told)})"


def refusal(source: Source, bad: Bad, config: DataConfig) -> str:
    """Return the line that names all bad rows of the data, and what to do about them."""
    bad = {name: rows for name, rows in bad.items() if rows}
    total = sum(len(source.tables[name]) for name in bad)
    places = [f"{name + ' ' if len(bad) > 1 else ''}{_places(sorted(bad[name]), source, name)}" for name in bad]
    flags = {flag: getattr(config, flag) for flag in COLUMN_FLAGS if flag != "problem_type"}
    typed = {flag: value for flag, value in flags.items() if value != getattr(DataConfig(), flag)}
    words = [word for flag, value in typed.items() if isinstance(value, str) for word in (f"--{flag}", value)]
    named = isinstance(config.data, str)
    command = shlex.join(["hftl", "doctor", config.data, *words, "--fix", "cleaned"]) if named else ""
    doctor = f"`{command}` removes them" if named else "Remove them"
    gone = [name for name in bad if len(bad[name]) == len(source.tables[name])]
    ways = f"No row of {gone[0]} is left." if gone else f"{doctor}, or add --skip_bad_rows."
    return f"{source.name}: {counted_rows(bad, total, ' cannot be used')}: {'; '.join(places)}. {ways}"


def _places(rows: Sequence[int], source: Source, name: str) -> str:
    """Return "rows 55, 80 counted from 0 (rows 57, 82 of the spreadsheet)"."""
    files, first = source.files.get(name, ()), rows[:_NAMED]
    file = files[0] if len(files) == 1 else None
    numbers: list[int] = []
    where = "spreadsheet"
    if file is not None and file.suffix.lower() in (".csv", ".tsv"):
        numbers = _sheet_rows(file)
    elif file is not None and file.suffix.lower() in JSON_LINES:
        numbers = [n for n, line in enumerate(file.read_bytes().split(b"\n"), start=1) if line.strip()]
        where = "file, line by line"
    beside = ""
    if len(numbers) == len(source.tables[name]):
        beside = f" ({_list([numbers[row] for row in first], len(rows))} of the {where})"
    return f"{_list(first, len(rows))} counted from 0{beside}"


def _list(numbers: Sequence[int], count: int) -> str:
    return f"row{'s' * (count > 1)} {', '.join(map(str, numbers))}{', ...' * (count > len(numbers))}"


def _sheet_rows(file: Path) -> list[int]:
    """Return the row in which a spreadsheet shows each row of a file: a cell may hold line breaks, and a line nothing."""
    records = enumerate(csv_records(file, csv_form(file)), start=1)
    return [number for number, cells in records if len(cells) > 1 or "".join(cells).strip()][1:]
