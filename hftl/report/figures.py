"""The page's charts: Vega-Lite specs, each in a wide and in a narrow form, and their drawing as SVG.

The SVGs stand in the page, so light, dark and print change with its style sheet, and no script or font is fetched.
Every mark that can be pointed at has a description, which the page shows as its tooltip.
"""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hftl.evaluation.calibration import merged_bins
from hftl.evaluation.scale import Scale
from hftl.report import views
from hftl.report.statements import headline_of, scales_of, score_name
from hftl.report.visible import isolated, one_line


WIDE, NARROW = 760, 340  # pixels: a column on a desk, and a phone
_SHARE = Scale()
_MAX_POINTS = 200  # of a line: more cannot be told apart; neighbours are averaged
_MAX_DOTS = 500  # of rows
_TIMEOUT = 120  # seconds to draw in; twenty charts take about one
_MARKS = {  # kind of a rung or slice: colour and shape, so that colour is never alone
    "majority": ("var(--muted)", "circle"),
    "no-pretraining": ("var(--base)", "square"),
    "features": ("var(--cool)", "circle"),
    "control": ("var(--muted)", "triangle-up"),
    "method": ("var(--accent)", "diamond"),
    "weak": ("var(--bad)", "triangle-down"),
    "slice": ("var(--accent)", "circle"),
}
_CONFIG = {
    **{"view": {"stroke": None}, "font": "sans-serif", "legend": {"disable": True}},
    "axis": {
        **dict.fromkeys(("labelColor", "titleColor"), "var(--muted)"),
        **dict.fromkeys(("gridColor", "domainColor", "tickColor"), "var(--line)"),
        **{"titleFontWeight": "normal", "titleFontSize": 12, "labelFontSize": 12, "titlePadding": 10},
    },
    "line": {"strokeWidth": 2},
    "point": {"filled": True, "size": 60, "opacity": 1},
    "text": {"fontSize": 13, "color": "var(--ink)"},
}
_DRAW = """
import json, sys, vl_convert
svgs = [vl_convert.vegalite_to_svg(spec, vl_version="5.21", allowed_base_urls=[]) for spec in json.load(sys.stdin)]
json.dump(svgs, sys.stdout)
"""

Encoding = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """Two specs of one chart, and what it shows in a sentence for people who cannot see it."""

    summary: str
    wide: dict[str, Any]
    narrow: dict[str, Any]


def figures(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Chart]:
    """Return the charts by name; a part of the report that is missing gives none."""
    headline = headline_of(report)
    title, scale = score_name(headline, heads=True), scales_of(report)[headline]
    rungs = [{"name": r["name"], "kind": r["kind"], **r[headline]} for r in views.ladder(report, evidence)]
    against = next((r["value"] for r in rungs if r["name"] == (evidence.get("verdict") or {}).get("against")), None)
    summary = "; ".join(f"{isolated(r['name'])} {scale.value(r['value'])}" for r in rungs)
    summary = f"{title} on the test rows with 95% intervals: {summary}."
    charts = {"ladder": intervals(rungs, against, summary, scale)}
    forgetting, calibration, abstain = (evidence.get(k) or {} for k in ("forgetting", "calibration", "abstain"))
    blocks = [b for b in forgetting.get("cka") or [] if b.get("value") is not None]
    if len(blocks) > 1 and not forgetting.get("unchanged"):
        charts["similarity"] = similarity(blocks)
    charts |= _learning(report)
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


def draw(specs: Sequence[dict[str, Any]]) -> list[str] | str:
    """Return an SVG for each Vega-Lite spec, or one line that says why they could not be drawn.

    Strings among the specs' data are escaped by Vega. Nothing is fetched: a spec with a URL fails.

    vl-convert draws in a process of its own: it brings a JavaScript engine that reserves 64 GB of address space when it
    starts, and aborts the whole process where that is refused (`ulimit -v`). A finished run must not end like that.
    """
    if not specs:
        return []
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _DRAW],
            input=json.dumps(list(specs), allow_nan=False),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the process that draws them failed: {error}"
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in lines if "rror" in line), lines[-1])
        return f"the process that draws them ended with code {done.returncode}: {reason[:200]}"
    return json.loads(done.stdout)


