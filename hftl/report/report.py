"""report.json: everything that a run found out, in one document. The schema is in docs/report.md."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftl.config import RunConfig
from hftl.data.splits import Splits
from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.metrics import bootstrap_intervals, compute_metrics, log_loss, per_class
from hftl.methods import FROZEN_BODY
from hftl.models.load import Loaded
from hftl.training.logistic import Probe
from hftl.training.stages import StageReport


SCHEMA_VERSION = 1
PACKAGES = ("hftl", "torch", "transformers", "peft", "accelerate", "datasets", "scikit-learn")


def score(logits: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    """Return the metrics of `logits` [n, classes]; accuracy and macro F1 with their 95% bootstrap bounds."""
    predictions = logits.argmax(-1)
    result: dict[str, Any] = dict(compute_metrics(predictions, references))
    intervals = bootstrap_intervals(predictions, references)
    result.update({name: _plain(interval) for name, interval in intervals.items()})
    result["log_loss"] = log_loss(logits, references)
    return result


def _plain(interval: Interval) -> dict[str, float]:
    return {k: float(v) for k, v in asdict(interval).items()}


def score_predictions(predictions: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    """Return accuracy and macro F1 with their bounds, for baselines that have no logits."""
    return {name: _plain(i) for name, i in bootstrap_intervals(predictions, references).items()}


def build_report(
    config: RunConfig,
    loaded: Loaded,
    splits: Splits,
    probe: Probe,
    stages: list[StageReport],
    metrics: dict[str, Any],
    test_logits: np.ndarray,
    evidence: dict[str, Any] | None,
    timing: dict[str, float],
    features_origin: str,
    warnings: list[str],
    processes: int,
) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    references = np.asarray(splits.test["label"][:])
    return {
        "schema_version": SCHEMA_VERSION,
        "task": config.task,
        "method": config.method.method,
        "pooling": probe.pooling if config.method.method in FROZEN_BODY else "native",
        "model": {
            "name": loaded.name,
            "source": loaded.source,
            "revision": loaded.revision,
            "architecture": type(loaded.model).__name__,
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
        },
        "data": {
            "name": splits.name,
            "labels": list(splits.labels),
            "rows": {k: len(getattr(splits, k)) for k in ("train", "validation", "test")},
            "origins": splits.origins,
            "source_splits": splits.whole,
            "skipped": list(splits.skipped),
        },
        "metrics": metrics,
        "baselines": _baselines(evidence),
        "per_class": per_class(test_logits.argmax(-1), references, list(splits.labels)),
        "probe": {
            "C": probe.C,
            "pooling": probe.pooling,
            "cv_accuracy": probe.cv_accuracy,
            "features": features_origin,
        },
        "stages": [asdict(stage) for stage in stages],
        "timing": {k: round(v, 3) for k, v in timing.items()},
        "environment": {
            "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})",
            "processes": processes,
            "threads": torch.get_num_threads(),
        },
        "seed": config.train_seed,  # of a `--seeds` run: the one whose weights are kept
        "warnings": [*splits.warnings, *warnings],
        "evidence": evidence,
        "parity": {},  # what was checked so far: "final", "hub", "onnx"
    }


def _baselines(evidence: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The rungs without pretraining."""
    rungs = evidence["ladder"] if evidence else []
    return [
        {k: v for k, v in rung.items() if k != "kind"}
        for rung in rungs
        if rung["kind"] in ("majority", "no-pretraining")
    ]


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as indented JSON."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
