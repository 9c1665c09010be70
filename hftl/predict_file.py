"""Predict and score whole files."""

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

from hftl.atomic import disk_errors, new_file, partial_of
from hftl.config import data_config
from hftl.data.columns import no_formula
from hftl.data.load import load_rows
from hftl.errors import RunError
from hftl.paths import typed_path
from hftl.predict import Predictor, load_predictor


_log = logging.getLogger("hftl")


class Answered(NamedTuple):
    """Rows with the answers to them."""

    rows: list[dict[str, Any]]
    names: list[str]  # under which the answers stand: the prediction, and the numbers that go with it


def answers_for(predictor: Predictor, inputs: list[Any]) -> Answered:
    """Return what JSON says of the answer to each input: "input", "prediction", and what goes with it."""
    cells = [predictor.task.output.cells(answer) for answer in predictor.predict(inputs)]
    return Answered([{"input": i, **of_one} for i, of_one in zip(inputs, cells, strict=True)], _columns(cells))


def _columns(cells: list[dict[str, Any]]) -> list[str]:
    """Return the cells that a table holds: not those that are tables themselves."""
    return [name for name, value in cells[0].items() if not isinstance(value, dict)] if cells else []


def predict_data(predictor: Predictor, flags: dict[str, Any]) -> Answered:
    """Predict every row of `--data`; write `--output` when given. Returns the rows, images as their paths.

    Raises `DataError` for data that cannot be read and `RunError` for a place that cannot be written.
    """
    output = _checked_output(flags["output"]) if flags.get("output") is not None else None
    rows = load_rows(predictor.task.inputs, data_config(flags), None, predictor.task.output)
    if rows.skipped:
        _log.warning("%d broken images are left out; the first: %s", len(rows.skipped), rows.skipped[0])
    answers = predictor.predict_table(rows.table)
    derived = predictor.task.inputs.derived
    columns = {name: cells for name, cells in _plain(rows.table).items() if name not in derived}
    cells = [predictor.task.output.cells(answer) for answer in answers]
    names = []
    for name in _columns(cells):
        column = name
        while column in columns:
            column = f"hftl_{column}"
        if column != name:
            _log.warning("The data has a column %r: the answers are in %r.", name, column)
        columns[column] = [one[name] for one in cells]
        names.append(column)
    if output is not None:
        write_table(columns, output)
    return Answered([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], names)


def _checked_output(name: str) -> Path:
    """Return the file to write. Raises `RunError` or `ConfigError` when that could not be done, before any work."""
    output = typed_path(name)
    if output.is_dir():
        raise RunError(f"{output} is a folder: --output takes the name of a CSV file.")
    typed_path(partial_of(output))  # the longer name
    if not output.absolute().parent.is_dir():
        raise RunError(f"{output} cannot be written: there is no folder {output.parent}.")
    return output


def write_table(columns: dict[str, list[Any]], output: Path) -> None:
    """Write a CSV; a text that a spreadsheet would run is quoted. Raises `RunError` for what the disk refuses."""
    columns = {name: _as_json(values) for name, values in columns.items()}
    rows = [[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    # a lone carriage return is not quoted before Python 3.13, and would end the row for every reader
    risky = any("\r" in cell for row in rows for cell in row if isinstance(cell, str))
    with disk_errors(output), new_file(output) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if risky else csv.QUOTE_MINIMAL)
        writer.writerows([[no_formula(name) for name in columns], *rows])


def _as_json(values: list[Any]) -> list[Any]:
    """Return a column of lists of dicts, such as entities, as JSON."""
    if not any(isinstance(value, list) and value and isinstance(value[0], dict) for value in values):
        return values
    return [json.dumps(value, ensure_ascii=False) for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "|".join(map(str, value)) if all(isinstance(one, str) for one in value) else json.dumps(value)
    return None if isinstance(value, float) and math.isnan(value) else no_formula(value)


def _plain(table: Any) -> dict[str, list[Any]]:
    """Return the cells of every column as they are, with the path of an image in its place."""
    arrow = table.with_format("arrow")[:]  # datasets looks through all columns for every one that it is asked for
    columns = {name: arrow.column(name).to_pylist() for name in arrow.column_names}
    for name, values in columns.items():
        if values and isinstance(values[0], dict):
            columns[name] = [value.get("path") or f"row {i}" for i, value in enumerate(values)]
    return columns


def evaluate_data(run: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Score a run on labelled rows: metrics with intervals, and per class. Raises `DataError` for unknown labels."""
    data = dict(vars(data_config(flags)))
    return load_predictor(run, flags.get("revision")).evaluate(data.pop("data"), **data)
