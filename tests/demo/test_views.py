"""What is shown of an explanation: all of it escaped, legible, and not by colour alone."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hftl.demo.explain import STRONGEST, TextAttribution, heat_overlay
from hftl.demo.looks import piece as html_of
from hftl.tasks.outputs.classes import CLASSES


STYLE = files("hftl.demo").joinpath("templates/demo.css").read_text(encoding="utf-8")
FOR, AGAINST = re.findall(r"--c: ([\d ]+);", STYLE)
OPACITY = float(re.search(r"var\(--s\) \* ([\d.]+)\)", STYLE)[1])


def text_html(attribution: TextAttribution) -> str:
    return html_of("why_text", why=attribution, words=CLASSES.words)


def attribution(spans, read=None, label="news"):
    length = sum(len(piece) for piece, _ in spans)
    return TextAttribution(label, tuple(spans), read or (0, length), read is not None, 2.0, 3.0, 0.0)


class Reader(HTMLParser):
    """Collects the elements, and the text of the one with `dir`."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.inside = [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside |= "dir" in dict(attrs)

    def handle_endtag(self, tag):
        self.inside &= tag != "div"

    def handle_data(self, data):
        if self.inside:
            self.text += data


def test_little_confidence_is_said_without_a_threshold():
    known = {"said": None, "threshold": None, "abstain": {}, "note": None}
    assert "Not sure." in html_of("answer", probability=0.49, **known)
    assert "Not sure." not in html_of("answer", probability=0.51, **known)
    assert "Not sure." not in html_of("answer", probability=float("nan"), **known)  # of a number


@pytest.mark.parametrize("piece", ["<script>alert(1)</script>", "a\"b'c&amp;", "</div><img src=x onerror=alert(1)>"])
def test_nothing_of_the_text_is_markup(piece):
    for spans in ([(piece, 1.0)], [(piece, -0.5)], [(piece, 0.0)], [("a", 1.0), (piece, 0.0)]):
        html = text_html(attribution(spans, read=(0, 1), label=piece))
        page = Reader(html)
        assert page.text == "".join(s for s, _ in spans)
        assert {tag for tag, _ in page.tags} == {"p", "bdi", "span", "div"}
        assert not [name for _, attrs in page.tags for name in attrs if name not in ("class", "style", "title", "dir")]


def test_score_side_and_strength():
    html = text_html(attribution([("good", 1.0), (" ", 0.0), ("bad", -0.25), (" ", 0.0), ("so", 0.04)]))
    marked = [attrs for tag, attrs in Reader(html).tags if tag == "span" and "title" in attrs]
    assert marked == [
        {"class": "for", "style": "--s:1.00", "title": "+1.00 (+2.00 log-odds)"},
        {"class": "against", "style": "--s:0.25", "title": "-0.25 (-0.50 log-odds)"},
    ]
    assert "underline solid" in STYLE  # the two sides differ by more than their colour
    assert "text-decoration-style: dashed" in STYLE
    assert "<script" not in html


def test_hidden_and_foreign_characters():
    page = Reader(text_html(attribution([("a\u202e\x00\x1b", 1.0), (" שלום 👩‍👩‍👧 e\u0301\n", 0.2)])))
    assert page.text == "a[U+202E]␀␛ שלום 👩‍👩‍👧 e\u0301\n"
    assert [attrs["dir"] for _, attrs in page.tags if "dir" in attrs] == ["auto"]


def test_what_is_not_read_is_marked():
    html = text_html(attribution([("read", 1.0), (" not read", 0.0)], read=(0, 4)))
    unread = [attrs for _, attrs in Reader(html).tags if attrs.get("class") == "unread"]
    assert unread == [{"class": "unread", "title": "not read by the model"}]
    assert "reads only part" in html
    assert "reads only part" not in text_html(attribution([("read", 1.0)]))
    left = text_html(attribution([("not read ", 0.0), ("read", 1.0)], read=(9, 13)))
    assert left.index('unread" title') < left.index("not read </span>")


def test_long_texts():
    spans = [piece for i in range(10_000) for piece in ((f"word{i}", (i % 21 - 10) / 10), (" ", 0.0))]
    html = text_html(attribution(spans))
    assert html.count('title="') == 10_000 - sum(i % 21 == 10 for i in range(10_000))
    assert len(html) < 1_500_000


def luminance(colour):
    """WCAG 2.2's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.asarray(colour) / 255]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("colour", [FOR, AGAINST])
@pytest.mark.parametrize(
    ("ink", "page"),
    [((39, 39, 42), (255, 255, 255)), ((244, 244, 245), (11, 15, 25)), ((244, 244, 245), (39, 39, 42))],
    ids=["light", "dark", "dark card"],
)
def test_legible_on_the_strongest_word(colour, ink, page):
    back = OPACITY * np.array([int(c) for c in colour.split()]) + (1 - OPACITY) * np.array(page)
    light, dark = sorted((luminance(ink), luminance(back)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG AA


def test_overlay():
    image = Image.new("RGB", (30, 20), (10, 200, 30))
    heat = np.zeros((20, 30), dtype=np.float32)
    assert np.array_equal(heat_overlay(image, heat), image)
    heat[5, 7] = 1
    out = np.asarray(heat_overlay(image, heat)).astype(int)
    hottest = np.array(matplotlib.colormaps["inferno"](1.0)[:3]) * 255
    wanted = STRONGEST * hottest + (1 - STRONGEST) * np.array([10, 200, 30])
    assert out[5, 7] == pytest.approx(wanted, abs=2)
    assert (out[0, 0] == (10, 200, 30)).all()
