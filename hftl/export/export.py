"""Write a trained classifier as an ONNX folder that needs neither PyTorch nor hftl, and prove that it is the model."""

import dataclasses
import json
import logging
import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from hftl.atomic import check_folder, new_folder
from hftl.data.splits import Splits
from hftl.errors import ConfigError, ModelError, RunError
from hftl.export.companions import read_preprocessing, write_config, write_predict, write_tokenizer
from hftl.export.graph import OPSET, Graph, check_packages, export_image, export_text, session
from hftl.export.int8 import CALIBRATION_ROWS, is_convolutional, quantise_dynamic, quantise_static
from hftl.export.parity import check_parity
from hftl.export.rows import (
    label_ids,
    parity_rows,
    predicted_ids,
    probabilities,
    quality_splits,
    single_feeds,
    stacker,
    torch_probabilities,
)
from hftl.export.timing import cut, time_onnx, time_torch, usable_threads
from hftl.paths import typed_path
from hftl.predict import Predictor, load
from hftl.publishing.parity import TOLERANCE, keep_parity
from hftl.run_data import Artifact, RealRows, open_artifact, spread


MODEL, INT8 = "model.onnx", "model_int8.onnx"  # the names that transformers.js knows too
_REPORT = "export.json"
_MARK = ".hftl-export"  # in the folder while it is made: says that a leftover may be removed
_NO_LIMIT = 100_000  # tokenizers that know no limit report a number beyond any model's
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

    predict.py is run in a fresh process on 64 real rows; labels must equal those of the PyTorch model in fp32, and
    probabilities differ by at most 1e-4.

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
        ModelError: the model cannot be exported, its export answers otherwise, or int8 loses more than `max_drop`.
        RunError: the folder is in the way or cannot be written.
    """
    _check_options(format, max_drop)
    check_packages()
    artifact = open_artifact(run_or_model)
    folder = typed_path(output_dir) if output_dir else default_folder(artifact)
    check_output(folder, overwrite=overwrite)
    predictor = _load(artifact)
    splits = quality_splits(artifact, predictor.task, predictor.labels, data) if int8 else None
    rows = parity_rows(artifact, predictor.task, data)
    with new_export(folder) as work:
        graph = _write(work, predictor, artifact.name)
        values = {**_describe(artifact, predictor, graph), **_check(work, predictor, rows, splits, max_drop)}
        (work / _REPORT).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if (problem := keep_parity(artifact, "onnx", values["parity"])) is not None:
        logging.getLogger(__name__).warning(problem)
    return ExportReport(folder, values)


def _check_options(format: str, max_drop: float) -> None:
    if format != "onnx":
        raise ConfigError(f"hftl exports to onnx, not to {format!r}. Use --format onnx.")
    if not (isinstance(max_drop, int | float) and math.isfinite(max_drop) and max_drop <= 1):
        raise ConfigError(f"--max_drop {max_drop} is not a share of accuracy, such as 0.01 for one point.")


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
    check_folder(
        folder,
        "--output_dir",
        "my-onnx",
        kind="an export of hftl",
        proof=_REPORT,
        marks=(_MARK,),
        overwrite=overwrite,
    )


@contextmanager
def new_export(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `folder` at the end. Raises `RunError` when the disk refuses."""
    try:
        with new_folder(folder, _MARK) as work:
            yield work
    except OSError as error:
        if error.errno is None:  # not the disk's
            raise
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another --output_dir.") from None


def _load(artifact: Artifact) -> Predictor:
    """Load the model for the CPU, and an image processor that resizes with Pillow, as predict.py does."""
    predictor = load(artifact.folder)
    predictor.model.cpu()
    if predictor.task.input_column == "image":
        processor = transformers.AutoImageProcessor.from_pretrained(artifact.folder, backend="pil")
        return dataclasses.replace(predictor, processor=processor)
    if predictor.processor.model_max_length > _NO_LIMIT:
        raise ModelError(
            f"{artifact.name} cannot be exported: its tokenizer knows no longest text. "
            "Set model_max_length in tokenizer_config.json."
        )
    return predictor


