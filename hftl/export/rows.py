"""The rows that an export is checked, calibrated and judged on, and what the written files answer to them."""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from hftl.config import build_config
from hftl.data.load import load_task
from hftl.data.splits import Splits
from hftl.errors import DataError, HftlError, ModelError
from hftl.predict import Predictor
from hftl.publishing.parity import as_json, fresh, rows_of
from hftl.run_data import Artifact, RealRows, run_splits, some_rows, spread
from hftl.tasks.outputs.mask_pictures import on_grid
from hftl.tasks.task import Ragged, Task
from hftl.terminal import progress
from hftl.training.windows import filled, in_windows


Feed = dict[str, np.ndarray]  # a batch, as the graph reads it
_CHUNK = 256  # rows in memory at a time
_FOREIGN = ("hftl", "torch", "transformers", "datasets")
# The child gets the folder and the inputs on stdin, and answers with every probability and what it imported.
_CHILD = """
import json, sys
question = json.load(sys.stdin)
sys.path.insert(0, question["folder"])
import predict
rows = predict.probabilities(question["inputs"], question["model"])
json.dump({"rows": rows.tolist(), "foreign": [m for m in question["foreign"] if m in sys.modules]}, sys.stdout)
"""

_PAINTER = """
import json, sys
question = json.load(sys.stdin)
sys.path.insert(0, question["folder"])
import predict, predict_masks
painted = predict_masks.pictures(question["inputs"], predict.session(question["model"]))
for place, picture in zip(question["places"], painted, strict=True):
    picture.save(place)
json.dump({"foreign": [m for m in question["foreign"] if m in sys.modules]}, sys.stdout)
"""


def parity_rows(artifact: Artifact, task: Task, data: str | None) -> RealRows:
    """Return some real inputs: test rows of `data`, else of the run, else of a packaged sample. Raises `DataError`."""
    folder = _folder_of_config(artifact)
    if data is None or folder is not None:
        return some_rows(dataclasses.replace(artifact, run=folder), task.inputs, rows_of(task), data)
    _, inputs = spread(_splits(artifact, task, data).test, task.inputs, rows_of(task))
    return RealRows(inputs, "test rows of --data", own=True)


def quality_splits(artifact: Artifact, task: Task, labels: tuple[str, ...], data: str | None) -> Splits:
    """Return the splits to calibrate and to judge int8 on. Raises `DataError` when there are none, saying why."""
    why = "--int8 is judged on validation rows, and"
    try:
        splits = _splits(artifact, task, data)
    except HftlError as error:
        hint = "" if data else " Name them with --data, or leave --int8 out."
        raise DataError(f"{why} they cannot be read: {error}{hint}") from None
    strange = sorted(set(splits.labels) - set(labels))
    if strange:
        raise DataError(f"{why} {splits.name} has a label {strange[0]!r} unknown to the model.")
    if len(splits.validation) == 0:
        raise DataError(f"{why} {splits.name} has none.")
    return splits


def _splits(artifact: Artifact, task: Task, data: str | None) -> Splits:
    folder = _folder_of_config(artifact)
    if folder is not None:
        return run_splits(folder, data)
    if data is None:
        raise DataError(f"{artifact.name} does not say what it was trained on.")
    return load_task(task.name, build_config(task.name, {"data": data}).data)[1]


def _folder_of_config(artifact: Artifact) -> Path | None:
    """The folder with the config.yaml of the run; a repository on the Hub holds it beside the weights."""
    folders = [folder for folder in (artifact.run, artifact.folder) if folder is not None]
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), None)


def feeds_of(predictor: Predictor, table: Dataset, size: int = 1) -> list[Feed]:
    """Return the rows in batches of `size`, padded to their longest row; of images in windows the first window of each.

    An incomplete last batch is left out; where rows are too few for one batch, they are repeated.
    """
    encoded = predictor.task.encode(table.select_columns(list(predictor.task.inputs.columns)), predictor.processor)
    collate = predictor.task.collator(predictor.processor)
    rows = np.resize(np.arange(len(encoded)), max(size, len(encoded) // size * size)).reshape(-1, size)
    side = encoded.window

    def batch_of(numbers: list[int]) -> dict[str, torch.Tensor]:
        if side is None:
            return collate([encoded[row] for row in numbers])  # type: ignore[no-any-return]
        images = [collate([encoded[row]])["pixel_values"] for row in numbers]
        return {"pixel_values": torch.cat([filled(one, side, 0.0)[..., :side, :side] for one in images])}

    batches = [batch_of(numbers) for numbers in rows.tolist()]
    return [{name: tensor.numpy() for name, tensor in batch.items() if name != "labels"} for batch in batches]


def probabilities(session: Any, feeds: Sequence[Feed]) -> np.ndarray:
    """Return [n, labels], of token heads [tokens, labels]; every row runs on its own, as in predict.py."""
    rows = [session.run(["probabilities"], feed)[0] for feed in feeds]
    return np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows])


