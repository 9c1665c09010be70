"""The page of a selection: sections of a chart and a table each, in the look of report.html, in one file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hftl
from hftl.atomic import write_new
from hftl.report.charts import Chart
from hftl.report.html import drawn, environment, inlined
from hftl.report.statements import Statement
from hftl.report.table import print_table


Cell = str | tuple[str, str]  # what it says, or that and its range below


@dataclass(frozen=True)
class Section:
    """A question, how to read what answers it, and a chart, a table, or both."""

    id: str  # a plain word, which the navigation shows
    heading: str
    read: Any  # a text, or a `Statement` where it names something of the data
    chart: Chart | None = None
    legend: Sequence[tuple[str, str, str]] = ()  # class, path and words, as the macro `legend` takes them
    heads: Sequence[str] = ()  # of the table; those of numbers begin with >
    rows: Sequence[Sequence[Cell]] = ()  # the first cell of each is a name
    notes: Sequence[str] = ()
    command: str = ""  # of one section at most


def model_on(document: dict[str, Any]) -> Statement:
    """Say which model and which data a document is about."""
    return Statement("{} on {}.", (document["model"], document["data"]))


def write_selection(
    verb: str, title: str, lede: Statement, document: dict[str, Any], sections: Sequence[Section]
) -> None:
    """Write VERB.json and VERB.html in the folder that `document` names, and print the first section on stderr."""
    folder = Path(document["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder / f"{verb}.html", title, lede, sections)
    write_new(folder / f"{verb}.json", json.dumps(document, ensure_ascii=False, indent=1))
    first = sections[0]
    rows = [[cell if isinstance(cell, str) else "{} ({})".format(*cell) for cell in row] for row in first.rows]
    print_table(f"{title}: {lede}", [head.removeprefix(">").lower() for head in first.heads], rows)
    print_table(f"Open {folder / verb}.html", ("",), [(line,) for line in (*first.notes, first.command) if line])


def write_page(path: Path, title: str, lede: Any, sections: Sequence[Section]) -> None:
    """Write the page of the verb that `path` is named after, such as compare.html, whole or not at all.

    `title` may hold names of the data; `lede` is a text or a `Statement`. Charts that cannot be drawn leave a line that
    says why.
    """
    page = environment().get_template("selection.html")
    write_new(
        path,
        page.render(
            **inlined(),
            verb=path.stem,
            title=title,
            lede=lede,
            sections=sections,
            navigation=[(section.id, section.id.capitalize(), True) for section in sections],
            charts=drawn({section.id: section.chart for section in sections if section.chart}),
            version=hftl.__version__,
            data={},
        ),
    )