def _spec(width: int, height: int, layers: list[dict[str, Any]], padding: Any = 4) -> dict[str, Any]:
    size = {"width": width, "height": height, "padding": padding, "autosize": {"type": "fit", "contains": "padding"}}
    schema = "https://vega.github.io/schema/vega-lite/v5.json"
    return {"$schema": schema, **size, "background": None, "layer": layers, "config": _CONFIG}


def _layer(mark: Encoding, encoding: Encoding, values: Sequence[Any], *, said: bool = False) -> dict[str, Any]:
    """Return a layer; where `said`, its marks have the field of that name as their description."""
    described = {"description": {"field": "said"}} if said else {}
    return {"data": {"values": values}, "mark": {"aria": said, **mark}, "encoding": {**encoding, **described}}


def _axis(field: str, title: str | None, scale: Encoding, **axis: Any) -> Encoding:
    return {"field": field, "type": "quantitative", "axis": {"title": title, **axis}, "scale": scale}


_WHOLE = {"domain": [0, 1], "nice": False}
_DIAGONAL = {"type": "line", "color": "var(--muted)", "strokeDash": [4, 4], "strokeWidth": 1}
_PERCENT = {"format": ".0%", "tickCount": 5}
_BESIDE = ({"align": "right", "dx": -12}, {"align": "left", "dx": 12})


def _line_at(axis: str, value: float, colour: str) -> dict[str, Any]:
    mark = {"type": "rule", "strokeDash": [4, 4], "strokeWidth": 1.5, "color": colour}
    return _layer(mark, {axis: {"field": "at", "type": "quantitative"}}, [{"at": value}])


def intervals(rows: Sequence[dict[str, Any]], against: float | None, summary: str, scale: Scale = _SHARE) -> Chart:
    """Draw a score with its interval per row: `rows` hold name, kind, value, low and high.

    `against` puts a dashed line at a score to compare with.
    """
    values = []
    for i, row in enumerate(rows):
        colour, shape = _MARKS.get(row["kind"], _MARKS["slice"])
        text, low, high = scale.values(row["value"], row["low"], row["high"])
        said = f"{isolated(row['name'])}: {text}, 95% interval {low} to {high}"
        words = {"name": one_line(row["name"], 40), "text": text, "said": said}
        values.append({**row, **words, "i": i, "colour": colour, "shape": shape})
    least = min([row["low"] for row in rows] + ([] if against is None else [against]))
    most = max(row["high"] for row in rows)
    margin = max(0.05, (most - least) * 0.06)
    ends = [least - margin, most + margin]
    domain = [max(0.0, ends[0]), min(1.0, ends[1])] if scale.share else ends
    ticks = _PERCENT if scale.share else {"tickCount": 5}
    x = _axis("value", None, {"domain": domain, "nice": False, "zero": False}, **ticks)
    y = {"field": "i", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0, "paddingOuter": 0.25}}
    by_colour, by_shape = ({"field": field, "type": "nominal", "scale": None} for field in ("colour", "shape"))
    bar = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": by_colour}
    name, figure = ({"text": {"field": f}, "y": y, "x": {"value": v}} for f, v in (("name", 0), ("text", "width")))
    mark = {"x": x, "y": y, "color": by_colour, "shape": by_shape}
    rule = {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "strokeCap": "round"}
    layers = [
        *([] if against is None else [_line_at("x", against, "var(--base)")]),
        _layer(rule, bar, values, said=True),
        _layer({"type": "point", "size": 110}, mark, values, said=True),
    ]

    def spec(width: int) -> dict[str, Any]:
        narrow = width == NARROW  # there the name stands above its line, else beside it
        left, right = ({"align": "left", "dy": -15}, {"align": "right", "dy": -15}) if narrow else _BESIDE
        words = [
            _layer({"type": "text", "limit": 250 if narrow else 210, **left}, name, values),
            _layer({"type": "text", "fontWeight": 600, **right}, figure, values),
        ]
        # The page's font may be wider than the one that Vega measures names with.
        padding = 4 if narrow else {"left": 28, "right": 12, "top": 4, "bottom": 4}
        return _spec(width, (46 if narrow else 34) * len(values) + 40, [*layers, *words], padding)

    return Chart(summary, spec(WIDE), spec(NARROW))


