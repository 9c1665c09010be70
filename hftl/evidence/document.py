"""report.json: everything that a run found out, in one document. The schema is in docs/report.md."""

import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from hftl.evidence.scene import Scene
from hftl.evidence.shifts import shifts
from hftl.methods import MAY_POOL
from hftl.report.report import SCHEMA_VERSION
from hftl.tasks.scores import lines, score


PACKAGES = ("hftl", "torch", "transformers", "peft", "accelerate", "datasets", "scikit-learn")


def build_report(scene: Scene, evidence: dict[str, Any] | None) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    run, ready, outcome, probe = scene.run, scene.ready, scene.outcome, scene.seen.probe
    config, splits, loaded = run.config, ready.splits, scene.seen.loaded
    output, names = ready.task.output, splits.labels
    truth = {"test": scene.targets, "validation": ready.validation.targets}
    shares, notes = shifts(scene)
    cut = {"rows": ready.cut, "of": len(ready.train) + len(ready.validation)}
    peaks = [run.peaks[name] for name in ("features", "train")]
    return {
        "schema_version": SCHEMA_VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": config.name,
        "author": config.author or os.environ.get("USER", os.environ.get("USERNAME")),
        "task": config.task,
        "problem_type": output.problem_type,
        "inputs": ready.task.inputs.kind,
        "method": config.method.method,
        "pooling": probe.pooling if probe and config.method.method in MAY_POOL else "native",
        "model": _model(scene),
        "data": {
            "name": splits.name,
            "labels": list(names),
            "rows": {k: len(getattr(splits, k)) for k in ("train", "validation", "test")},
            "origins": splits.origins,
            "source_splits": splits.whole,
            "class_shares": shares,
            "skipped": list(splits.skipped),
            "cut": {**cut, "tokens": loaded.processor.model_max_length} if ready.cut else None,
        },
        "metrics": {
            part: run.hooks.metrics(outcome.logits[part], true) | score(output, outcome.logits[part], true, names)
            for part, true in truth.items()
        },
        "baselines": _baselines(evidence),
        "per_class": lines(output, scene.answers, scene.targets, names),
        "probe": probe
        and {
            "C": probe.C,
            "pooling": probe.pooling,
            "cv_accuracy": probe.cv_accuracy,
            "features": scene.seen.origin,
        },
        "selection": scene.selection,
        "stages": [asdict(stage) for stage in scene.fitted.stages],
        "timing": {f"{name}_seconds": round(run.seconds[name], 3) for name in ("features", "train")},
        "environment": {
            "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})",
            "processes": run.processes,
            "threads": torch.get_num_threads(),
            "peak_mb": None if None in peaks else round(max(peaks) / 1e6, 1),  # type: ignore[type-var,operator]
        },
        "seed": config.train_seed,  # of a `--seeds` run: the one whose weights are kept
        "warnings": [*splits.warnings, *ready.notes, *scene.fitted.notes, *run.notes, *notes],
        "evidence": evidence,
        "parity": {},  # what was checked so far: "final", "hub", "onnx"
    }


def _model(scene: Scene) -> dict[str, Any]:
    loaded, model = scene.seen.loaded, scene.outcome.final.model
    return {
        "name": loaded.name,
        "source": loaded.source,
        "revision": loaded.revision,
        "architecture": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _baselines(evidence: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The rungs without pretraining."""
    rungs = evidence["ladder"] if evidence else []
    return [
        {k: v for k, v in rung.items() if k != "kind"}
        for rung in rungs
        if rung["kind"] in ("majority", "no-pretraining")
    ]
