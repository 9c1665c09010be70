"""The page's charts as Vega-Lite specs: each in a wide and in a narrow form, coloured by the page's own variables.

The SVGs stand in the page, so light, dark and print change with its style sheet, and no script or font is fetched.
Every mark has a description, which the page shows as its tooltip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hftl.report.statements import percent
from hftl.report.visible import isolated, one_line


WIDE, NARROW = 760, 340  # pixels: a column on a desk, and a phone
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_MARKS = {  # kind of a rung or slice: colour and shape, so that colour is never alone
    "majority": ("var(--muted)", "circle"),
    "no-pretraining": ("var(--base)", "square"),
    "features": ("var(--cool)", "circle"),
    "control": ("var(--muted)", "triangle-up"),
    "method": ("var(--accent)", "diamond"),
    "weak": ("var(--bad)", "triangle-down"),
    "slice": ("var(--accent)", "circle"),
}


@dataclass(frozen=True)
class Chart:
    """Two specs of one chart, and what it shows in a sentence for who cannot see it."""

    summary: str
    wide: dict[str, Any]
    narrow: dict[str, Any]


def _spec(width: int, height: int, layers: list[dict[str, Any]], values: list[dict[str, Any]]) -> dict[str, Any]:
    axis = {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 12,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "titlePadding": 10,
    }
    return {
        "$schema": _SCHEMA,
        "width": width,
        "height": height,
        "background": None,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 4,
        "data": {"values": values},
        "layer": layers,
        "config": {"view": {"stroke": None}, "axis": axis, "font": "sans-serif", "legend": {"disable": True}},
    }


def _axis(field: str, title: str | None, **more: Any) -> dict[str, Any]:
    axis = {"title": title, **more.pop("axis", {})}
    return {"field": field, "type": "quantitative", "axis": axis, **more}


_WHOLE = {"domain": [0, 1], "nice": False}
_PERCENT = {"format": ".0%", "tickCount": 5}


def intervals(rows: Sequence[dict[str, Any]], against: float | None, summary: str) -> Chart:
    """Draw a score with its interval per row: `rows` hold name, kind, value, low and high (0 to 1).

    `against` puts a dashed line at a score to compare with.
    """
    values = []
    for i, row in enumerate(rows):
        colour, shape = _MARKS.get(row["kind"], _MARKS["slice"])
        tooltip = f"{isolated(row['name'])}: {percent(row['value'])}, 95% interval {percent(row['low'])} to "
        place = {"i": i, "name": one_line(row["name"], 40), "colour": colour, "shape": shape}
        numbers = {k: row[k] for k in ("value", "low", "high")}
        values.append(
            {
                **place,
                **numbers,
                "said": tooltip + percent(row["high"]),
                "text": percent(row["value"]),
                "line": against,
            }
        )
    low = min([row["low"] for row in rows] + ([] if against is None else [against]))
    high = max(row["high"] for row in rows)
    margin = max(0.05, (high - low) * 0.06)
    domain = [max(0.0, low - margin), min(1.0, high + margin)]
    return Chart(summary, *(_intervals(values, domain, width) for width in (WIDE, NARROW)))


def _intervals(values: list[dict[str, Any]], domain: list[float], width: int) -> dict[str, Any]:
    narrow = width == NARROW
    step = 46 if narrow else 34
    y = {"field": "i", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0, "paddingOuter": 0.25}}
    x = {"scale": {"domain": domain, "nice": False, "zero": False}, "axis": _PERCENT}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    tooltip = {"description": {"field": "said"}}
    name = (
        {"align": "left", "dy": -15, "limit": NARROW - 70} if narrow else {"align": "right", "dx": -12, "limit": 210}
    )
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "strokeCap": "round"},
            "encoding": {"y": y, "x": _axis("low", None, **x), "x2": {"field": "high"}, "color": colour, **tooltip},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
            "encoding": {
                "y": y,
                "x": _axis("value", None, **x),
                "color": colour,
                **tooltip,
                "shape": {"field": "shape", "type": "nominal", "scale": None},
            },
        },
        {
            "mark": {"type": "text", "fontSize": 13, "color": "var(--ink)", "aria": False, **name},
            "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "name"}},
        },
        {
            "mark": {
                "type": "text",
                "fontSize": 13,
                "fontWeight": 600,
                "color": "var(--ink)",
                "aria": False,
                **({"align": "right", "dy": -15} if narrow else {"align": "left", "dx": 12}),
            },
            "encoding": {"y": y, "x": {"value": "width"}, "text": {"field": "text"}},
        },
    ]
    if values and values[0]["line"] is not None:
        layers.insert(0, _line("x", values[0]["line"], "var(--base)"))
    spec = _spec(width, step * len(values) + 40, layers, values)
    # The page's font may be wider than the one that Vega measures names with.
    return spec if narrow else {**spec, "padding": {"left": 28, "right": 12, "top": 4, "bottom": 4}}


def _line(axis: str, value: float, colour: str) -> dict[str, Any]:
    mark = {"type": "rule", "strokeDash": [4, 4], "strokeWidth": 1.5, "color": colour, "aria": False}
    return {
        "data": {"values": [{"at": value}]},
        "mark": mark,
        "encoding": {axis: {"field": "at", "type": "quantitative"}},
    }


def similarity(blocks: Sequence[dict[str, Any]], summary: str) -> Chart:
    """Draw the similarity (0 to 1) of each block to the base model's, from the input to the output."""
    values = [
        {
            "i": i,
            "name": one_line(b["block"], 24),
            "value": b["value"],
            "said": f"{isolated(b['block'])}: {b['value']:.3f}",
        }
        for i, b in enumerate(blocks)
    ]
    names = [v["name"] for v in values]

    def spec(width: int) -> dict[str, Any]:
        angle = -45 if len(values) * max(map(len, names)) * 7 > width - 60 else 0
        label = {
            "labelAngle": angle,
            "labelOverlap": "parity",
            "labelLimit": 110,
            "labelSeparation": 4,
            # Positions and not names make the scale: two blocks may bear one name.
            "labelExpr": f"{_array(names)}[datum.value]",
            "grid": False,
            "title": "block, from input to output",
        }
        x = {"field": "i", "type": "ordinal", "axis": label, "scale": {"type": "point", "padding": 0.4}}
        y = _axis("value", "similarity to the base", scale=_WHOLE, axis={"tickCount": 5, "format": ".1f"})
        line = {"type": "line", "color": "var(--accent)", "strokeWidth": 2, "aria": False}
        point = {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": "var(--accent)"}
        layers = [
            {"mark": line, "encoding": {"x": x, "y": y}},
            {"mark": point, "encoding": {"x": x, "y": y, "description": {"field": "said"}}},
        ]
        return _spec(width, 280, layers, values)

    return Chart(summary, spec(WIDE), spec(NARROW))


def _array(names: Sequence[str]) -> str:
    """Return a Vega array literal of the names, with everything but plain characters left out of them."""
    plain = ["".join(c if c.isalnum() or c in " ._-" else "." for c in name) for name in names]
    return "[" + ", ".join(f"'{name}'" for name in plain) + "]"


@dataclass(frozen=True)
class Series:
    """One line of a chart: its points (x, y, what the tooltip says), and how it is drawn."""

    name: str
    points: Sequence[tuple[float, float, str]]
    colour: str
    dashed: bool = False
    dots: bool = True


def lines(
    series: Sequence[Series],
    titles: tuple[str, str],
    summary: str,
    *,
    share: bool = False,
    share_x: bool = False,
    marks: Sequence[float] = (),
    level: float | None = None,
    end: float | None = None,
) -> Chart:
    """Draw lines over one x axis; `titles` are those of x and y.

    `share` and `share_x`: y or x is a share, shown in percent. `marks`: vertical lines, where stages end. `level`: a
    dashed horizontal line, the target. `end`: the x axis runs from 0 to there.
    """

    domain = {} if end is None else {"domain": [0, end]}

    def spec(width: int) -> dict[str, Any]:
        format_y = {"format": ".0%" if share else "~g", "tickCount": 5}
        count = 5 if width == NARROW else 10
        count = count if end is None else max(1, min(count, int(end)))  # no ticks between two steps
        ticks = {"grid": False, "tickCount": count, "format": ".0%" if share_x else "~s"}
        x = _axis("x", titles[0], axis=ticks, scale={"zero": False, "nice": False, **domain})
        y = _axis("y", titles[1], axis=format_y, scale={"zero": not share})
        layers: list[dict[str, Any]] = [_line("x", mark, "var(--line)") for mark in marks]
        if level is not None:
            layers.append(_line("y", level, "var(--base)"))
        for one in series:
            data = {"values": [{"x": px, "y": py, "said": said} for px, py, said in one.points]}
            line = {"type": "line", "color": one.colour, "strokeWidth": 2, "aria": False, "interpolate": "linear"}
            line |= {"strokeDash": [5, 3]} if one.dashed else {}
            layers.append({"data": data, "mark": line, "encoding": {"x": x, "y": y}})
            dot = {"type": "point", "filled": True, "color": one.colour, "opacity": 1 if one.dots else 0, "size": 45}
            layers.append({"data": data, "mark": dot, "encoding": {"x": x, "y": y, "description": {"field": "said"}}})
        return _spec(width, 260, layers, [])

    return Chart(summary, spec(WIDE), spec(NARROW))


def reliability(series: Sequence[tuple[str, str, Sequence[dict[str, Any]]]], summary: str) -> Chart:
    """Draw how often answers were right (y) against how sure the model was of them (x).

    `series` are (name, colour, bins); a bin has count, confidence and accuracy. Dots grow with the count.
    """

    def spec(width: int) -> dict[str, Any]:
        axis = {"format": ".0%", "tickCount": 5}
        x = _axis("confidence", "how sure the model was", scale=_WHOLE, axis=axis)
        y = _axis("accuracy", "how often it was right", scale=_WHOLE, axis=axis)
        ends = [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]
        diagonal = {"type": "line", "color": "var(--muted)", "strokeDash": [4, 4], "strokeWidth": 1, "aria": False}
        layers: list[dict[str, Any]] = [{"data": {"values": ends}, "mark": diagonal, "encoding": {"x": x, "y": y}}]
        for hollow, (name, colour, bins) in zip((True, False), series, strict=False):
            data = {"values": [{**b, "said": _bin_words(name, b)} for b in bins if b["count"]]}
            line = {"type": "line", "color": colour, "strokeWidth": 1.5, "aria": False, "opacity": 0.7}
            dot = {"type": "point", "filled": not hollow, "color": colour, "opacity": 1, "strokeWidth": 2}
            size = {"field": "count", "type": "quantitative", "scale": {"range": [30, 260], "zero": True}}
            layers.append({"data": data, "mark": line, "encoding": {"x": x, "y": y}})
            layers.append(
                {
                    "data": data,
                    "mark": dot,
                    "encoding": {"x": x, "y": y, "size": size, "description": {"field": "said"}},
                }
            )
        return _spec(min(width, 400), 320 if width == NARROW else 380, layers, [])

    return Chart(summary, spec(WIDE), spec(NARROW))


def _bin_words(name: str, bin_: dict[str, Any]) -> str:
    rows = f"{bin_['count']:,} rows"
    return f"{name}: {rows}, {percent(bin_['confidence'])} sure, {percent(bin_['accuracy'])} right"
