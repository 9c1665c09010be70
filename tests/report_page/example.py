"""A report with every part, as a run writes it, and the rows behind it. Its figures stand for nothing."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hftl.report.html import write_page
from hftl.report.rows import PageRows


LABELS = ("Arts", "History", "Science")


def score(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def outcome(n: int, classes: int, right: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True ids, answers and how sure they are, of n rows."""
    rng = np.random.default_rng(seed)
    references = rng.integers(0, classes, n)
    predictions = np.where(rng.random(n) < right, references, rng.integers(0, classes, n))
    return references, predictions, rng.uniform(1 / classes, 1, n)


def text_rows(n: int = 60, labels: tuple[str, ...] = LABELS, text: str = "the text of row {}") -> PageRows:
    references, predictions, sure = outcome(n, len(labels))
    return PageRows(
        labels, references, predictions, sure, lambda i: text.format(i), lambda i: f"train: {text.format(i)}"
    )


def picture(i: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def image_rows(n: int = 60, size: tuple[int, int] = (8, 8)) -> PageRows:
    references, predictions, sure = outcome(n, 3)
    return PageRows(
        ("0", "1", "2"), references, predictions, sure, lambda i: picture(i, size), lambda i: picture(i + n, size)
    )


def history(steps: int = 6) -> list[dict[str, float]]:
    """A log of every step, with validation half way and at the end."""
    found: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        found.append({"loss": 2.0 / step, "learning_rate": 1e-4, "epoch": step / 3, "step": step})
        if step in (steps // 2, steps):
            found.append({"eval_loss": 1 / step, "eval_accuracy": 0.8, "eval_macro_f1": 0.7, "step": float(step)})
    return [*found, {"train_runtime": 1.0, "train_loss": 0.9, "epoch": steps / 3, "step": steps}]


def stage(name: str, steps: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "trainable_parameters": 1000,
        "learning_rates": {"block 1": 1e-5, "head": 1e-4},
        "seconds": 3.0,
        "steps": steps,
        "epochs": 1.0,
        "history": history(steps) if steps else [],
        "reads": "rows",
        "weights": "",
        **more,
    }


def report(rows: PageRows, **more: Any) -> dict[str, Any]:
    n = len(rows.references)
    return {
        "schema_version": 1,
        "task": "text-classification",
        "method": "lora",
        "pooling": "native",
        "model": {
            "name": "org/model",
            "source": "hub",
            "revision": "abc123",
            "architecture": "Bert",
            "parameters": 12,
        },
        "data": {
            "name": "tickets.csv",
            "labels": list(rows.labels),
            "rows": {"train": 100, "validation": 10, "test": n},
            "origins": {"train": "the source's train split"},
            "skipped": [],
        },
        "metrics": {
            k: {"accuracy": score(0.84), "macro_f1": score(0.8), "log_loss": 0.5} for k in ("test", "validation")
        },
        "baselines": [
            {"name": "majority class", "accuracy": score(0.3), "macro_f1": score(0.1), "seconds": 0.0},
            {"name": "TF-IDF + logistic regression", "accuracy": score(0.7), "macro_f1": score(0.6), "seconds": 1.2},
        ],
        "per_class": [
            {"label": label, "precision": 0.8, "recall": 0.6, "f1": 0.1 + 0.8 * i / len(rows.labels), "support": i + 5}
            for i, label in enumerate(rows.labels)
        ],
        "probe": {"C": 1.0, "pooling": "native", "cv_accuracy": {}, "features": "computed"},
        "stages": [stage("probe", 0, learning_rates={}), stage("lora", 6)],
        "timing": {"features_seconds": 2.0, "train_seconds": 65.0, "total_seconds": 4000.0},
        "environment": {
            "versions": {"python": "3.11", "hftl": "0.1.0"},
            "device": "cpu",
            "processes": 1,
            "threads": 2,
        },
        "seed": 42,
        "warnings": ["a note"],
        **more,
    }


def bins() -> list[dict[str, float]]:
    return [
        {"low": i / 10, "high": (i + 1) / 10, "count": i, "confidence": i / 10 + 0.05, "accuracy": 0.1 * i}
        for i in range(10)
    ]


def evidence(rows: PageRows, label: str = "POSITIVE", **more: Any) -> dict[str, Any]:
    sign = {"POSITIVE": 1, "NEGATIVE": -1, "NEUTRAL": 0}[label]
    gap = {"gap": 0.042 * sign, "low": 0.042 * sign - 0.021, "high": 0.042 * sign + 0.021}
    scores = {"ece": 0.1, "ece_low": 0.08, "ece_high": 0.12, "ece_if_calibrated": 0.02, "log_loss": 0.6, "brier": 0.3}
    baseline = "TF-IDF + logistic regression"
    return {
        "seconds": 12.0,
        "ladder": [
            {
                "name": "majority class",
                "kind": "majority",
                "accuracy": score(0.3),
                "macro_f1": score(0.1),
                "seconds": 0.0,
            },
            {
                "name": baseline,
                "kind": "no-pretraining",
                "accuracy": score(0.7),
                "macro_f1": score(0.6),
                "seconds": 1.2,
            },
            {"name": "kNN", "kind": "features", "accuracy": score(0.75), "macro_f1": score(0.7), "seconds": 0.2},
            {
                "name": "random weights",
                "kind": "control",
                "accuracy": score(0.4),
                "macro_f1": score(0.3),
                "seconds": 3.0,
                "note": "a note on it",
            },
            {"name": "lora", "kind": "method", "accuracy": score(0.84), "macro_f1": score(0.8), "seconds": 65.0},
        ],
        "verdict": {
            "label": label,
            **gap,
            "p": 0.0004,
            "against": baseline,
            "macro_f1": {"label": label, **gap},
            "kind": None,
            "rows_needed": None,
            "cross_validation": None,
            "advice": [{"advice": "train longer", "reason": "The loss still fell.", "flags": "--max_steps 90"}],
        },
        "forgetting": {
            "kept": 0.978,
            "unchanged": False,
            "low": 0.95,
            "high": 1.0,
            "definition": "Probe accuracy after over before.",
            "rows": 500,
            "retention": "sample:x",
            "retention_kind": "stand-in",
            "note": None,
            "probe": {"before": 0.9, "after": 0.88, "low": -0.05, "high": 0.01},
            "knn_agreement": 0.91,
            "knn_chance": 0.125,
            "cka": [{"block": f"block {i}", "value": 1 - i / 20} for i in range(6)],
            "original_head": {"kind": "ImageNet", "loss_before": 1.9, "loss_after": 2.2},
        },
        "calibration": {
            "temperature": 1.4,
            "before": scores,
            "after": {**scores, "ece": 0.03, "ece_low": 0.01, "ece_high": 0.05, "ece_if_calibrated": 0.02},
            "bins_before": bins(),
            "bins_after": bins(),
            "note": None,
        },
        "abstain": {
            "precision": 0.95,
            "threshold": 0.83,
            "test_precision": score(0.953, 0.02),
            "coverage": 0.71,
            "curve": [[i / 20, 1 - i / 100] for i in range(1, 21)],
            "note": None,
        },
        "slices": [
            {"by": "text length", "slice": name, "count": 20, "accuracy": score(0.8), "weak": name == "long"}
            for name in ("short", "long")
        ],
        "confusion": [],
        "worst_rows": [
            {
                "row": i,
                "loss": 3.2,
                "predicted": int(rows.predictions[i]),
                "true": int(rows.references[i]),
                "probability": 0.97,
            }
            for i in range(min(8, len(rows.references)))
        ],
        "suspects": [
            {
                "row": i,
                "given": 0,
                "suggested": 1,
                "score": 0.9,
                "given_probability": 0.028,
                "suggested_probability": 0.429,
                "source_row": 1000 + i,
                "confident": i == 0,
            }
            for i in range(8)
        ],
        "doctor": [
            {"check": "exact_duplicates", "level": "PASS", "count": 0, "rows": {}, "fix": ""},
            {
                "check": "cross_split_duplicates",
                "level": "FAIL",
                "count": 6,
                "rows": {"train": list(range(12)), "test": [4000]},
                "fix": "Drop them.",
            },
        ],
        **more,
    }


def page(folder: Path, rows: PageRows, **more: Any) -> Path:
    """Write the page of a full report and return its path."""
    path = folder / "report.html"
    write_page(path, report(rows, evidence=evidence(rows), **more), rows)
    return path