def outputs_of(predictor: Predictor, sessions: Sequence[Any], table: Dataset) -> list[Any]:
    """Return what each session puts out, [n, ...], of words by row; only some rows are in memory at a time."""
    answers: list[list[np.ndarray]] = [[] for _ in sessions]
    lengths = [0]
    for start in progress(range(0, len(table), _CHUNK), "accuracy", f"{_CHUNK} rows"):
        some = table.select(range(start, min(start + _CHUNK, len(table))))
        encoded, collate = (
            predictor.task.encode(some, predictor.processor),
            predictor.task.collator(predictor.processor),
        )
        feeds = feeds_of(predictor, some) if encoded.window is None else []
        lengths += encoded.targets.lengths.tolist() if encoded.units is not None else []
        for rows, session in zip(answers, sessions, strict=True):
            outputs: Any = [session.run(["logits"], feed)[0] for feed in feeds]
            if encoded.window is not None:
                images = (collate([encoded[i]])["pixel_values"] for i in range(len(encoded)))
                read = partial(_maps, session)
                outputs = (in_windows(read, encoded.window, pixel_values=one)["logits"].numpy() for one in images)
            if encoded.keep is not None:  # no maps are kept
                maps = enumerate(torch.from_numpy(logits[0]) for logits in outputs)
                outputs = [encoded.keep(logits, encoded.targets[i])[None] for i, logits in maps]
            if encoded.units is not None:  # 0 for a word without a place
                words = zip(outputs, encoded.units, strict=True)
                outputs = [np.where(at[:, None] < 0, 0, tokens[0][at]) for tokens, at in words]
            rows += outputs
    arrays = [np.concatenate(rows) for rows in answers]
    return arrays if len(lengths) == 1 else [Ragged(array, np.cumsum(lengths)) for array in arrays]


def _maps(session: Any, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"logits": torch.from_numpy(session.run(["logits"], {"pixel_values": pixel_values.numpy()})[0])}


def run_predict(folder: Path, inputs: list[Any], model: str) -> np.ndarray:
    """Return what `predict.probabilities` of the folder's predict.py answers in a fresh process, [n, labels].

    Inputs are texts or PIL images; images go through lossless files in a temporary folder. Raises `ModelError` when
    it fails, or imports a package that it must do without.
    """
    with TemporaryDirectory() as temporary:
        rows = [as_json(value, Path(temporary) / f"{i}.png") for i, value in enumerate(inputs)]
        answer = _told(_CHILD, {"folder": str(folder.resolve()), "model": model, "inputs": rows})
    return np.array(answer["rows"], dtype=np.float64)


def run_pictures(folder: Path, inputs: list[Any], model: str) -> np.ndarray:
    """Return the ids of the classes in what predict_masks.py paints, as `on_grid` has them, of all inputs in one array."""
    with TemporaryDirectory() as temporary:
        rows = [as_json(value, Path(temporary) / f"{i}.png") for i, value in enumerate(inputs)]
        places = [str(Path(temporary) / f"{i}.mask.png") for i in range(len(inputs))]
        _told(_PAINTER, {"folder": str(folder.resolve()), "model": model, "inputs": rows, "places": places})
        return np.concatenate([on_grid(np.asarray(Image.open(place))) for place in places])


def _told(script: str, question: dict[str, Any]) -> dict[str, Any]:
    process = fresh(["-c", script], {**question, "foreign": _FOREIGN})
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"The written predict.py fails, so the export was not kept: {last[:300]}")
    answer: dict[str, Any] = json.loads(process.stdout)
    if answer["foreign"]:
        raise ModelError(f"The written predict.py imports {', '.join(answer['foreign'])}, so the export was not kept.")
    return answer
