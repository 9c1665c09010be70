"""What charts are made of: Vega-Lite specs, each in a wide and in a narrow form, and their drawing as SVG.

The SVGs stand in the page, so light, dark and print change with its style sheet, and no script or font is fetched.
Every mark that can be pointed at has a description, which the page shows as its tooltip.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hftl.evaluation.scale import Scale
from hftl.report.visible import isolated, one_line


WIDE, NARROW = 760, 340  # pixels: a column on a desk, and a phone
SHARE = Scale()
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
import base64, json, sys, vl_convert
options = {"vl_version": "5.21", "allowed_base_urls": []}
specs = json.load(sys.stdin)
if "png" in sys.argv:
    drawn = [base64.b64encode(vl_convert.vegalite_to_png(spec, scale=2, **options)).decode() for spec in specs]
else:
    drawn = [vl_convert.vegalite_to_svg(spec, **options) for spec in specs]
json.dump(drawn, sys.stdout)
"""

Encoding = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """Two specs of one chart, and what it shows in a sentence for people who cannot see it."""

    summary: str
    wide: dict[str, Any]
    narrow: dict[str, Any]


def draw(specs: Sequence[dict[str, Any]], kind: str = "svg") -> list[str] | str:
    """Return an SVG for each Vega-Lite spec (or, of `kind` "png", its bytes in base64), or one line that says why not.

    Strings among the specs' data are escaped by Vega. Nothing is fetched: a spec with a URL fails.

    vl-convert draws in a process of its own: it brings a JavaScript engine that reserves 64 GB of address space when it
    starts, and aborts the whole process where that is refused (`ulimit -v`). A finished run must not end like that.
    """
    if not specs:
        return []
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _DRAW, kind],
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


def layer(mark: Encoding, encoding: Encoding, values: Sequence[Any], *, said: bool = False) -> dict[str, Any]:
    """Return a layer; where `said`, its marks have the field of that name as their description."""
    described = {"description": {"field": "said"}} if said else {}
    return {"data": {"values": values}, "mark": {"aria": said, **mark}, "encoding": {**encoding, **described}}


def axis(field: str, title: str | None, scale: Encoding, **axis: Any) -> Encoding:
    """Return a quantitative axis of a field."""
    return {"field": field, "type": "quantitative", "axis": {"title": title, **axis}, "scale": scale}


WHOLE = {"domain": [0, 1], "nice": False}
DIAGONAL = {"type": "line", "color": "var(--muted)", "strokeDash": [4, 4], "strokeWidth": 1}
PERCENT = {"format": ".0%", "tickCount": 5}
_BESIDE = ({"align": "right", "dx": -12}, {"align": "left", "dx": 12})


def line_at(axis: str, value: float, colour: str) -> dict[str, Any]:
    """Return a dashed line across the chart, at a value of the axis `x` or `y`."""
    mark = {"type": "rule", "strokeDash": [4, 4], "strokeWidth": 1.5, "color": colour}
    return layer(mark, {axis: {"field": "at", "type": "quantitative"}}, [{"at": value}])


def intervals(rows: Sequence[dict[str, Any]], against: float | None, summary: str, scale: Scale = SHARE) -> Chart:
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
    ticks = PERCENT if scale.share else {"tickCount": 5}
    x = axis("value", None, {"domain": domain, "nice": False, "zero": False}, **ticks)
    y = {"field": "i", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0, "paddingOuter": 0.25}}
    by_colour, by_shape = ({"field": field, "type": "nominal", "scale": None} for field in ("colour", "shape"))
    bar = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": by_colour}
    name, figure = ({"text": {"field": f}, "y": y, "x": {"value": v}} for f, v in (("name", 0), ("text", "width")))
    mark = {"x": x, "y": y, "color": by_colour, "shape": by_shape}
    rule = {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "strokeCap": "round"}
    layers = [
        *([] if against is None else [line_at("x", against, "var(--base)")]),
        layer(rule, bar, values, said=True),
        layer({"type": "point", "size": 110}, mark, values, said=True),
    ]

    def spec(width: int) -> dict[str, Any]:
        narrow = width == NARROW  # there the name stands above its line, else beside it
        left, right = ({"align": "left", "dy": -15}, {"align": "right", "dy": -15}) if narrow else _BESIDE
        words = [
            layer({"type": "text", "limit": 250, **left}, name, values),
            layer({"type": "text", "fontWeight": 600, **right}, figure, values),
        ]
        # The page's font may be wider than the one that Vega measures names with.
        padding = 4 if narrow else {"left": 40, "right": 12, "top": 4, "bottom": 4}
        return _spec(width, (46 if narrow else 34) * len(values) + 40, [*layers, *words], padding)

    return Chart(summary, spec(WIDE), spec(NARROW))


def chart(summary: str, layers: list[dict[str, Any]], height: int = 260, widest: int = WIDE) -> Chart:
    """Return the layers as a chart, at most `widest` pixels wide."""
    return Chart(summary, *(_spec(min(width, widest), height, layers) for width in (WIDE, NARROW)))


def line(points: Sequence[Any], axes: Encoding, colour: str, *, dashed: bool = False, **dot: Any) -> list[Encoding]:
    """Return a line and its dots through points {x, y, said}, with `count` where the dots grow by it."""
    dash = {"strokeDash": [5, 3]} if dashed else {}
    grow = {"field": "count", "type": "quantitative", "scale": {"range": [30, 260], "zero": True}}
    sized = {"size": grow} if any("count" in point for point in points) else {}
    return [
        layer({"type": "line", "color": colour, **dash}, axes, points),
        layer({"type": "point", "color": colour, **dot}, {**axes, **sized}, points, said=True),
    ]


def frontier(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points {x, value} that none beats in `value` at the same or a smaller `x`, the cheapest first."""
    ordered = sorted(points, key=lambda p: (p["x"], -p["value"]))
    return [p for i, p in enumerate(ordered) if all(p["value"] > q["value"] for q in ordered[:i])]


def pareto(rows: Sequence[dict[str, Any]], title: str, write: Callable[[float], str], scale: Scale = SHARE) -> Chart:
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
    scale: Scale = SHARE,
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
    x = axis("x", titles[0], log, grid=False, labelSeparation=8)
    ticks = PERCENT if scale.share else {"tickCount": 5}
    y = axis("value", titles[1], {"zero": False, "nice": False, "domain": [bottom - step, top + step]}, **ticks)
    by_colour, by_shape = ({"field": field, "type": "nominal", "scale": None} for field in ("colour", "shape"))
    mark = {"x": x, "y": y, "color": by_colour, "shape": by_shape}
    if any("size" in point for point in points):
        mark["size"] = {"field": "size", "type": "quantitative", "scale": {"range": [40, 400], "zero": True}}
    rule = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": by_colour}
    written = {"x": x, "y": {**y, "field": "beside"}, "text": {"field": "label"}}
    names = [[v for v in values if v["right"] == right] for right in (True, False)]
    layers = [
        *(layer({**DIAGONAL, "color": colour}, {"x": x, "y": y}, line) for colour, line in lines),
        layer({"type": "rule", "strokeWidth": 2, "opacity": 0.45}, rule, values),
        layer({"type": "point", "size": 90}, mark, values, said=True),
        *(layer({"type": "text", **side}, written, part) for side, part in zip(_BESIDE, names, strict=True)),
    ]
    return chart(summary, layers, 340)
