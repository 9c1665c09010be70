"""A trained classifier where it is, a run, a model folder or a repository on the Hub, and the rows behind it.

The rows are read again from the run's data: to check, to calibrate or to show the model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from PIL import Image as PILImage

from hftl.config import COLUMN_FLAGS, DataConfig, build_config, data_config, read_yaml
from hftl.data.load import load_task
from hftl.data.samples import load_sample
from hftl.data.splits import Splits
from hftl.errors import DataError, HftlError, ModelError
from hftl.hub_errors import hub_errors
from hftl.models.find import find_checkpoint
from hftl.paths import typed_path
from hftl.tasks.task import Inputs


OWN_ROWS = "test rows of the run"


# What serving a model needs of a repository; weights in other formats and adapters stay where they are.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "*.jinja", "config.yaml", "README.md")


@dataclass(frozen=True)
class Artifact:
    """A trained classifier as files of this machine."""

    name: str  # as the user gave it
    folder: Path  # config.json, safetensors, processor: what plain transformers loads
    run: Path | None  # the run folder, when there is one
    report: dict[str, Any] | None  # report.json, when there is one
    revision: str | None = None  # the commit, when it came from the Hub

    @property
    def evidence(self) -> dict[str, Any] | None:
        """The report's evidence; None where there is none."""
        return self.report.get("evidence") if self.report else None


def open_artifact(run_or_model: str | Path, revision: str | None = None) -> Artifact:
    """Find a run folder, a model folder (such as RUN/final) or a Hub id, which is downloaded into the Hub cache.

    Raises `ModelError` when there is no such model, or a report that cannot be read lies beside it.
    """
    name = str(run_or_model)
    path = typed_path(name)
    if (path / "final" / "config.json").is_file():
        find_checkpoint(str(path / "final"), None)  # its files can be read, and no shard is missing
        return Artifact(name, path / "final", path, read_report(path / "report.json"))
    checkpoint = find_checkpoint(name, revision)
    folder, run = Path(checkpoint.path), None
    if checkpoint.source == "packaged":
        return Artifact(name, folder, None, None, checkpoint.revision)
    if checkpoint.source == "folder":
        around = folder.resolve().parent
        run = around if folder.resolve().name == "final" and (around / "report.json").is_file() else None
        return Artifact(name, folder, run, read_report((run or folder) / "report.json"))
    options: dict[str, Any] = {"allow_patterns": list(_FILES), "local_files_only": checkpoint.local_only}
    with hub_errors(name, "loading it", trusting=False):
        folder = Path(snapshot_download(checkpoint.path, revision=revision, **options))
    return Artifact(name, folder, None, read_report(folder / "report.json"), folder.name)


def run_of(run_or_model: str | Path) -> Path:
    """Return the folder in which the files of a run would lie: around its final/."""
    path = typed_path(run_or_model)
    return path.resolve().parent if path.resolve().name == "final" else path


def read_report(path: Path) -> dict[str, Any] | None:
    """Return report.json, or None when there is none, or one that is not hftl's."""
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): restore it, or remove it to go on without.") from None
    return report if isinstance(report, dict) and "schema_version" in report else None


def named_columns(run: Path) -> DataConfig | None:
    """Return the columns that a run was told to learn from, by its config.yaml; None where there is no such file.

    Raises `ConfigError` for one that cannot be read.
    """
    path = run / "config.yaml"
    if not path.is_file():
        return None
    values = read_yaml(path)
    return data_config({flag: values.get(flag) for flag in COLUMN_FLAGS if flag != "problem_type"})


@dataclass(frozen=True)
class RealRows:
    """Inputs of one task, and where they come from."""

    inputs: list[str] | list[PILImage.Image]
    origin: str  # such as "test rows of the run" or "sample:digits"
    own: bool  # rows of the run's own data, hence private


def run_splits(run: Path, data: str | None = None) -> Splits:
    """Cut the splits of a finished run again: the same rows, as long as the data are the same.

    `data` replaces the place that its config.yaml names. Raises `DataError` when they cannot be read or have other
    labels, and `ConfigError` when the configuration cannot be read or names no data.
    """
    values = read_yaml(run / "config.yaml") | ({"data": data} if data else {})
    config = build_config(values.pop("task"), values)
    report = read_report(run / "report.json")  # names the seed that `--seeds` kept, which drew the rows of `--shots`
    return load_task(config.task, config.data, report["seed"] if report else config.train_seed)[1]


def some_rows(artifact: Artifact, inputs: Inputs, count: int, data: str | None = None) -> RealRows:
    """Return `count` real inputs (fewer when there are fewer): test rows of the run, else of a packaged sample.

    The rows are spread evenly over the split, which may be sorted by class. `data` names other data to read instead
    of what the run was trained on. Raises `DataError` when there are no rows to be had.
    """
    problem: HftlError | None = None
    if artifact.run is not None:
        try:
            return RealRows(spread(run_splits(artifact.run, data).test, inputs, count)[1], OWN_ROWS, own=True)
        except HftlError as error:
            if data is not None:
                raise
            problem = error  # the data moved, or were in memory: any real row shows what the weights answer
    try:
        table = load_sample(inputs.sample)["test"]
    except DataError as error:
        raise DataError(f"There are no rows to check the model on: {problem or error}") from None
    return RealRows(spread(table, inputs, count)[1], inputs.sample, own=False)


def spread(table: Any, inputs: Inputs, count: int) -> tuple[np.ndarray, Any]:
    """Return the numbers of `count` rows spread evenly over the table (all when there are fewer), and their inputs.

    Inputs are texts, pairs of them in dicts, or RGB images as transformers would open them.
    """
    rows = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int))
    return rows, [inputs.row(value) for value in inputs.values(table.select(rows))]