def _chart(summary: str, layers: list[dict[str, Any]], height: int = 260, widest: int = WIDE) -> Chart:
    return Chart(summary, *(_spec(min(width, widest), height, layers) for width in (WIDE, NARROW)))


def _line(points: Sequence[Any], axes: Encoding, colour: str, *, dashed: bool = False, **dot: Any) -> list[Encoding]:
    """Return a line and its dots through points {x, y, said}, with `count` where the dots grow by it."""
    dash = {"strokeDash": [5, 3]} if dashed else {}
    grow = {"field": "count", "type": "quantitative", "scale": {"range": [30, 260], "zero": True}}
    sized = {"size": grow} if any("count" in point for point in points) else {}
    return [
        _layer({"type": "line", "color": colour, **dash}, axes, points),
        _layer({"type": "point", "color": colour, **dot}, {**axes, **sized}, points, said=True),
    ]


def frontier(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points {x, value} that none beats in `value` at the same or a smaller `x`, the cheapest first."""
    ordered = sorted(points, key=lambda p: (p["x"], -p["value"]))
    return [p for i, p in enumerate(ordered) if all(p["value"] > q["value"] for q in ordered[:i])]


def pareto(rows: Sequence[dict[str, Any]], title: str, write: Callable[[float], str], scale: Scale = _SHARE) -> Chart:
    """Draw what a score costs: `rows` hold name, kind, cost > 0, value, low and high, and may hold `size` for the mark.

    A dashed line joins those that none beats at the same or a smaller cost. `title` is the cost's, `write` says one.
    """
    points = [{**row, "x": row["cost"], "label": row["name"], "at": write(row["cost"])} for row in rows]
    best = frontier(points)
    summary = f"{scale.heading} against {title}. None is cheaper and better than {', '.join(isolated(p['name']) for p in best)}."
    return scatter(points, [("var(--muted)", best)], (title, scale.name), summary, scale)


def scatter(
    points: Sequence[dict[str, Any]],
    lines: Sequence[tuple[str, Sequence[dict[str, Any]]]],
    titles: tuple[str, str],
    summary: str,
    scale: Scale = _SHARE,
) -> Chart:
    """Draw scores with their intervals over x > 0, on a logarithmic axis, and dashed lines (colour, {x, value}).

    `points` hold name, kind, x, `at` (x in words), value, low and high, and may hold `size` for the mark and a `label`.
    """
    ends = [f(p["x"] for part in (points, *(line for _, line in lines)) for p in part) for f in (min, max)]
    bottom, top = min(p["low"] for p in points), max(p["high"] for p in points)
    step, below = 0.06 * (top - bottom or 1), math.inf  # a line of text, as a part of the axis of scores
    values = []
    for point in sorted(points, key=lambda p: -p["value"]):
        colour, shape = _MARKS.get(point["kind"], _MARKS["slice"])
        text, low, high = scale.values(point["value"], point["low"], point["high"])
        said = f"{isolated(point['name'])}, {point['at']}: {text}, 95% interval {low} to {high}"
        label = one_line(point.get("label", ""), 24)
        below = min(point["value"], below - step) if label else below  # names of equal scores stand apart
        right = math.log(point["x"] / ends[0]) > 0.6 * math.log(ends[1] / ends[0])
        words = {"label": label, "beside": below if label else point["value"], "right": right, "said": said}
        values.append({**point, **words, "colour": colour, "shape": shape})
    log = {"type": "log", "domain": [ends[0] / 1.25, ends[1] * 1.25], "nice": False}
    x = _axis("x", titles[0], log, grid=False, labelSeparation=8)
    ticks = _PERCENT if scale.share else {"tickCount": 5}
    y = _axis("value", titles[1], {"zero": False, "nice": False, "domain": [bottom - step, top + step]}, **ticks)
    by_colour, by_shape = ({"field": field, "type": "nominal", "scale": None} for field in ("colour", "shape"))
    mark = {"x": x, "y": y, "color": by_colour, "shape": by_shape}
    if any("size" in point for point in points):
        mark["size"] = {"field": "size", "type": "quantitative", "scale": {"range": [40, 400], "zero": True}}
    rule = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": by_colour}
    written = {"x": x, "y": {**y, "field": "beside"}, "text": {"field": "label"}}
    names = [[v for v in values if v["right"] == right] for right in (True, False)]
    layers = [
        *(_layer({**_DIAGONAL, "color": colour}, {"x": x, "y": y}, line) for colour, line in lines),
        _layer({"type": "rule", "strokeWidth": 2, "opacity": 0.45}, rule, values),
        _layer({"type": "point", "size": 90}, mark, values, said=True),
        *(_layer({"type": "text", **side}, written, part) for side, part in zip(_BESIDE, names, strict=True)),
    ]
    return _chart(summary, layers, 340)


def similarity(blocks: Sequence[dict[str, Any]]) -> Chart:
    """Draw the similarity (`value`, 0 to 1) of each `block` to the base model's, from the input to the output."""
    names = [one_line(b["block"], 24) for b in blocks]
    said = [f"{isolated(b['block'])}: {b['value']:.3f}" for b in blocks]
    points = [{"x": i, "y": b["value"], "said": said[i]} for i, b in enumerate(blocks)]
    # A Vega array literal, with everything but plain characters left out of the names.
    plain = ", ".join("'{}'".format("".join(c if c.isalnum() or c in " ._-" else "." for c in name)) for name in names)
    x = _axis(
        "x",
        "block, from input to output",
        {"domain": [-0.4, len(names) - 0.6], "nice": False},
        values=list(range(len(names))),
        labelExpr=f"[{plain}][datum.value]",  # two blocks may bear one name
        labelAngle=-45 if len(names) * max(map(len, names)) * 7 > NARROW - 60 else 0,
        labelOverlap="parity",
        labelLimit=110,
        grid=False,
    )
    y = _axis("y", "similarity to the base", _WHOLE, tickCount=5, format=".1f")
    low = min(b["value"] for b in blocks)
    summary = f"Similarity to the base model per block; the lowest is {low:.2f}."
    return _chart(summary, _line(points, {"x": x, "y": y}, "var(--accent)"), 280)


def numbers(true: Any, answers: Any, there_are: bool) -> dict[str, Chart]:
    """Return the chart of answered against true numbers [n], where the test rows have such: 500 rows at most."""
    if not there_are or true is None or len(true) < 2:
        return {}
    shown = np.unique(np.linspace(0, len(true) - 1, _MAX_DOTS).astype(int))
    pairs = [(float(true[i]), float(answers[i])) for i in shown]
    points = [{"x": x, "y": y, "said": f"true {x:.4g}, answered {y:.4g}"} for x, y in pairs]
    ends = [min(map(min, pairs)), max(map(max, pairs))]
    x, y = (
        _axis(field, f"{name} number", {"domain": ends, "zero": False}, tickCount=5, format="~g")
        for field, name in (("x", "true"), ("y", "answered"))
    )
    layers = [
        _layer(_DIAGONAL, {"x": x, "y": y}, [{"x": end, "y": end} for end in ends]),
        _layer({"type": "point", "color": "var(--accent)", "size": 30}, {"x": x, "y": y}, points, said=True),
    ]
    return {"numbers": _chart("Answered against true numbers of the test rows.", layers, 360, 400)}


def reliability(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> Chart:
    """Draw how often answers were right against how sure the model was; a bin has count, confidence and accuracy."""
    x = _axis("x", "how sure the model was", _WHOLE, **_PERCENT)
    y = _axis("y", "how often it was right", _WHOLE, **_PERCENT)
    axes = {"x": x, "y": y}
    layers = [
        _layer(_DIAGONAL, axes, [{"x": 0, "y": 0}, {"x": 1, "y": 1}]),
        *_line(_bins("before", before), axes, "var(--base)", filled=False),
        *_line(_bins("after", after), axes, "var(--accent)"),
    ]
    return _chart("How often answers were right against how sure the model was.", layers, 360, 400)


def _bins(name: str, bins: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    text = "{}: {count:,} rows, {confidence:.1%} sure, {accuracy:.1%} right"
    filled = [b for b in bins if b["count"]]
    places = [{"x": b["confidence"], "y": b["accuracy"], "count": b["count"]} for b in filled]
    return [{**place, "said": text.format(name, **b)} for place, b in zip(places, filled, strict=True)]


def _abstain(abstain: dict[str, Any]) -> Chart:
    curve = _points(abstain["curve"], "answering {x:.1%} of the rows: {y:.1%} right")
    x = _axis("x", "share of rows answered", {"zero": False, "nice": False}, grid=False, **_PERCENT)
    y = _axis("y", "right among these", {"zero": False}, **_PERCENT)
    summary = "Accuracy of the answers against the share of rows that is answered."
    target = _line_at("y", abstain["precision"], "var(--base)")
    return _chart(summary, [target, *_line(curve, {"x": x, "y": y}, "var(--accent)", opacity=0)])


def _learning(report: dict[str, Any]) -> dict[str, Chart]:
    """The losses and the validation scores by step, counted through all stages that have steps."""
    stages = [stage for stage in report["stages"] if stage["steps"]]
    ends = list(itertools.accumulate(int(stage["steps"]) for stage in stages))
    last = ends[-1] if ends else 0
    ticks = max(1, min(10, last))  # none between two steps
    x = _axis("x", "step", {"domain": [0, last], "nice": False}, grid=False, tickCount=ticks, format="~s")
    below = [_line_at("x", end, "var(--line)") for end in ends[:-1]]
    losses = {"training loss": "loss", "validation loss": "eval_loss"}
    scales = curve_scales(report)
    scores = {f"validation {score_name(k)}": f"eval_{k}" for k in scales}
    shares = all(scale.share for scale in scales.values())
    charts = {}
    for chart, title, keys, form, text in (
        ("loss", "loss", losses, "~g", "{y:.4g}"),
        ("scores", "validation score", scores, ".0%" if shares else "~g", "{y:.1%}" if shares else "{y:.4g}"),
    ):
        curves = {name: learning_curve(stages, key, f"{name} {text} at step {{x:,.0f}}") for name, key in keys.items()}
        if not any(len(points) > 1 for points in curves.values()):
            continue  # one point is no curve; the page has the last scores
        y = _axis("y", title, {"zero": chart == "loss"}, format=form, tickCount=5)
        colours = ("var(--muted)", "var(--accent)") if chart == "loss" else ("var(--accent)", "var(--cool)")
        pairs = [(points, colour) for points, colour in zip(curves.values(), colours, strict=False) if points]
        ends_at = ", ".join(f"{name} ends at {points[-1]['y']:.3g}" for name, points in curves.items() if points)
        layers = list(below)
        for points, colour in pairs:
            layers += _line(points, {"x": x, "y": y}, colour, dashed=colour != "var(--accent)")
        charts[chart] = _chart(f"{title.capitalize()} by step: {ends_at}.", layers)
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
