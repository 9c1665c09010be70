"""report.html: a finished run as one page that opens with no network, for readers who have never seen hftl.

Everything is in the file: the style sheet, one script, the charts as SVG, texts and thumbnails of the rows behind the
confusion matrix. The page's Content-Security-Policy allows nothing else, and of scripts only that one, by its hash.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hftl.evaluation.calibration import merged_bins
from hftl.evaluation.scale import MEANINGS
from hftl.report import statements, views
from hftl.report.charts import Chart, draw
from hftl.report.figures import curve_scales, figures, numbers
from hftl.report.limits import counted_in
from hftl.report.overlays import MOST, legend_of
from hftl.report.rows import Confusion, PageRows, confusion, confusion_of, page_content, rows_to_show
from hftl.report.visible import isolated, one_line, visible


LABEL_CHARACTERS = 120


def write_page(path: Path, report: dict[str, Any], rows: PageRows, run_dir: Path | None = None) -> None:
    """Write the page of a run.

    `report` is report.json as a dict; of its `evidence` every part may be missing or None. `rows` are the test rows.
    Charts that cannot be drawn leave a line that says why; their figures stand in tables all the same. `run_dir` is
    where the run will lie in the end, which the command that repeats it names; by default `path` without ".partial".
    """
    folder = run_dir or Path(str(path.parent).removesuffix(".partial"))
    path.write_text(render_page(folder, report, rows), encoding="utf-8", newline="\n")


def render_page(run_dir: Path, report: dict[str, Any], rows: PageRows) -> str:
    """Return the page of the run that lies in `run_dir` as HTML."""
    evidence: dict[str, Any] = report.get("evidence") or {}
    opened = rows.probabilities is not None
    confused = confusion(rows) if opened else confusion_of(evidence.get("confusion") or [], len(rows.labels))
    matrix = confused if confused.classes else None
    sections = evidence_sections(report, evidence, list(rows.labels), matrix)
    overlays, legend = _overlays(report, evidence, rows)
    return (
        environment()
        .get_template("page.html")
        .render(
            **sections,
            **inlined(),
            rows_open=True,
            cells_open=opened,
            overlays=overlays,
            colours=legend,
            stages=views.stages(report),
            interpolation=statements.interpolation(report),
            race=statements.race(report),
            head=views.head(report),
            trials=views.trials(report),
            worst=_worst(report, evidence, rows.test_content) if not overlays else {"rows": [], "more": 0},
            meanings=_meanings(report),
            curves=curve_scales(report),
            suspects=_with_content(evidence.get("suspects") or [], rows.train_content, views.MAX_SUSPECTS),
            findings=views.findings(evidence),
            seeds=report.get("seeds"),
            reproduction=views.reproduction(report, run_dir),
            command_of=partial(views.command_of, run_dir=run_dir),
            notes=[*report["warnings"], *(f"Left out: {name}" for name in report["data"]["skipped"][:20])],
            charts=drawn({**figures(report, evidence), **numbers(rows.references, rows.predictions, matrix is None)}),
            data=_page_data(rows, matrix if opened else None),
        )
    )


def inlined() -> dict[str, Any]:
    """Return what every page holds: `style` and `script`, and the `hashes` by which its policy allows these alone."""
    templates = files("hftl.report").joinpath("templates")
    kinds = {"style": "css", "script": "js"}
    ours = {name: templates.joinpath(f"page.{kind}").read_text(encoding="utf-8") for name, kind in kinds.items()}
    ours = {name: text.replace("\r\n", "\n") for name, text in ours.items()}
    hashes = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in ours.items()}
    return {**{name: Markup(text) for name, text in ours.items()}, "hashes": hashes}


def evidence_sections(
    report: dict[str, Any], evidence: dict[str, Any], labels: list[str], matrix: Confusion | None
) -> dict[str, Any]:
    """Return the values of the sections that page and demo share."""
    rungs, scales = views.ladder(report, evidence), statements.scales_of(report)
    return {
        **{"report": report, "labels": labels, "headline": statements.headline_of(report), "scales": scales},
        "scores": {name: statements.score_name(name, heads=True) for name in scales if name in rungs[0]},
        "words": statements.output_of(report).words,
        "verdict": statements.banner(report, evidence),
        "hero": views.hero(report, evidence),
        "cards": views.cards(report, evidence),
        "ladder": rungs,
        "confusion": matrix,
        "of_pixels": bool(counted_in(report)),
        "long_names": matrix is not None and any(len(labels[i]) > 3 for i in matrix.classes),
        **dict(zip(("classes", "hidden_classes"), views.classes(report), strict=True)),
        "mistaken": views.mistaken(evidence),
        **dict(zip(("slices", "hidden_slices"), views.slices(evidence), strict=True)),
        **{part: evidence.get(part) for part in ("forgetting", "calibration", "abstain", "conformal")},
    }


def _with_content(entries: list[dict[str, Any]], read: Callable[[int], Any], limit: int) -> dict[str, Any]:
    rows = [{**entry, "content": page_content(read, int(entry["row"]))} for entry in entries[:limit]]
    return {"rows": rows, "more": max(0, len(entries) - limit)}


def _worst(report: dict[str, Any], evidence: dict[str, Any], read: Callable[[int], Any]) -> dict[str, Any]:
    """Return the worst rows with what is true, what was answered, and how wrong that is in words; `marked` has the first
    two as pieces of the row, where an output has such.
    """
    output, names = statements.output_of(report), report["data"]["labels"]
    worst = _with_content(evidence.get("worst_rows") or [], read, views.MAX_WORST)
    for row in worst["rows"]:
        row["loss_words"], text = output.words["loss"].format(row["loss"], **row), row["content"].get("text", "")
        row |= {f"{what}_words": output.say(row[what], names) for what in ("true", "predicted")}
        if output.mark is not None:
            row["marked"] = {what: output.mark(text, row[what], names) for what in ("true", "predicted")}
    return worst


def _overlays(
    report: dict[str, Any], evidence: dict[str, Any], rows: PageRows
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the worst rows with what lies over their images, and the legend of its colours; nothing without maps."""
    worst = [row for row in (evidence.get("worst_rows") or [])[:MOST] if rows.overlaid is not None]
    if not worst or rows.overlaid is None:
        return [], []
    words, shown = statements.output_of(report).words, rows.overlaid([int(row["row"]) for row in worst])
    said = [{**row, "loss_words": words["loss"].format(**row), **one} for row, one in zip(worst, shown, strict=True)]
    return said, legend_of(report, rows.colours)


