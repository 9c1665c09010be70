"""The charts put figures where they belong, follow the page's colours, and fail without taking the run along."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hftl.report.charts import draw, intervals
from hftl.report.figures import figures, learning_curve, reliability, similarity
from tests.report_page.example import bins, evidence, report, score, stage, text_rows


def marks(svg: str, kind: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter() if e.get("aria-roledescription") == kind]


def place(mark: ET.Element) -> tuple[float, float]:
    found = re.match(r"translate\(([-\d.e]+),([-\d.e]+)\)", mark.get("transform", ""))
    assert found
    return float(found[1]), float(found[2])


def affine(xs: list[float], ys: list[float]) -> bool:
    return abs(np.corrcoef(xs, ys)[0, 1]) > 1 - 1e-9


@pytest.mark.parametrize("form", ["wide", "narrow"])
def test_intervals_stand_where_they_should(form):
    values = [0.2, 0.91, 0.55, 0.55]  # equal names and values stay apart
    rows = [{"name": "n", "kind": "method", **score(v, 0.02)} for v in values]
    [svg] = draw([getattr(intervals(rows, 0.5, "s"), form)])
    points = [place(m) for m in marks(svg, "point")]
    assert affine(values, [x for x, _ in points])
    assert np.all(np.diff([y for _, y in points]) > 10)
    ends = [(place(m)[0], float(m.get("x2", 0))) for m in marks(svg, "rule mark")]
    assert affine([v - 0.02 for v in values] + [v + 0.02 for v in values],
                  [x for x, _ in ends] + [x + width for x, width in ends])  # fmt: skip
    assert "55.0%, 95% interval 53.0% to 57.0%" in marks(svg, "point")[2].get("aria-label", "")


def test_lines_and_reliability():
    losses = [16.0, 9.0, 4.0, 1.0]
    logs = [{"loss": loss, "step": i + 1} for i, loss in enumerate(losses)]
    line = figures(report(text_rows(), stages=[stage("a", 4, history=logs)]), {})["loss"]
    first, second = draw([line.wide, reliability(bins(), bins()).narrow])
    drawn = [place(m) for m in marks(first, "point")]
    assert affine([1, 2, 3, 4], [x for x, _ in drawn])
    assert affine(losses, [y for _, y in drawn])
    ticks = {e.text for e in ET.fromstring(first).iter() if e.get("text-anchor") and e.get("text-anchor") != "end"}
    assert ticks & {"0", "1", "2", "3", "0.5"} == {"0", "1", "2", "3"}
    filled = [b for b in bins() if b["count"]]
    drawn = [place(m) for m in marks(second, "point")][: len(filled)]
    assert affine([b["confidence"] for b in filled], [x for x, _ in drawn])
    assert affine([b["accuracy"] for b in filled], [y for _, y in drawn])
    assert len(marks(second, "point")) == 2 * len(filled)


def test_similarity_names_blocks():
    blocks = [{"block": name, "value": 1 - i / 10} for i, name in enumerate(["stem", "block 1", "block 1", "a'];x//"])]
    [svg] = draw([similarity(blocks).wide])
    assert affine([b["value"] for b in blocks], [place(m)[1] for m in marks(svg, "point")])
    assert marks(svg, "point")[0].get("aria-label") == "\u2068stem\u2069: 1.000"
    assert {"stem", "block 1", "a...x.."} <= {e.text for e in ET.fromstring(svg).iter() if e.text}


HOSTILE = ("<script>x</script>", 'a"b&c<d>', "\u202egpj", "a\nb", "]]>", "\x00", "&#60;", "x" * 5000, "datum.v", "")


def test_hostile_names_stay_text():
    rows = [{"name": name, "kind": "slice", **score(0.5)} for name in HOSTILE]
    svgs = draw([intervals(rows, None, "s").wide, intervals(rows, None, "s").narrow])
    for svg in svgs:
        assert not isinstance(svg, int)
        tree = ET.fromstring(svg)
        assert not [e for e in tree.iter() if e.tag.endswith("script")]
        texts = {e.text for e in tree.iter() if e.tag.endswith("text")}
        assert {"<script>x</script>", 'a"b&c<d>', "[U+202E]gpj", "a\u23ceb", "\u2400", "&#60;"} <= texts


def test_every_chart_uses_the_pages_colours_and_no_ids():
    rows = text_rows()
    charts = figures(report(rows), evidence(rows))
    assert set(charts) == {"ladder", "similarity", "loss", "scores", "calibration", "abstain", "slices-0"}
    svgs = draw([spec for chart in charts.values() for spec in (chart.wide, chart.narrow)])
    assert isinstance(svgs, list)
    for svg in svgs:
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) - {"none", "transparent"}
        assert colours
        assert all(colour.startswith("var(--") for colour in colours), colours
        assert " id=" not in svg  # several stand in one page
        assert "url(" not in svg
        assert "style=" not in svg  # the page's policy would refuse it
    for chart, svg in zip(charts.values(), svgs[::2], strict=True):
        assert float(ET.fromstring(svg).get("width", 0)) == chart.wide["width"]


def test_nothing_is_fetched():
    spec = {"data": {"url": "http://127.0.0.1:9/x.json"}, "mark": "point", "encoding": {"x": {"field": "a"}}}
    assert isinstance(draw([spec]), str) or '"point"' not in draw([spec])[0]


def test_no_charts_need_no_engine(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert draw([]) == []
    assert "No such file" in draw([{"mark": "point"}])


def test_too_little_address_space_is_said(tmp_path):
    """The engine reserves 64 GB and aborts where it may not: its own process ends, this one goes on."""
    code = (
        "import json, resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "from hftl.report.charts import draw\n"
        "print(json.dumps(draw([{'data': {'values': [{'a': 1}]}, 'mark': 'point'}])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout).startswith("the process that draws them ended with code -")


def test_a_bad_spec_is_said():
    found = draw([{"mark": "no-such-mark"}])
    assert isinstance(found, str)
    assert "\n" not in found


def test_curves_count_steps_through_the_stages():
    stages = [stage("probe", 0), stage("a", 4), stage("b", 6)]
    loss = learning_curve(stages, "loss", "")
    assert [p["x"] for p in loss] == list(range(1, 11))
    assert [p["y"] for p in loss] == [2 / s for s in (1, 2, 3, 4, 1, 2, 3, 4, 5, 6)]
    scores = learning_curve(stages, "eval_accuracy", "validation accuracy {y:.1%} at step {x:,.0f}")
    assert [p["x"] for p in scores] == [2, 4, 7, 10]
    assert scores[-1]["said"] == "validation accuracy 80.0% at step 10"


def test_one_point_is_no_curve():
    rows = text_rows()
    short = [{"eval_accuracy": 0.8, "eval_loss": 0.5, "step": 3}]
    assert set(figures(report(rows, stages=[stage("a", 3, history=short)]), {})) == {"ladder"}


def test_figures_that_are_no_numbers_are_left_out():
    logs = [{"eval_loss": float("nan"), "step": 3}, {"eval_loss": None, "step": 4}]
    assert learning_curve([stage("a", 3, history=logs)], "eval_loss", "") == []


def test_long_logs_are_averaged():
    logs = [{"loss": float(i % 2), "step": i + 1} for i in range(1000)]
    points = learning_curve([stage("a", 1000, history=logs)], "loss", "")
    assert len(points) == 200
    assert points[-1]["x"] == 1000
    assert np.mean([p["y"] for p in points]) == pytest.approx(0.5, abs=1e-9)
