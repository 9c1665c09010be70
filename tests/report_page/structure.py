"""What an HTML parser makes of a page."""

import itertools
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Parsed:
    tags: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # name, and names of the attributes
    attributes: list[tuple[str, str, str]] = field(default_factory=list)  # tag, name, value
    ids: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)  # by tag, of the innermost element
    data: dict[str, Any] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found = Parsed()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.tags.append((tag, tuple(name for name, _ in attrs)))
        self.found.attributes += [(tag, name, value or "") for name, value in attrs]
        self.found.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in ("meta", "img", "br", "rect", "path", "circle", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.found.texts.setdefault(self.open[-1], []).append(data)


def parse(html: str) -> Parsed:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    data = next(text for text in reader.found.texts["script"] if text.startswith("{"))
    reader.found.data = json.loads(data)
    return reader.found


SECTIONS = [
    "verdict",
    "next",
    "ladder",
    "forgetting",
    "training",
    "confusion",
    "classes",
    "worst",
    "suspects",
    "calibration",
    "abstain",
    "slices",
    "doctor",
    "notes",
    "reproduce",
    "glossary",
]


def sections(html: str) -> list[str]:
    return re.findall(r'<section id="([a-z]+)"', html)


def text_of(html: str) -> str:
    return " ".join(" ".join(itertools.chain(*parse(html).texts.values())).split())


def sentence(html: str) -> str:
    found = re.search(r'<p class="sentence">(.*?)</p>', html, re.S)
    assert found
    return re.sub(r"<.*?>", "", found[1])


def without_svg(html: str) -> str:
    return re.sub(r"<svg xmlns.*?</svg>", "", html, flags=re.S)
