"""The stages' training logs as lines over one axis of steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


_MAX_POINTS = 200  # of a line: more cannot be told apart; neighbours are averaged

Point = tuple[float, float, str]


@dataclass(frozen=True)
class Curves:
    """Points (step, value, words) of each quantity, and the step at which each stage but the last ends."""

    train_loss: list[Point]
    validation_loss: list[Point]
    accuracy: list[Point]
    macro_f1: list[Point]
    ends: list[int]
    steps: int  # of all stages
    averaged: bool  # a line had more points than are drawn


def learning_curves(stages: Sequence[dict[str, Any]]) -> Curves | None:
    """Return the logs of all stages, steps counted through; None when no stage logged anything."""
    found: dict[str, list[tuple[float, float, str]]] = {k: [] for k in _KEYS}
    ends: list[int] = []
    done = 0
    for stage in stages:
        for entry in _with_final_loss(stage["history"]):
            for name, key in _KEYS.items():
                value = entry.get(key)
                if isinstance(value, int | float) and math.isfinite(value):
                    found[name].append((done + entry.get("step", 0.0), float(value), str(stage["name"])))
        done += int(stage["steps"])
        if stage["steps"]:
            ends.append(done)
    if not any(found.values()):
        return None
    averaged = any(len(points) > _MAX_POINTS for points in found.values())
    lines = {name: _described(_thinned(points), name) for name, points in found.items()}
    return Curves(**lines, ends=ends[:-1], steps=done, averaged=averaged)


_KEYS = {
    "train_loss": "loss",
    "validation_loss": "eval_loss",
    "accuracy": "eval_accuracy",
    "macro_f1": "eval_macro_f1",
}
_WORDS = {
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "accuracy": "validation accuracy",
    "macro_f1": "validation macro F1",
}


def _with_final_loss(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A stage that ended before its first log has only the mean loss over all its steps."""
    if any("loss" in entry for entry in history):
        return list(history)
    return [{**e, "loss": e["train_loss"]} if "train_loss" in e else e for e in history]


def _thinned(points: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    stride = math.ceil(len(points) / _MAX_POINTS)
    if stride <= 1:
        return points
    groups = [points[i : i + stride] for i in range(0, len(points), stride)]
    return [(g[-1][0], math.fsum(p[1] for p in g) / len(g), g[-1][2]) for g in groups]


def _described(points: list[tuple[float, float, str]], name: str) -> list[Point]:
    share = name in ("accuracy", "macro_f1")
    return [
        (x, y, f"{_WORDS[name]} {f'{100 * y:.1f}%' if share else f'{y:.4g}'} at step {x:,.0f}, stage {stage}")
        for x, y, stage in points
    ]
