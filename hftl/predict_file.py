"""Predict and score whole files."""

import csv
import json
import logging
import math
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hftl.atomic import check_output_file, disk_errors, new_file
from hftl.config import data_config
from hftl.data.columns import no_formula
from hftl.data.files import DATA_SUFFIXES, IMAGE_SUFFIXES
from hftl.errors import ConfigError, HftlError
from hftl.paths import typed_path
from hftl.predict import Predictor, load_predictor
from hftl.run_data import read_report, run_of, run_splits
from hftl.tasks.outputs.classes import Probable


_log = logging.getLogger("hftl")
_AT_ONCE = 64  # rows whose maps are in memory: 20 MB of them at 640 x 480


NOT_SURE = "not_sure"  # the column of answers that the run's abstain threshold would hold back


class Answered(NamedTuple):
    """Rows with the answers to them."""

    rows: list[dict[str, Any]]
    names: dict[str, str]  # of what is answered, "prediction" first, the columns in which it stands


@dataclass(frozen=True)
class Wish:
    """What is wanted beside the answers."""

    top_k: int | None = None  # the likeliest labels
    threshold: float | None = None  # the confidence under which an answer is not sure


def threshold_of(run_or_model: str) -> float | None:
    """Return the abstain threshold of a run, also from its final/; None where there is none."""
    report = read_report(run_of(run_or_model) / "report.json")
    abstain = ((report or {}).get("evidence") or {}).get("abstain") or {}
    return abstain.get("threshold")  # type: ignore[no-any-return]


def answers_for(predictor: Predictor, inputs: list[Any], wish: Wish = Wish()) -> Answered:
    """Return what JSON says of the answer to each input: "input", "prediction", and what goes with it."""
    table = predictor.task.inputs.table(inputs)
    usable, numbers, why = predictor.task.inputs.read(table, predictor.task.inputs.columns, Path(), "", "skip", False)
    if why:
        row, reason = next(iter(why.items()))
        _warn("inputs", len(why), len(inputs), f"number {row + 1}, {reason}")
    cells = _cells(predictor, usable, numbers, len(inputs), wish)
    return Answered([{"input": i, **of_one} for i, of_one in zip(inputs, cells, strict=True)], _columns(cells))


def _warn(what: str, count: int, total: int, first: str) -> None:
    get = "get" if count > 1 else "gets"
    _log.warning("%d of %d %s cannot be read and %s an empty answer. The first: %s.", count, total, what, get, first)


def _answers(predictor: Predictor, table: Any) -> Iterator[Any]:
    """Yield the answer to each row; of answers that are maps only some are in memory at once."""
    size = max(1, len(table)) if predictor.task.output.show is None else _AT_ONCE
    for start in range(0, len(table), size):
        yield from predictor.predict_table(table.select(range(start, min(start + size, len(table)))))


def _cells(predictor: Predictor, usable: Any, numbers: Any, count: int, wish: Wish) -> list[dict[str, Any]]:
    """Return what is said of each of `count` rows; of those that are not among the `usable` ones nothing."""
    output, found = predictor.task.output, []
    for answer in _answers(predictor, usable):
        cells = output.cells(answer)
        if "abstain" in output.parts:
            cells[NOT_SURE] = None if wish.threshold is None else bool(answer.confidence < wish.threshold)
        if wish.top_k is not None:
            if not isinstance(answer, Probable):
                raise ConfigError(
                    f"--top_k is for labels, and this model answers {output.words['names']}. Leave it out."
                )
            likeliest = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[: wish.top_k]
            for place, (label, probability) in enumerate(likeliest, start=1):
                cells |= {f"label_{place}": label, f"probability_{place}": probability}
        found.append(cells)
    empty = dict.fromkeys(found[0] if found else ("prediction",))
    by_row = dict(zip(numbers.tolist(), found, strict=True))
    return [by_row.get(row, empty) for row in range(count)]


def _columns(cells: list[dict[str, Any]]) -> dict[str, str]:
    """Return the cells that a table holds: not those that are tables themselves."""
    tables = {name for one in cells for name, value in one.items() if isinstance(value, dict)}
    return {name: name for name in (cells[0] if cells else ()) if name not in tables}


def predict_data(predictor: Predictor, flags: dict[str, Any], wish: Wish = Wish()) -> Answered:
    """Predict every row of `--data`; write `--output` when given. Returns the rows, images as their paths.

    A row without a usable input has an empty answer. Raises `DataError` for data that cannot be read and `RunError` for a
    place that cannot be written.
    """
    output = check_output_file(flags["output"]) if flags.get("output") is not None else None
    if output is not None and output.exists() and output.resolve() == typed_path(flags["data"]).resolve():
        raise ConfigError(f"--output {output} would replace the data: name another file.")
    rows = predictor.read(data_config(flags))
    if rows.skipped:
        _warn("rows", len(rows.skipped), len(rows.table), rows.skipped[0])
    derived = predictor.task.inputs.derived
    columns = {name: cells for name, cells in _plain(rows.table).items() if name not in derived}
    cells = _cells(predictor, rows.inputs, rows.numbers, len(rows.table), wish)
    names = names_beside(columns, _columns(cells))
    for name, column in names.items():
        if column != name:
            _log.warning("The data has a column %r: the answers are in %r.", name, column)
        columns[column] = [one[name] for one in cells]
    if output is not None:
        write_table(columns, output)
    return Answered([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], names)


