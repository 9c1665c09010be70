"""The rows that an export is checked, calibrated and judged on."""

import dataclasses
from pathlib import Path

import numpy as np
from datasets import Dataset

from hftl.artifact import Artifact
from hftl.config import build_config
from hftl.data.load import load_splits
from hftl.data.splits import Splits
from hftl.errors import DataError, HftlError
from hftl.run_data import RealRows, run_splits, some_rows
from hftl.tasks.task import Task


def parity_rows(artifact: Artifact, task: Task, data: str | None, count: int = 64) -> RealRows:
    """Return real inputs: test rows of `data`, else of the run, else of a packaged sample. Raises `DataError`."""
    if data is None or _folder_of_config(artifact) is not None:
        known = dataclasses.replace(artifact, run=_folder_of_config(artifact))
        return some_rows(known, task.inputs, count, data)
    table = spread(_splits(artifact, task, data).test, count)
    inputs = [task.inputs.show(value) for value in table[task.input_column][:]]
    return RealRows(inputs, "test rows of --data", own=True)


def quality_splits(artifact: Artifact, task: Task, labels: tuple[str, ...], data: str | None) -> Splits:
    """Return the splits to calibrate and to judge int8 on. Raises `DataError` when there are none, saying why."""
    try:
        splits = _splits(artifact, task, data)
    except HftlError as error:
        hint = "" if data else " Name them with --data, or leave --int8 out."
        raise DataError(f"--int8 is judged on validation rows, and they cannot be read: {error}{hint}") from None
    if set(splits.labels) - set(labels):
        strange = sorted(set(splits.labels) - set(labels))[0]
        raise DataError(
            f"--int8 is judged on validation rows, and {splits.name} has a label {strange!r} unknown to the model."
        )
    if len(splits.validation) == 0:
        raise DataError(f"--int8 is judged on validation rows, and {splits.name} has none.")
    return splits


def spread(table: Dataset, count: int) -> Dataset:
    """Return up to `count` rows, evenly from the whole table, which may be sorted by class."""
    rows = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int))
    return table.select(rows)


def label_ids(table: Dataset, theirs: tuple[str, ...], ours: tuple[str, ...]) -> np.ndarray:
    """Return the model's class id per row, [n]; the data may count their labels in another order."""
    return np.array([ours.index(theirs[i]) for i in table["label"][:]], dtype=np.int64)


def _splits(artifact: Artifact, task: Task, data: str | None) -> Splits:
    folder = _folder_of_config(artifact)
    if folder is not None:
        return run_splits(folder, data)
    if data is None:
        raise DataError(f"{artifact.name} does not say what it was trained on.")
    return load_splits(task.inputs, build_config(task.name, {"data": data}).data, None, task.output)


def _folder_of_config(artifact: Artifact) -> Path | None:
    """The folder with the config.yaml of the run; a repository on the Hub holds it beside the weights."""
    for folder in (artifact.run, artifact.folder):
        if folder is not None and (folder / "config.yaml").is_file():
            return folder
    return None
