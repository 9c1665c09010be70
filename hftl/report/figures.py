"""Which charts a report gives, by the section that they stand in, and the training logs as their lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hftl.report import views
from hftl.report.charts import Chart, Series, intervals, lines, reliability, similarity
from hftl.report.statements import percent
from hftl.report.visible import isolated


_MAX_POINTS = 200  # of a line: more cannot be told apart; neighbours are averaged

Point = tuple[float, float, str]


def figures(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Chart]:
    """Return the charts by name; a part of the report that is missing gives none."""
    charts = {"ladder": _ladder(report, evidence)}
    forgetting = views.forgetting(evidence)
    if forgetting and len(forgetting["cka"]) > 1:
        low = min(forgetting["cka"], key=lambda b: b["value"])
        summary = f"Similarity to the base model per block; the lowest is {low['value']:.2f}."
        charts["similarity"] = similarity(forgetting["cka"], summary)
    charts |= _learning(report)
    calibration = views.calibration(evidence)
    if calibration and (calibration["before"] or calibration["after"]):
        pair = (("before", "var(--base)", calibration["before"]), ("after", "var(--accent)", calibration["after"]))
        charts["calibration"] = reliability(pair, "How often answers were right against how sure the model was.")
    abstain = views.abstain(evidence)
    if abstain and len(abstain["curve"]) > 1:
        charts["abstain"] = _abstain(abstain)
    groups, _ = views.slices(evidence)
    for i, group in enumerate(groups):
        charts[f"slices-{i}"] = _slices(group, report["metrics"]["test"]["accuracy"]["value"])
    return charts


def _ladder(report: dict[str, Any], evidence: dict[str, Any]) -> Chart:
    rungs = views.ladder(report, evidence)
    rows = [{"name": r["name"], "kind": r["kind"], **r["accuracy"]} for r in rungs]
    verdict = evidence.get("verdict") or {}
    against = next((r["value"] for r in rows if r["name"] == verdict.get("against")), None)
    scores = "; ".join(f"{isolated(r['name'])} {percent(r['value'])}" for r in rows)
    return intervals(rows, against, f"Accuracy on the test rows with 95% intervals: {scores}.")


def _learning(report: dict[str, Any]) -> dict[str, Chart]:
    curves = learning_curves(report["stages"])
    if curves is None:
        return {}
    charts = {}
    loss = [
        Series("training", curves.train_loss, "var(--muted)", dashed=True, dots=len(curves.train_loss) == 1),
        Series("validation", curves.validation_loss, "var(--accent)"),
    ]
    scores = [
        Series("accuracy", curves.accuracy, "var(--accent)"),
        Series("macro F1", curves.macro_f1, "var(--cool)", dashed=True),
    ]
    for name, series, title in (("loss", loss, "loss"), ("scores", scores, "validation score")):
        drawn = [s for s in series if s.points]
        if any(len(s.points) > 1 for s in drawn):  # one point is no curve; the page states the last scores in words
            last = ", ".join(f"{s.name} ends at {s.points[-1][1]:.3g}" for s in drawn)
            charts[name] = lines(
                drawn,
                ("step", title),
                f"{title.capitalize()} by step: {last}.",
                share=name == "scores",
                marks=curves.ends,
                end=curves.steps,
            )
    return charts


def _abstain(abstain: dict[str, Any]) -> Chart:
    points = [
        (float(c), float(a), f"answering {percent(c)} of the rows: {percent(a)} right") for c, a in abstain["curve"]
    ]
    step = max(1, len(points) // 200)
    thinned = points[::step] if points[-1] in points[::step] else [*points[::step], points[-1]]
    return lines(
        [Series("accuracy", thinned, "var(--accent)", dots=False)],
        ("share of rows answered", "right among these"),
        "Accuracy of the answers against the share of rows that is answered.",
        share=True,
        share_x=True,
        level=abstain["target"],
    )


def _slices(group: dict[str, Any], overall: float) -> Chart:
    rows = [
        {"name": f"{s['slice']} ({s['count']:,})", "kind": "weak" if s["weak"] else "slice", **s["accuracy"]}
        for s in group["rows"]
    ]
    return intervals(rows, overall, "Accuracy per slice with 95% intervals; the dashed line is that of all rows.")


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
    logs: dict[str, list[tuple[float, float, str]]] = {k: [] for k in _KEYS}
    ends: list[int] = []
    done = 0
    for stage in stages:
        for entry in _with_final_loss(stage["history"]):
            for name, key in _KEYS.items():
                value = entry.get(key)
                if isinstance(value, int | float) and math.isfinite(value):
                    logs[name].append((done + entry.get("step", 0.0), float(value), str(stage["name"])))
        done += int(stage["steps"])
        if stage["steps"]:
            ends.append(done)
    if not any(logs.values()):
        return None
    averaged = any(len(points) > _MAX_POINTS for points in logs.values())
    lines = {name: _described(_thinned(points), name) for name, points in logs.items()}
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
