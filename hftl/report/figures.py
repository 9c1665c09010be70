"""The charts of a run's page, by name: which figures of the report each one shows."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hftl.evaluation.calibration import merged_bins
from hftl.evaluation.scale import Scale
from hftl.report import views
from hftl.report.charts import (
    DIAGONAL,
    NARROW,
    PERCENT,
    WHOLE,
    Chart,
    axis,
    chart,
    intervals,
    layer,
    line,
    line_at,
    pareto,
)
from hftl.report.rows import SHADES, Confusion
from hftl.report.statements import duration, headline_of, race_scale, scales_of, score_name
from hftl.report.visible import isolated, one_line


_MAX_POINTS = 200  # of a line: more cannot be told apart; neighbours are averaged
_MAX_DOTS = 500  # of rows


def figures(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Chart]:
    """Return the charts by name; a part of the report that is missing gives none."""
    headline = headline_of(report)
    title, scale = score_name(headline, heads=True), scales_of(report)[headline]
    charts = {"ladder": ladder(report, evidence)}
    forgetting, calibration, abstain = (evidence.get(k) or {} for k in ("forgetting", "calibration", "abstain"))
    blocks = [b for b in forgetting.get("cka") or [] if b.get("value") is not None]
    if len(blocks) > 1 and not forgetting.get("unchanged"):
        charts["similarity"] = similarity(blocks)
    charts |= {**_learning(report), **_race(report.get("selection"))}
    before, after = (merged_bins(calibration.get(f"bins_{when}") or []) for when in ("before", "after"))
    if before or after:
        charts["calibration"] = reliability(before, after)
    if len(abstain.get("curve") or []) > 1:
        charts["abstain"] = _abstain(abstain)
    overall = report["metrics"]["test"][headline]["value"]
    summary = f"{title} per slice with 95% intervals; the dashed line is that of all rows."
    for i, group in enumerate(views.slices(evidence)[0]):
        names = [f"{s['slice']} ({s['count']:,})" for s in group["rows"]]
        kinds = ["weak" if s["weak"] else "slice" for s in group["rows"]]
        known = zip(names, kinds, group["rows"], strict=True)
        rows = [{"name": name, "kind": kind, **s[headline]} for name, kind, s in known]
        charts[f"slices-{i}"] = intervals(rows, overall, summary, scale)
    return charts


def ladder(report: dict[str, Any], evidence: dict[str, Any]) -> Chart:
    """Draw the headline score of every model that answered the same test rows."""
    headline = headline_of(report)
    scale = scales_of(report)[headline]
    rungs = [{"name": r["name"], "kind": r["kind"], **r[headline]} for r in views.ladder(report, evidence)]
    against = next((r["value"] for r in rungs if r["name"] == (evidence.get("verdict") or {}).get("against")), None)
    summary = "; ".join(f"{isolated(r['name'])} {scale.value(r['value'])}" for r in rungs)
    return intervals(rungs, against, f"{scale.heading} on the test rows with 95% intervals: {summary}.", scale)


def matrix(confusion: Confusion, labels: Sequence[str], of: str = "test rows") -> Chart:
    """Draw a confusion matrix, true classes by predicted ones, the darker the larger the part of its true class.

    `of` is what is counted; of others than rows a number is the part of the true class in percent.
    """

    def said(count: int, total: int) -> str:
        return f"{count}" if of == "test rows" else f"{100 * count / total:.1f}"

    cells = [
        {
            "x": x,
            "y": y,
            "n": said(one["count"], confusion.totals[y]) if one["count"] else "",
            "part": one["shade"] / SHADES,
            "right": x == y,
        }
        for y, line in enumerate(confusion.matrix)
        for x, one in enumerate(line)
    ]
    names = _literal([one_line(labels[i], 24) for i in confusion.classes])
    look = {"labelExpr": f"{names}[datum.value]", "labelLimit": 150, "domain": False, "ticks": False}
    band = {"type": "ordinal", "scale": {"paddingInner": 0.06}}
    x = {"field": "x", **band, "axis": {"title": "predicted", "orient": "top", "labelAngle": -45, **look}}
    y = {"field": "y", **band, "axis": {"title": "true", **look}}
    colour = {"condition": {"test": "datum.right", "value": "var(--accent)"}, "value": "var(--bad)"}
    part = {"field": "part", "type": "quantitative", "scale": None}
    ink = {"condition": {"test": "datum.part > 0.6", "value": "var(--card)"}, "value": "var(--ink)"}
    layers = [
        layer({"type": "rect", "cornerRadius": 4, "color": "var(--soft)"}, {"x": x, "y": y}, cells),
        layer({"type": "rect", "cornerRadius": 4}, {"x": x, "y": y, "color": colour, "opacity": part}, cells),
        layer({"type": "text"}, {"x": x, "y": y, "text": {"field": "n"}, "color": ink}, cells),
    ]
    wrong = f"{confusion.errors:,} of {sum(confusion.totals):,} {of} lie off its diagonal"
    height = 110 + 30 * len(confusion.classes)
    return chart(f"Confusion matrix, true classes by predicted ones: {wrong}.", layers, height)


def _literal(names: Sequence[str]) -> str:
    """Return names as a Vega array literal, with everything but plain characters left out of them."""
    plain = ("".join(c if c.isalnum() or c in " ._-\u2026" else "." for c in name) for name in names)
    return "[{}]".format(", ".join(f"'{name}'" for name in plain))


def similarity(blocks: Sequence[dict[str, Any]]) -> Chart:
    """Draw the similarity (`value`, 0 to 1) of each `block` to the base model's, from the input to the output."""
    names = [one_line(b["block"], 24) for b in blocks]
    said = [f"{isolated(b['block'])}: {b['value']:.3f}" for b in blocks]
    points = [{"x": i, "y": b["value"], "said": said[i]} for i, b in enumerate(blocks)]
    x = axis(
        "x",
        "block, from input to output",
        {"domain": [-0.4, len(names) - 0.6], "nice": False},
        values=list(range(len(names))),
        labelExpr=f"{_literal(names)}[datum.value]",  # two blocks may bear one name
        labelAngle=-45 if len(names) * max(map(len, names)) * 7 > NARROW - 60 else 0,
        labelOverlap="parity",
        labelLimit=110,
        grid=False,
    )
    y = axis("y", "similarity to the base", WHOLE, tickCount=5, format=".1f")
    low = min(b["value"] for b in blocks)
    summary = f"Similarity to the base model per block; the lowest is {low:.2f}."
    return chart(summary, line(points, {"x": x, "y": y}, "var(--accent)"), 280)


