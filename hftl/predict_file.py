"""Predict and score whole files."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from hftl.config import DataConfig
from hftl.data.cells import no_formula
from hftl.data.load import load_rows
from hftl.errors import RunError
from hftl.evaluation.metrics import per_class
from hftl.paths import typed_path
from hftl.predict import Predictor, load
from hftl.report.report import score


_log = logging.getLogger("hftl")


def answers_for(predictor: Predictor, inputs: list[str]) -> list[dict[str, Any]]:
    """Return {input, prediction, probability, probabilities} per input."""
    found = predictor.predict(inputs)
    return [
        {"input": i, "prediction": p.label, "probability": p.probability, "probabilities": p.probabilities}
        for i, p in zip(inputs, found, strict=True)
    ]


def _config(flags: dict[str, Any]) -> DataConfig:
    names = ("data", "text_column", "image_column", "label_column")
    return DataConfig(**{k: flags[k] for k in names if k in flags}, strict=bool(flags.get("strict", False)))


def predict_data(predictor: Predictor, flags: dict[str, Any]) -> list[dict[str, Any]]:
    """Predict every row of `--data`; write `--output` when given. Returns the rows, images as their paths.

    Raises `DataError` for data that cannot be read and `RunError` for a place that cannot be written.
    """
    output = typed_path(flags["output"]) if "output" in flags else None
    if output is not None and not output.absolute().parent.is_dir():
        raise RunError(f"{output} cannot be written: there is no folder {output.parent}.")
    if output is not None and output.is_dir():
        raise RunError(f"{output} is a folder: --output takes the name of a CSV file.")
    rows = load_rows(predictor.task.input_column, _config(flags), None)
    found = predictor.predict_table(rows.table)
    table = _plain(rows.table)
    for name, values in (("prediction", [p.label for p in found]), ("probability", [p.probability for p in found])):
        column = name
        while column in table:
            column = f"hftl_{column}"
        if column != name:
            _log.warning("The data has a column %r: the answers are in %r.", name, column)
        table[column] = values
    if output is not None:
        partial = output.with_name(output.name + ".partial")
        try:
            table.map(no_formula).rename(columns=no_formula).to_csv(partial, index=False)
            partial.replace(output)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise RunError(f"{output} cannot be written: {error.strerror or error}.") from None
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _plain(table: Any) -> pd.DataFrame:
    arrow = table.with_format("arrow")[
        :
    ]  # at once: datasets looks through all columns for every one that is asked for
    columns = {name: arrow.column(name).to_pylist() for name in arrow.column_names}
    for name, values in columns.items():
        if values and isinstance(values[0], dict):  # an image: its path stands for it
            columns[name] = [v.get("path") or f"row {i}" for i, v in enumerate(values)]
    return pd.DataFrame(columns)


def evaluate_data(run: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Score a run on labelled rows: metrics with intervals, and per class. Raises `DataError` for unknown labels."""
    predictor = load(run, flags.get("revision"))
    rows = load_rows(predictor.task.input_column, _config(flags), predictor.labels)
    logits = predictor.logits(rows.table)
    references = np.asarray(rows.labels)
    return {
        "rows": len(references),
        "skipped": list(rows.skipped),
        "metrics": score(logits, references),
        "per_class": per_class(logits.argmax(-1), references, list(predictor.labels)),
    }
