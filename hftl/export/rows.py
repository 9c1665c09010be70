"""The rows that an export is checked, calibrated and judged on, and the same as inputs of its graph."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from hftl.config import build_config
from hftl.data.load import load_splits
from hftl.data.splits import Splits
from hftl.errors import DataError, HftlError
from hftl.predict import Predictor
from hftl.run_data import Artifact, RealRows, run_splits, some_rows, spread
from hftl.surroundings import progress
from hftl.tasks.task import Task


_CHUNK = 256  # rows in memory at a time


def parity_rows(artifact: Artifact, task: Task, data: str | None, count: int = 64) -> RealRows:
    """Return real inputs: test rows of `data`, else of the run, else of a packaged sample. Raises `DataError`."""
    folder = _folder_of_config(artifact)
    if data is None or folder is not None:
        return some_rows(dataclasses.replace(artifact, run=folder), task.inputs, count, data)
    _, inputs = spread(_splits(artifact, task, data).test, task.inputs, count)
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


def single_feeds(predictor: Predictor, table: Dataset) -> list[dict[str, np.ndarray]]:
    """Return the graph's inputs per row, each a batch of one: nothing is padded."""
    encoded = predictor.task.encode(table.select_columns(list(predictor.task.inputs.columns)), predictor.processor)
    collate = predictor.task.collator(predictor.processor)
    return [_numpy(collate([encoded[i]])) for i in range(len(encoded))]


def stacker(predictor: Predictor) -> Callable[[Sequence[dict[str, np.ndarray]]], dict[str, np.ndarray]]:
    """Return a function that makes one batch of single rows; texts are padded to the longest."""
    if not predictor.task.inputs.padded:
        return lambda rows: {"pixel_values": np.concatenate([row["pixel_values"] for row in rows])}

    def stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        ids = [row["input_ids"][0].tolist() for row in rows]
        return _numpy(predictor.processor.pad({"input_ids": ids}, return_tensors="pt"))

    return stack


def torch_probabilities(model: Any, feeds: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Return [n, labels] of the fp32 model on the CPU: a GPU may round its products to fewer bits."""
    with torch.inference_mode():
        rows = [model(**{k: torch.from_numpy(v) for k, v in feed.items()}).logits for feed in feeds]
    return torch.cat(rows).double().softmax(-1).numpy()


def probabilities(session: Any, feeds: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Return [n, labels]; every row runs on its own, as in predict.py."""
    return np.concatenate([session.run(["probabilities"], feed)[0] for feed in feeds])


def predicted_ids(predictor: Predictor, sessions: Sequence[Any], table: Dataset) -> list[np.ndarray]:
    """Return the class ids [n] that each session answers; only some rows are in memory at a time."""
    answers: list[list[np.ndarray]] = [[] for _ in sessions]
    for start in progress(range(0, len(table), _CHUNK), "accuracy", f"{_CHUNK} rows"):
        feeds = single_feeds(predictor, table.select(range(start, min(start + _CHUNK, len(table)))))
        for ids, session in zip(answers, sessions, strict=True):
            ids.append(probabilities(session, feeds).argmax(-1))
    return [np.concatenate(ids) for ids in answers]


def _numpy(batch: Any) -> dict[str, np.ndarray]:
    wanted = ("input_ids", "attention_mask", "pixel_values")
    return {key: batch[key].numpy() for key in wanted if key in batch}