def numbers(true: Any, answers: Any, there_are: bool) -> dict[str, Chart]:
    """Return the chart of answered against true numbers [n], where the test rows have such: 500 rows at most."""
    if not there_are or true is None or len(true) < 2:
        return {}
    shown = np.unique(np.linspace(0, len(true) - 1, _MAX_DOTS).astype(int))
    pairs = [(float(true[i]), float(answers[i])) for i in shown]
    points = [{"x": x, "y": y, "said": f"true {x:.4g}, answered {y:.4g}"} for x, y in pairs]
    ends = [min(map(min, pairs)), max(map(max, pairs))]
    x, y = (
        axis(field, f"{name} number", {"domain": ends, "zero": False}, tickCount=5, format="~g")
        for field, name in (("x", "true"), ("y", "answered"))
    )
    layers = [
        layer(DIAGONAL, {"x": x, "y": y}, [{"x": end, "y": end} for end in ends]),
        layer({"type": "point", "color": "var(--accent)", "size": 30}, {"x": x, "y": y}, points, said=True),
    ]
    return {"numbers": chart("Answered against true numbers of the test rows.", layers, 360, 400)}


def reliability(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> Chart:
    """Draw how often answers were right against how sure the model was; a bin has count, confidence and accuracy."""
    x = axis("x", "how sure the model was", WHOLE, **PERCENT)
    y = axis("y", "how often it was right", WHOLE, **PERCENT)
    axes = {"x": x, "y": y}
    layers = [
        layer(DIAGONAL, axes, [{"x": 0, "y": 0}, {"x": 1, "y": 1}]),
        *line(_bins("before", before), axes, "var(--base)", filled=False),
        *line(_bins("after", after), axes, "var(--accent)"),
    ]
    return chart("How often answers were right against how sure the model was.", layers, 360, 400)


def _bins(name: str, bins: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    text = "{}: {count:,} rows, {confidence:.1%} sure, {accuracy:.1%} right"
    filled = [b for b in bins if b["count"]]
    places = [{"x": b["confidence"], "y": b["accuracy"], "count": b["count"]} for b in filled]
    return [{**place, "said": text.format(name, **b)} for place, b in zip(places, filled, strict=True)]


def _abstain(abstain: dict[str, Any]) -> Chart:
    curve = _points(abstain["curve"], "answering {x:.1%} of the rows: {y:.1%} right")
    x = axis("x", "share of rows answered", {"zero": False, "nice": False}, grid=False, **PERCENT)
    y = axis("y", "right among these", {"zero": False}, **PERCENT)
    summary = "Accuracy of the answers against the share of rows that is answered."
    target = line_at("y", abstain["precision"], "var(--base)")
    return chart(summary, [target, *line(curve, {"x": x, "y": y}, "var(--accent)", opacity=0)])


def _learning(report: dict[str, Any]) -> dict[str, Chart]:
    """The losses and the validation scores by step, counted through all stages that have steps."""
    stages = [stage for stage in report["stages"] if stage["steps"]]
    ends = list(itertools.accumulate(int(stage["steps"]) for stage in stages))
    last = ends[-1] if ends else 0
    ticks = max(1, min(10, last))  # none between two steps
    x = axis("x", "step", {"domain": [0, last], "nice": False}, grid=False, tickCount=ticks, format="~s")
    below = [line_at("x", end, "var(--line)") for end in ends[:-1]]
    losses = {"training loss": "loss", "validation loss": "eval_loss"}
    scales = curve_scales(report)
    scores = {f"validation {score_name(k)}": f"eval_{k}" for k in scales}
    shares = all(scale.share for scale in scales.values())
    charts = {}
    for name, title, keys, form, text in (
        ("loss", "loss", losses, "~g", "{y:.4g}"),
        ("scores", "validation score", scores, ".0%" if shares else "~g", "{y:.1%}" if shares else "{y:.4g}"),
    ):
        curves = {what: learning_curve(stages, key, f"{what} {text} at step {{x:,.0f}}") for what, key in keys.items()}
        if not any(len(points) > 1 for points in curves.values()):
            continue  # one point is no curve; the page has the last scores
        y = axis("y", title, {"zero": name == "loss"}, format=form, tickCount=5)
        colours = ("var(--muted)", "var(--accent)") if name == "loss" else ("var(--accent)", "var(--cool)")
        pairs = [(points, colour) for points, colour in zip(curves.values(), colours, strict=False) if points]
        ends_at = ", ".join(f"{what} ends at {points[-1]['y']:.3g}" for what, points in curves.items() if points)
        layers = list(below)
        for points, colour in pairs:
            layers += line(points, {"x": x, "y": y}, colour, dashed=colour != "var(--accent)")
        charts[name] = chart(f"{title.capitalize()} by step: {ends_at}.", layers)
    return charts


def _race(selection: dict[str, Any] | None) -> dict[str, Chart]:
    """What the trials of a race scored, against their time and by step."""
    if not selection or len(selection["trials"]) < 2:
        return {}
    scale, kinds = race_scale(selection), {selection["winner"]: "method", "probe": "features"}
    rows = [
        {
            **trial,
            "kind": kinds.get(trial["name"], "slice"),
            "cost": max(trial["seconds"], 0.01),
            "value": trial["score"],
        }
        for trial in selection["trials"]
        if trial["score"] is not None
    ]
    charts = {"cost": pareto(rows, "seconds", duration, scale)}
    lines = {
        t["name"]: [{"x": k["step"], "y": k["score"]} for k in t["looks"]] for t in selection["trials"] if t["looks"]
    }
    if all(len(points) < 2 for points in lines.values()):
        return charts  # a point is no curve
    x = axis("x", "step", {"zero": True}, grid=False, tickCount=5, format="~s")
    y = axis(
        "y", f"validation {scale.name}", {"zero": False}, tickCount=5, **({"format": ".0%"} if scale.share else {})
    )
    layers: list[dict[str, Any]] = []
    for name, points in lines.items():
        for point in points:
            point["said"] = f"{isolated(name)}, step {point['x']:,}: {scale.value(point['y'])}"
        layers += line(points, {"x": x, "y": y}, "var(--accent)" if name == selection["winner"] else "var(--muted)")
    charts["race"] = chart(
        f"Validation {scale.name} of each trial by step; the winner is {selection['winner']}.", layers
    )
    return charts


def curve_scales(report: dict[str, Any]) -> dict[str, Scale]:
    """Return the scores whose course is drawn: the first two shares, or the headline alone."""
    scales = list(scales_of(report).items())
    return dict([scale for scale in scales if scale[1].share][:2] or scales[:1])


def learning_curve(stages: Sequence[dict[str, Any]], key: str, text: str) -> list[dict[str, Any]]:
    """Return the points of a logged quantity as {x, y, said}, steps counted through; `text` says an {x} and a {y}."""
    pairs, done = [], 0
    for stage in stages:
        values = [(done + entry.get("step", 0.0), entry.get(key)) for entry in stage["history"]]
        pairs += [(x, float(y)) for x, y in values if isinstance(y, int | float) and math.isfinite(y)]
        done += int(stage["steps"])
    return _points(pairs, text)


def _points(pairs: Sequence[Sequence[float]], text: str) -> list[dict[str, Any]]:
    """Return at most 200 points: each stands at the last of its group, whose values are averaged."""
    stride = math.ceil(len(pairs) / _MAX_POINTS) or 1
    groups = [pairs[i : i + stride] for i in range(0, len(pairs), stride)]
    means = [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]
    return [{"x": x, "y": y, "said": text.format(x=x, y=y)} for x, y in means]
