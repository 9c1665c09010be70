"""The rows behind a finished run, read again from its data: to check, to calibrate or to show the model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from hftl.artifact import Artifact
from hftl.config import RunConfig, build_config, read_yaml
from hftl.data.load import load_splits
from hftl.data.samples import SAMPLES, load_sample
from hftl.data.splits import Splits
from hftl.errors import DataError, HftlError
from hftl.tasks import TASKS, get_task
from hftl.tasks.task import Inputs


OWN_ROWS = "test rows of the run"


@dataclass(frozen=True)
class RealRows:
    """Inputs of one task, and where they come from."""

    inputs: list[str] | list[PILImage.Image]
    origin: str  # such as "test rows of the run" or "sample:digits"
    own: bool  # rows of the run's own data, hence private


def run_config(run: Path) -> RunConfig:
    """Return the configuration of a finished run. Raises `ConfigError` when it cannot be read, or names no data."""
    values = read_yaml(run / "config.yaml")
    return build_config(str(values.pop("task")), values)


def run_splits(run: Path, data: str | None = None) -> Splits:
    """Cut the splits of a finished run again: the same rows, as long as the data are the same.

    `data` replaces the place that config.yaml names. Raises `DataError` when they cannot be read or have other labels,
    and `ConfigError` for a run on data in memory when no `data` are given.
    """
    values = read_yaml(run / "config.yaml")
    config = build_config(str(values.pop("task")), {**values, **({"data": data} if data else {})})
    report = run / "report.json"  # names the seed that `--seeds` kept, which drew the rows of `--shots`
    seed = json.loads(report.read_text(encoding="utf-8"))["seed"] if report.is_file() else config.train_seed
    task = get_task(config.task)
    return load_splits(task.inputs, config.data, seed, task.output)


def some_rows(artifact: Artifact, inputs: Inputs, count: int = 64, data: str | None = None) -> RealRows:
    """Return `count` real inputs (fewer when there are fewer): test rows of the run, else of a packaged sample.

    The rows are spread evenly over the split, which may be sorted by class. `data` names other data to read instead
    of what the run was trained on. Raises `DataError` when there are no rows to be had.
    """
    problem: HftlError | None = None
    if artifact.run is not None:
        try:
            table = run_splits(artifact.run, data).test
            return RealRows(spread(table, inputs, count)[1], OWN_ROWS, own=True)
        except HftlError as error:
            if data is not None:
                raise
            problem = error  # the data moved, or were in memory: any real row shows what the weights answer
    for sample in SAMPLES.values():
        if TASKS[sample.task].inputs is inputs:
            try:
                table = load_sample(sample.name)["test"]
            except DataError as error:
                problem = problem or error
                continue
            return RealRows(spread(table, inputs, count)[1], f"sample:{sample.name}", own=False)
    raise DataError(f"There are no rows to check the model on: {problem}")


def spread(table: Any, inputs: Inputs, count: int) -> tuple[np.ndarray, Any]:
    """Return the numbers of `count` rows spread evenly over the table (all when there are fewer), and their inputs.

    Inputs are texts, or RGB images as transformers would open them.
    """
    rows = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int))
    values: Sequence[Any] = table.select(rows)[inputs.columns[0]][:]
    return rows, [inputs.show(value) for value in values]
