"""Write a trained classifier as an ONNX folder that needs neither PyTorch nor hftl, and prove that it is the model."""

import dataclasses
import json
import logging
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset

from hftl.atomic import check_folder, disk_errors, new_folder
from hftl.data.splits import Splits
from hftl.errors import ModelError
from hftl.export.companions import write_companions
from hftl.export.graph import LINKS, OPSET, check_packages, export_graph, session
from hftl.export.int8 import CALIBRATION_BATCH, CALIBRATION_ROWS, is_convolutional, quantise_dynamic, quantise_static
from hftl.export.rows import (
    Feed,
    feeds_of,
    outputs_of,
    parity_rows,
    probabilities,
    quality_splits,
    run_pictures,
    run_predict,
)
from hftl.export.timing import BATCHES, MAP_BATCHES, latency, to_tensors
from hftl.paths import bare_name, typed_path
from hftl.predict import Predictor, load
from hftl.publishing.parity import judge, keep_parity
from hftl.run_data import Artifact, RealRows, open_artifact, spread
from hftl.tasks.ragged import values_of
from hftl.tasks.scores import measure
from hftl.values import check_export


MODEL, INT8 = "model.onnx", "model_int8.onnx"  # the names that transformers.js knows too
_REPORT = "export.json"
_MARK = ".hftl-export"  # in the folder while it is made: says that a leftover may be removed
_PACKAGES = ("hftl", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportReport:
    """What was written where; `values` is the content of export.json (docs/edge.md)."""

    output_dir: Path
    values: dict[str, Any]


def export(
    run_or_model: str | Path,
    format: str = "onnx",  # the flag's name
    *,
    int8: bool = False,
    output_dir: str | Path | None = None,
    max_drop: float = 0.01,
    data: str | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write an ONNX folder with a predict.py that needs only ONNX Runtime and tokenizers or Pillow.

    predict.py is run in a fresh process on 64 real rows, and its probabilities differ from those of the PyTorch model in
    fp32 by at most 1e-4.

    Args:
        run_or_model: a run folder, a model folder or a Hub id.
        format: "onnx".
        int8: also write model_int8.onnx, judged on the validation rows of the run's data.
        output_dir: a new folder (default: RUN/onnx, or <name>-onnx).
        max_drop: the share of validation accuracy that int8 may lose, such as 0.01 for one point.
        data: data to read instead of those that the run's config.yaml names.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: an option is wrong.
        DataError: `int8` is asked for, and there are no validation rows to judge it on.
        ModelError: the model cannot be exported, or int8 loses more than `max_drop`.
        ParityError: the export answers otherwise than the model.
        RunError: the folder is in the way or cannot be written.
    """
    check_export(format, max_drop)
    check_packages()
    artifact = open_artifact(run_or_model)
    folder = typed_path(output_dir) if output_dir else default_folder(artifact)
    check_output(folder, overwrite=overwrite)
    predictor = _load(artifact)
    splits = quality_splits(artifact, predictor.task, predictor.labels, data) if int8 else None
    rows = parity_rows(artifact, predictor.task, data)
    with disk_errors(folder, "Choose another --output_dir."), new_folder(folder, _MARK) as work:
        write_companions(work, predictor, artifact.name)
        graph = export_graph(predictor, work / MODEL)
        values = {**_describe(artifact, predictor, graph), **_check(work, predictor, rows, splits, max_drop)}
        (work / _REPORT).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if (problem := keep_parity(artifact, "onnx", values["parity"])) is not None:
        logging.getLogger(__name__).warning(problem)
    return ExportReport(folder, values)


def default_folder(artifact: Artifact) -> Path:
    """Return RUN/onnx for a run, <folder>-onnx beside a model folder, else <name>-onnx in the current folder."""
    if artifact.run is not None:
        return artifact.run / "onnx"
    given = typed_path(artifact.name)
    if given.is_dir():
        return given.absolute().with_name(given.resolve().name + "-onnx")
    return Path(given.name + "-onnx")


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raise `RunError` when the export cannot be written, or would destroy something that was not given up."""
    what = {"kind": "an export of hftl", "proof": _REPORT}
    check_folder(folder, "--output_dir", "my-onnx", **what, marks=(_MARK,), overwrite=overwrite)


def _load(artifact: Artifact) -> Predictor:
    """Load the model for the CPU, and an image processor that resizes with Pillow, as predict.py does."""
    predictor = load(artifact.folder)
    predictor.model.cpu()
    if predictor.task.inputs.padded:
        return predictor
    auto = getattr(transformers, predictor.task.inputs.processor)
    return dataclasses.replace(predictor, processor=auto.from_pretrained(artifact.folder, backend="pil"))


def _check(work: Path, predictor: Predictor, rows: RealRows, splits: Splits | None, max_drop: float) -> dict[str, Any]:
    """Compare what was written with the model, make int8 where there are `splits`, and measure."""
    start = time.perf_counter()
    table = predictor.task.inputs.table(rows.inputs)
    feeds = feeds_of(predictor, table)
    if predictor.task.output.picture is not None:
        answers, expected = run_pictures(work, rows.inputs, MODEL), torch_maps(predictor, table)
    else:
        answers, expected = run_predict(work, rows.inputs, MODEL), torch_probabilities(predictor, table, feeds)
    parity = judge(answers, expected, rows.origin, "The export", start, predictor.task.output.link)
    parity["rows"] = len(rows.inputs)
    judged = _add_int8(work, predictor, splits, feeds, max_drop) if splits is not None else None
    files = {"onnx fp32": work / MODEL, "onnx int8": work / INT8}
    sizes_of = BATCHES if predictor.task.output.keep is None else MAP_BATCHES
    batches = {size: feeds_of(predictor, table, size) for size in sizes_of}
    measured = latency(predictor.model, {name: file for name, file in files.items() if file.is_file()}, batches)
    sizes = {p.name: p.stat().st_size for p in sorted(work.glob("*.onnx*"))}
    return {"files": sizes, "parity": parity, "int8": judged, "latency": {"rows": len(feeds), **measured}}


def torch_maps(predictor: Predictor, table: Dataset) -> np.ndarray:
    """Return `Output.flat` of what the fp32 model answers on the CPU, of all rows in one array."""
    output = predictor.task.output
    answers = output.answers(predictor.logits(table, use_cpu=True), predictor.labels)
    return np.concatenate([output.flat(answer, predictor.labels) for answer in answers])


def torch_probabilities(predictor: Predictor, table: Dataset, feeds: list[Feed]) -> np.ndarray:
    """Return [n, labels], or [words, labels], of the fp32 model on the CPU: a GPU may round its products to fewer bits."""
    if predictor.task.inputs.overlap is not None:
        logits = torch.from_numpy(values_of(predictor.logits(table, use_cpu=True))).double()
        return LINKS[predictor.task.output.link](logits).numpy()
    with torch.inference_mode():
        rows = [predictor.model(**to_tensors(feed)).logits for feed in feeds]
    return LINKS[predictor.task.output.link](torch.cat(rows).double()).numpy()


def _add_int8(work: Path, predictor: Predictor, splits: Splits, feeds: list[Feed], max_drop: float) -> dict[str, Any]:
    """Write model_int8.onnx and return its figures. Raises `ModelError` when it loses more than `max_drop`."""
    calibration_rows = 0
    if is_convolutional(predictor.model):
        numbers, _ = spread(splits.train, predictor.task.inputs, CALIBRATION_ROWS)
        calibration_rows = len(numbers)
        batches = feeds_of(predictor, splits.train.select(numbers), min(CALIBRATION_BATCH, calibration_rows))
        how = quantise_static(work / MODEL, work / INT8, batches)
    else:
        how = quantise_dynamic(work / MODEL, work / INT8)
    output, targets = predictor.task.output, splits.validation["label"][:]
    if output.single:  # the data may count the classes in another order
        targets = [predictor.labels.index(splits.labels[i]) for i in targets]
    truth = output.gather(targets)
    sessions = [session(work / name, torch.get_num_threads()) for name in (MODEL, INT8)]
    outputs = outputs_of(predictor, sessions, splits.validation)
    share = [measure(output, output.decode(o), truth, predictor.labels)[output.headline] for o in outputs]
    drop, score = share[0] - share[1], output.written().name
    if drop > max_drop:
        raise ModelError(
            f"int8 loses {drop:.4f} of the {score} on {len(truth)} validation rows ({share[0]:.4f} to {share[1]:.4f}), "
            f"more than --max_drop {max_drop:g}, so nothing was written. Leave --int8 out, or allow more."
        )
    before, after = (probabilities(runtime, feeds) for runtime in sessions)
    return {
        "how": how,
        "calibration_rows": calibration_rows,
        "validation_rows": len(truth),
        "score": output.headline,
        "accuracy_before": share[0],
        "accuracy_after": share[1],
        "drop": drop,
        "max_drop": max_drop,
        "max_difference": float(np.abs(before - after).max()),
    }


def _describe(artifact: Artifact, predictor: Predictor, graph: dict[str, Any]) -> dict[str, Any]:
    """What was exported, with no path of this machine."""
    return {
        "schema_version": 1,
        "format": "onnx",
        "opset": OPSET,
        "task": predictor.task.name,
        "problem_type": predictor.task.output.problem_type,
        "rows": predictor.task.inputs.kind,
        "model": {
            "name": bare_name(str(artifact.run or artifact.name)),
            "architecture": type(predictor.model).__name__,
            "parameters": sum(p.numel() for p in predictor.model.parameters()),
            "labels": len(predictor.labels),
        },
        **graph,
        "environment": {
            "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
            "machine": f"{platform.system()} {platform.machine()}",
        },
    }
