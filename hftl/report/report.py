"""report.json: everything that a run found out, in one document. The schema is in docs/report.md."""

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftl.evaluation.metrics import bootstrap_intervals, compute_metrics, log_loss
from hftl.methods import FROZEN_BODY
from hftl.training.logistic import Probe
from hftl.training.stages import StageReport


SCHEMA_VERSION = 1
PACKAGES = ("hftl", "torch", "transformers", "peft", "accelerate", "datasets", "scikit-learn")


def score(logits: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    """Return the metrics of `logits` [n, classes]; accuracy and macro F1 with their 95% bootstrap bounds."""
    predictions = logits.argmax(-1)
    scores: dict[str, Any] = {**compute_metrics(predictions, references), **score_predictions(predictions, references)}
    return {**scores, "log_loss": log_loss(logits, references)}


def score_predictions(predictions: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    """Return accuracy and macro F1 with their bounds, for baselines that have no logits."""
    intervals = bootstrap_intervals(predictions, references)
    return {name: {k: float(v) for k, v in asdict(interval).items()} for name, interval in intervals.items()}


def build_report(
    ready: Any, model: Any, probe: Probe, features: str, stages: list[StageReport], sections: dict[str, Any]
) -> dict[str, Any]:
    """Return the report as plain JSON values.

    `ready` is the run's `hftl.prepare.Prepared`; `features` says where those of the probe came from. `sections` are
    those that the run made itself: metrics, per_class, timing, warnings, evidence (None without).
    """
    config, splits, loaded = ready.config, ready.splits, ready.loaded
    cut = {"rows": ready.cut, "of": len(ready.train) + len(ready.validation)}
    rungs = sections["evidence"]["ladder"] if sections["evidence"] else []
    plain = [rung for rung in rungs if rung["kind"] in ("majority", "no-pretraining")]
    return {
        "schema_version": SCHEMA_VERSION,
        "task": config.task,
        "method": config.method.method,
        "pooling": probe.pooling if config.method.method in FROZEN_BODY else "native",
        "model": {
            **{k: getattr(loaded, k) for k in ("name", "source", "revision")},
            "architecture": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "data": {
            "name": splits.name,
            "labels": list(splits.labels),
            "rows": {k: len(getattr(splits, k)) for k in ("train", "validation", "test")},
            "origins": splits.origins,
            "skipped": list(splits.skipped),
            "cut": {**cut, "tokens": loaded.processor.model_max_length} if ready.cut else None,
        },
        "metrics": sections["metrics"],
        "baselines": [{k: v for k, v in rung.items() if k != "kind"} for rung in plain],
        "per_class": sections["per_class"],
        "probe": {**{k: getattr(probe, k) for k in ("C", "pooling", "cv_accuracy")}, "features": features},
        "stages": [asdict(stage) for stage in stages],
        "timing": {k: round(v, 3) for k, v in sections["timing"].items()},
        "environment": {
            "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})",
            "processes": int(os.environ.get("WORLD_SIZE", "1")),
            "threads": torch.get_num_threads(),
        },
        "seed": config.train_seed,  # of a `--seeds` run: the one whose weights are kept
        "warnings": [*splits.warnings, *sections["warnings"]],
        "evidence": sections["evidence"],
        "parity": {},  # what was checked so far: "final", "hub", "onnx"
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as indented JSON."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
