"""Predict and score whole files."""

import csv
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hftl.atomic import new_file, partial_of
from hftl.config import DataConfig
from hftl.data.columns import no_formula
from hftl.data.load import load_rows
from hftl.errors import RunError
from hftl.evaluation.saved_baseline import is_baseline
from hftl.paths import typed_path
from hftl.predict import Predictor, load
from hftl.predict_baseline import load_baseline_predictor
from hftl.tasks.scores import score


_log = logging.getLogger("hftl")


def load_predictor(name: str, revision: str | None = None) -> Predictor:
    """Load a run, a model, or the baseline of a run (RUN/baseline). Raises `ModelError`."""
    return load_baseline_predictor(name) if is_baseline(name) else load(name, revision)


def answers_for(predictor: Predictor, inputs: list[str]) -> list[dict[str, Any]]:
    """Return {input, prediction, probability, probabilities} per input."""
    answers = predictor.predict(inputs)
    return [
        {"input": i, "prediction": p.label, "probability": p.probability, "probabilities": p.probabilities}
        for i, p in zip(inputs, answers, strict=True)
    ]


def _config(flags: dict[str, Any]) -> DataConfig:
    names = ("data", "text_column", "image_column", "label_column", "strict")
    return DataConfig(**{name: flags[name] for name in names if name in flags})


def predict_data(predictor: Predictor, flags: dict[str, Any]) -> list[dict[str, Any]]:
    """Predict every row of `--data`; write `--output` when given. Returns the rows, images as their paths.

    Raises `DataError` for data that cannot be read and `RunError` for a place that cannot be written.
    """
    output = _checked_output(flags["output"]) if flags.get("output") is not None else None
    rows = load_rows(predictor.task.inputs, _config(flags), None)
    if rows.skipped:
        _log.warning("%d broken images are left out; the first: %s", len(rows.skipped), rows.skipped[0])
    answers = predictor.predict_table(rows.table)
    table = _plain(rows.table)
    for name, values in (
        ("prediction", [p.label for p in answers]),
        ("probability", [p.probability for p in answers]),
    ):
        column = name
        while column in table:
            column = f"hftl_{column}"
        if column != name:
            _log.warning("The data has a column %r: the answers are in %r.", name, column)
        table[column] = values
    if output is not None:
        _write(table, output)
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _checked_output(name: str) -> Path:
    """Return the file to write. Raises `RunError` or `ConfigError` when that could not be done, before any work."""
    output = typed_path(name)
    if output.is_dir():
        raise RunError(f"{output} is a folder: --output takes the name of a CSV file.")
    typed_path(partial_of(output))  # the longer name
    if not output.absolute().parent.is_dir():
        raise RunError(f"{output} cannot be written: there is no folder {output.parent}.")
    return output


def _write(table: pd.DataFrame, output: Path) -> None:
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False, name=None)]
    # a lone carriage return is not quoted before Python 3.13, and would end the row for every reader
    risky = any("\r" in cell for row in rows for cell in row if isinstance(cell, str))
    try:
        with new_file(output) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if risky else csv.QUOTE_MINIMAL)
            writer.writerow([no_formula(str(name)) for name in table.columns])
            writer.writerows(rows)
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror or error}.") from None


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else no_formula(value)


def _plain(table: Any) -> pd.DataFrame:
    """Return the cells as they are: pandas would make 1.0 of a 1 in a column with missing cells."""
    arrow = table.with_format("arrow")[:]  # datasets looks through all columns for every one that it is asked for
    columns = {name: arrow.column(name).to_pylist() for name in arrow.column_names}
    for name, values in columns.items():
        if values and isinstance(values[0], dict):  # an image: its path stands for it
            columns[name] = [v.get("path") or f"row {i}" for i, v in enumerate(values)]
    return pd.DataFrame(columns, dtype=object)


def evaluate_data(run: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Score a run on labelled rows: metrics with intervals, and per class. Raises `DataError` for unknown labels."""
    predictor = load_predictor(run, flags.get("revision"))
    rows = load_rows(predictor.task.inputs, _config(flags), predictor.labels, predictor.task.output)
    logits = predictor.logits(rows.table)
    truth, output = (np.asarray(rows.labels), predictor.labels), predictor.task.output
    return {
        "rows": len(logits),
        "skipped": list(rows.skipped),
        "metrics": score(output, logits, *truth),
        "per_class": output.table(output.decode(logits), *truth) if output.table else [],
    }