def _write(work: Path, predictor: Predictor, name: str) -> Graph:
    """Write model.onnx and what lies beside it."""
    write_config(work, predictor.model.config)
    if predictor.task.input_column == "text":
        write_tokenizer(work, predictor.processor, name)
        write_predict(work, "text", predictor.labels, None)
        return export_text(predictor.model, work / MODEL, int(predictor.processor.model_max_length))
    steps = read_preprocessing(predictor.processor, name)
    predictor.processor.save_pretrained(work)
    write_predict(work, "image", predictor.labels, steps)
    return export_image(predictor.model, work / MODEL, steps["crop"][0])


def _check(work: Path, predictor: Predictor, rows: RealRows, splits: Splits | None, max_drop: float) -> dict[str, Any]:
    """Compare what was written with the model, make int8 where there are `splits`, and measure."""
    feeds = single_feeds(predictor, predictor.task.inputs.table(rows.inputs))
    gap = check_parity(work, rows.inputs, torch_probabilities(predictor.model, feeds))
    judged = _add_int8(work, predictor, splits, feeds, max_drop) if splits is not None else None
    return {
        "files": {p.name: p.stat().st_size for p in sorted(work.glob("*.onnx*"))},
        "parity": {
            "rows": len(feeds),
            "origin": rows.origin,
            "labels_equal": True,  # anything else was an error
            "max_difference": gap,
            "tolerance": TOLERANCE,
            "note": "",
        },
        "int8": judged,
        "latency": _latency(work, predictor, feeds),
    }


def _add_int8(
    work: Path, predictor: Predictor, splits: Splits, feeds: list[dict[str, np.ndarray]], max_drop: float
) -> dict[str, Any]:
    """Write model_int8.onnx and return its figures. Raises `ModelError` when it loses more than `max_drop`."""
    calibration = None
    if is_convolutional(work / MODEL):
        numbers, _ = spread(splits.train, predictor.task.inputs, CALIBRATION_ROWS)
        calibration = single_feeds(predictor, splits.train.select(numbers))
        how = quantise_static(work / MODEL, work / INT8, np.concatenate([f["pixel_values"] for f in calibration]))
    else:
        how = quantise_dynamic(work / MODEL, work / INT8)
    truth = label_ids(splits.validation, splits.labels, predictor.labels)
    sessions = [session(work / name, usable_threads()) for name in (MODEL, INT8)]
    share = [float((ids == truth).mean()) for ids in predicted_ids(predictor, sessions, splits.validation)]
    drop = share[0] - share[1]
    if drop > max_drop:
        raise ModelError(
            f"int8 loses {drop:.4f} of the accuracy on {len(truth)} validation rows ({share[0]:.4f} to {share[1]:.4f}), "
            f"more than --max_drop {max_drop:g}, so nothing was written. Leave --int8 out, or allow more."
        )
    before, after = (probabilities(runtime, feeds) for runtime in sessions)
    return {
        "how": how,
        "calibration_rows": len(calibration) if calibration else 0,
        "validation_rows": len(truth),
        "accuracy_before": share[0],
        "accuracy_after": share[1],
        "drop": drop,
        "max_drop": max_drop,
        "max_difference": float(np.abs(before - after).max()),
    }


def _describe(artifact: Artifact, predictor: Predictor, graph: Graph) -> dict[str, Any]:
    """What was exported, with no path of this machine."""
    folder = artifact.run or typed_path(artifact.name)
    return {
        "schema_version": 1,
        "format": "onnx",
        "opset": OPSET,
        "task": predictor.task.name,
        "model": {
            "name": folder.resolve().name if folder.is_dir() else artifact.name,
            "architecture": type(predictor.model).__name__,
            "parameters": sum(p.numel() for p in predictor.model.parameters()),
            "labels": len(predictor.labels),
        },
        "inputs": list(graph.inputs),
        "outputs": ["logits", "probabilities"],
        "dynamic": list(graph.dynamic),
        "image_size": graph.image_size,
        "environment": {
            "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
            "machine": f"{platform.system()} {platform.machine()}",
        },
    }


def _latency(work: Path, predictor: Predictor, feeds: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Time the model alone, without tokenizing or decoding, on the rows of the parity check."""
    threads = usable_threads()
    batches = cut(feeds, stacker(predictor))
    timings = {"torch fp32": time_torch(predictor.model, batches, threads)}
    timings["onnx fp32"] = time_onnx(work / MODEL, batches, threads)
    if (work / INT8).is_file():
        timings["onnx int8"] = time_onnx(work / INT8, batches, threads)
    return {"threads": threads, "rows": len(feeds), "batches": timings}
