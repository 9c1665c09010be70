"""The page of `pick`, `compare` and `curve`, and the chart of what a score costs."""

import itertools
import xml.etree.ElementTree as ET

import pytest

from hftl.report.charts import draw, frontier, pareto
from hftl.report.statements import duration
from hftl.selection.page import Section, write_page
from tests.report_page.example import score
from tests.report_page.structure import parse, sections, without_svg
from tests.report_page.test_charts import affine, marks, place


COSTS, VALUES = [100.0, 1.0, 10.0, 10.0, 1000.0], [0.91, 0.8, 0.85, 0.7, 0.905]
NAMES = ["full", "probe", "<script>x</script>", "a|b", "wise"]


def rows(**more):
    known = zip(NAMES, COSTS, VALUES, strict=True)
    return [
        {"name": name, "kind": "method", "cost": cost, **score(value, 0.02), **more} for name, cost, value in known
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "compare.html"
    table = [(name, ("90.0%", "88.0 to 92.0%"), "12", "good") for name in NAMES]
    heads = ("Method", ">Accuracy", ">Rows", "Words")
    chart = pareto(rows(), "seconds", duration)
    cost = Section(
        "cost", "What does it cost?", "Read it so.", chart, heads=heads, rows=table, notes=["A <b>note</b>."]
    )
    write_page(
        path, "data <i>of mine</i>", "Five methods.", [cost, Section("next", "Next?", "", command="hftl train a")]
    )
    return path


def test_no_other_is_cheaper_and_better():
    points = [{"x": cost, "value": value} for cost, value in zip(COSTS, VALUES, strict=True)]
    assert [point["value"] for point in frontier(points)] == [0.8, 0.85, 0.91]
    assert frontier([*points, *points]) == frontier(points)  # of two that are equal, one


@pytest.mark.parametrize("form", ["wide", "narrow"])
def test_costs_stand_where_they_should(form):
    [svg] = draw([getattr(pareto(rows(), "seconds", duration), form)])
    by_name = {mark.get("aria-label", ""): place(mark) for mark in marks(svg, "point")}
    order = sorted(range(5), key=lambda i: -VALUES[i])  # the best is drawn first
    assert next(iter(by_name)) == "\u2068full\u2069, 1 min 40 s: 91.0%, 95% interval 89.0% to 93.0%"
    assert affine([len(str(int(COSTS[i]))) for i in order], [x for x, _ in by_name.values()])  # logarithmic
    assert affine([VALUES[i] for i in order], [y for _, y in by_name.values()])
    texts = {e.text: e for e in ET.fromstring(svg).iter() if e.tag.endswith("text")}
    heights = sorted(place(texts[name])[1] for name in NAMES)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 12  # no name covers another


def test_marks_grow_by_size():
    sized = [{**row, "size": size} for row, size in zip(rows(), (1, 2, 3, 4, 5), strict=True)]
    [svg] = draw([pareto(sized, "seconds", duration).wide])
    assert len({mark.get("d") for mark in marks(svg, "point")}) == 5


def test_the_page_is_whole(path):
    html = path.read_text(encoding="utf-8")
    assert sections(html) == ["cost", "next"]
    assert "<bdi>data &lt;i&gt;of mine&lt;/i&gt;</bdi>" in html
    assert "A &lt;b&gt;note&lt;/b&gt;." in html
    assert "<script>x" not in html
    assert (
        without_svg(html).count(
            '<td data-head="Accuracy" class="n">90.0% <span class="range">88.0 to 92.0%</span></td>'
        )
        == 5
    )
    assert parse(html).texts["code"] == ["hftl train a"]
    assert not list(path.parent.glob("*.partial"))


@pytest.mark.parametrize("width", [1200, 390])
def test_quiet_and_alone(path, show, width):
    opened = show(path, width=width)
    opened.page.locator("#theme").click()
    assert opened.said == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_without_a_command_is_quiet(tmp_path, show):
    path = tmp_path / "pick.html"
    write_page(path, "t", "l", [Section("a", "A?", "")])
    assert show(path).said == []