def names_beside(columns: Container[str], names: Iterable[str]) -> dict[str, str]:
    """Return for each of the `names` of answers the column that it goes into, where the data have `columns` already."""
    placed: dict[str, str] = {}
    for name in names:
        placed[name] = name
        while placed[name] in columns:
            placed[name] = f"hftl_{placed[name]}"
    return placed


def images_of(predictor: Predictor, flags: dict[str, Any]) -> list[Any]:
    """Return the images of `--data`, as paths where they are files. Raises `DataError` for data that cannot be read."""
    rows = predictor.read(data_config(flags))
    if rows.skipped:
        _warn("images", len(rows.skipped), len(rows.table), rows.skipped[0])
    values = predictor.task.inputs.values(rows.inputs)
    return [predictor.task.inputs.row(one) if one["bytes"] is not None else one["path"] for one in values]


def write_pictures(predictor: Predictor, inputs: list[Any], output: str) -> list[dict[str, Any]]:
    """Write the answer to each image as a PNG: to `output`, or in that folder where it is no name of a PNG.

    Returns what `answers_for` does, with the file in "output". Raises `RunError` for a place that cannot be written.
    """
    single, paint = Path(output).suffix.lower() == ".png", predictor.task.output.picture
    if single and len(inputs) > 1:
        raise ConfigError(f"--output {output} is one file, and there are {len(inputs)} images: name a folder.")
    if not single and Path(output).suffix.lower() in (*IMAGE_SUFFIXES, *DATA_SUFFIXES):
        raise ConfigError(
            f"--output {output}: masks are written as PNG files. Name one, or a folder for several; the share of each class is printed, with --json for all."
        )
    place = check_output_file(output) if single else typed_path(output)
    targets = [place] if single else [place / f"{name}.png" for name in _names(inputs)]
    replaced = {path.resolve() for path in targets} & {Path(one).resolve() for one in inputs if isinstance(one, str)}
    if replaced:
        raise ConfigError(f"--output {output} would replace the image {replaced.pop().name}: name another place.")
    rows = []
    for row, (one, target) in enumerate(zip(inputs, targets, strict=True)):  # the maps of all would fill the memory
        answer = predictor.predict([one])[0]
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with new_file(target) as partial:
                paint(answer, predictor.model.config).save(partial, format="PNG")  # type: ignore[misc]
        rows.append(
            {
                "input": one if isinstance(one, str) else f"row {row}",
                **predictor.task.output.cells(answer),
                "output": str(target),
            }
        )
    return rows


def _names(inputs: list[Any]) -> list[str]:
    """Return a name for the mask of each image: its file's, with its folders where two files have the same name."""
    names = [Path(one).stem if isinstance(one, str) else f"{row}" for row, one in enumerate(inputs)]
    if len({*names}) < len(names) and all(isinstance(one, str) for one in inputs):
        top = os.path.commonpath([Path(one).resolve().parent for one in inputs])
        names = [Path(one).resolve().relative_to(top).with_suffix("").as_posix() for one in inputs]
    if len({*names}) < len(names):
        raise ConfigError("Two images have the same name, so that their masks would be one file: predict them apart.")
    return names


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
    return [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


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
    predictor = load_predictor(run, flags.get("revision"))
    rows = predictor.read(data_config(flags), predictor.labels)
    seen = _learnt_from(run, predictor, rows.inputs)
    if seen:
        _log.warning(
            "%d of these %d rows are among those that the run was trained or validated on: the scores are too good for new rows.",
            seen,
            len(rows.inputs),
        )
    return {**predictor.scored(rows), "rows_trained_on": seen}


def _learnt_from(run: str, predictor: Predictor, table: Any) -> int | None:
    """Return how many rows stand in the run's train or validation split; None where these cannot be read again."""
    folder, inputs = run_of(run), predictor.task.inputs
    if not (folder / "config.yaml").is_file():
        return None
    try:
        splits = run_splits(folder)
    except HftlError:  # the data have moved, or were in memory
        return None
    learnt, asked = (
        [inputs.key(row) for part in parts for row in inputs.values(part)]
        for parts in ((splits.train, splits.validation), (table,))
    )
    known = {*learnt} - {None}
    return sum(key in known for key in asked)
