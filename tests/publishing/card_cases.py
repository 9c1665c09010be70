"""Reports for the tests of cards and of what is published: figures of no meaning, names that are out to do harm."""

from copy import deepcopy
from typing import Any

from tests.report_page.example import evidence, report, text_rows


HOSTILE = (
    "a|b|c",
    "<img src=x onerror=alert(1)>",
    "**bold** _it_ `code` [link](javascript:alert(1)) ![i](https://evil.example/t.png)",
    "two\nlines\n---\nlicense: mit",
    "\u202egnp.exe\u202c",
    "العربية",
    "# heading",
    "@someone https://evil.example www.evil.example $x$",
)


def example_report(labels: tuple[str, ...] = ("Arts", "History", "Science"), **more: Any) -> dict[str, Any]:
    """A report with every part of the evidence, of made-up text rows."""
    rows = text_rows(60, labels)
    return deepcopy(report(rows, evidence=evidence(rows), **more))
