"""A finished run in a notebook or a shell: three lines, or the verdict and the ladder with no style sheet and no script."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from hftl.paths import bare_name
from hftl.report import statements, views


_EDGE = {"good": "#2e8b57", "bad": "#c0392b"}  # of the verdict, by its look; grey else
_BOX = Markup(
    '<div style="border-left:4px solid {};padding:2px 12px;max-width:60em"><b>{}</b><br>{}<br>{}</div>'
    '<table style="margin:8px 0"><tr><th style="text-align:left">Model</th><th>{}</th><th>95%</th></tr>{}</table>'
    "<code>{}</code>"
)
_RUNG = Markup('<tr style="font-weight:{}"><td style="text-align:left"><bdi>{}</bdi></td><td>{}</td><td>{}</td></tr>')


def in_lines(report: dict[str, Any], run_dir: Path) -> str:
    """Return what the run is, what came of it, and where it lies: a line each."""
    _, said = statements.headline(report, report["evidence"] or {})
    model = bare_name(str(report["model"]["name"]))
    return (
        f"{report['task']} by {report['method']} of {model}: {statements.learned(report)}\n{said}\n{_place(run_dir)}"
    )


def in_html(report: dict[str, Any], run_dir: Path) -> str:
    """Return the verdict and the ladder; text of the data is escaped."""
    evidence, scale = report["evidence"] or {}, statements.scales_of(report)[statements.headline_of(report)]
    banner, rungs = statements.banner(report, evidence), views.ladder(report, evidence)
    scores = [(rung, rung[statements.headline_of(report)]) for rung in rungs]
    rows = Markup("").join(
        _RUNG.format(
            "bold" if rung["kind"] == "method" else "normal",
            rung["name"],
            scale.value(score["value"]),
            scale.bounds(score["low"], score["high"]),
        )
        for rung, score in scores
    )
    words = (banner["title"], banner["sentence"], banner["reached"], scale.heading, rows, _place(run_dir))
    return str(_BOX.format(_EDGE.get(banner["look"], "#8892a0"), *words))


def _place(run_dir: Path) -> str:
    """Return where the run lies; it has a page unless evidence is off."""
    page = ", report.html the page" if (run_dir / "report.html").is_file() else ""
    return f"{run_dir}: final/ is the model{page}"