def _meanings(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what each score of the report is called and says."""
    words, names = statements.output_of(report).words, [n for n in statements.scores_of(report) if n in MEANINGS]
    return [(statements.score_name(name, heads=True), MEANINGS[name].format(**words)) for name in names]


def _page_data(rows: PageRows, matrix: Confusion | None) -> dict[str, Any]:
    """Return what the script needs: the rows behind each cell, all counts, the names of the labels that it shows."""
    if matrix is None:
        return {}
    keys = {cell: f"{cell[0]},{cell[1]}" for cell in matrix.cells}
    return {
        "cells": rows_to_show(rows, matrix.cells),
        "totals": {keys[cell]: count for cell, count in matrix.cells.items()},
        "labels": {str(i): one_line(str(rows.labels[i]), LABEL_CHARACTERS) for cell in matrix.cells for i in cell},
        "first": next(iter(keys.values()), None),
    }


def headed(rows: Markup, heads: str) -> Markup:
    """Return rows of a table whose cells name their column, which a narrow page shows beside them."""
    names = [head.removeprefix(">") for head in heads.split("|")]

    def row(match: re.Match[str]) -> str:
        left = iter(names)
        return re.sub(r"<(t[dh])\b", lambda cell: f'<{cell[1]} data-head="{escape(next(left, ""))}"', match[0])

    return Markup(re.sub(r"<tr\b.*?</tr>", row, rows, flags=re.DOTALL))  # what data put in is escaped


def drawn(charts: dict[str, Chart]) -> dict[str, Markup]:
    """Return each chart as its wide and its narrow SVG, or as the line that says why there is none."""
    svgs = draw([spec for chart in charts.values() for spec in (chart.wide, chart.narrow)])
    if isinstance(svgs, str):
        note = Markup('<p class="note">This chart could not be drawn: {}</p>').format(visible(svgs))
        return dict.fromkeys(charts, note)
    picture = Markup('<div class="chart {}" role="img" aria-label="{}">{}</div>')
    return {
        name: picture.format("wide", chart.summary, Markup(wide))
        + picture.format("narrow", chart.summary, Markup(narrow))
        for (name, chart), wide, narrow in zip(charts.items(), svgs[::2], svgs[1::2], strict=True)
    }  # Vega escapes what it writes


def _finalize(value: Any) -> Any:
    """Make what is hidden in a string visible, wherever the template prints one that is not markup of our own."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def environment() -> Environment:
    """Return the templates of the page, which escape what they show and make hidden characters visible."""
    templates = Environment(
        loader=PackageLoader("hftl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(zip=zip, say=statements, merged_bins=merged_bins)
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    templates.filters.update(
        headed=headed,
        percent=statements.percent,
        number=statements.number,
        duration=statements.duration,
        interval=statements.interval,
        thousands="{:,}".format,
        label=lambda text: one_line(str(text), LABEL_CHARACTERS),
        isolated=lambda text: escape(isolated(str(text), LABEL_CHARACTERS)),
    )
    return templates
