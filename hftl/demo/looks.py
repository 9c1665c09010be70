"""How the page looks and speaks: the report's colours, tables and sentences on Gradio's page, and messages."""

import functools
import logging
from collections.abc import Callable
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from hftl.errors import HftlError, reraise_in_tests
from hftl.predict import Predictor
from hftl.publishing.public_report import public_name
from hftl.report import statements
from hftl.report.figures import figures
from hftl.report.html import drawn, environment, evidence_sections
from hftl.report.limits import limits
from hftl.report.rows import confusion_of
from hftl.report.visible import one_line


_NO_REPORT = "This model came without a report, so how good it is is unknown here."
_log = logging.getLogger(__name__)


def theme() -> gr.themes.Base:
    """Return the theme. Its fonts are those of the machine: none is fetched."""
    fonts: dict[str, Any] = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
    hues = {"primary_hue": "indigo", "secondary_hue": "indigo", "neutral_hue": "slate"}
    return gr.themes.Default(**hues, radius_size="lg", **fonts).set(
        body_background_fill="#f5f6f8",
        body_background_fill_dark="#0e1115",
        block_background_fill_dark="#171b21",
        block_border_color_dark="#2c333c",
        button_primary_background_fill="#3350b8",
        button_primary_background_fill_hover="#2a4298",
        button_primary_background_fill_dark="#4a66d0",
        button_primary_background_fill_hover_dark="#5a76e0",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )


def style(*more: str) -> Markup:
    """Return a style element: the page's own rules, and those of report.html within our pieces of HTML alone.

    `more` are style sheets as text, in two parts as demo.css is.
    """
    report = files("hftl.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    report = report.replace(":root {", "& {", 1)  # its colours, for our pieces
    own = files("hftl.demo").joinpath("templates/demo.css").read_text(encoding="utf-8")
    parts = [sheet.split("/* within our pieces */") for sheet in (own, *more)]
    outer, inner = ("\n".join(part[i] for part in parts) for i in range(2))
    # Nested, so that Gradio's rules for the same elements give way; all of it from files of ours.
    return Markup(f"<style>\n{outer}\n.gradio-container .hftl.hftl {{\n{report}\n{inner}\n}}\n</style>")


@functools.cache
def templates(*before: str) -> Environment:
    """Return the report's environment (escaping, filters) with the demo's templates, and those of `before`, first."""
    loader = ChoiceLoader([PackageLoader(package) for package in (*before, "hftl.demo", "hftl.report")])
    made = environment().overlay(loader=loader, cache_size=50)
    made.filters = {**made.filters, "short": lambda text: one_line(str(text), 100)}
    return made


def piece(name: str, **values: Any) -> str:
    """Return a macro of pieces.html as HTML. Every string that is not markup of our own is escaped."""
    return str(getattr(templates().get_template("pieces.html").module, name)(**values))


def report_html(template: str, name: str, predictor: Predictor, report: dict[str, Any] | None) -> str:
    """Return header.html or evidence.html for the model called `name`; without a report, what is known without one."""
    page, task = templates().get_template(template), predictor.task
    values: dict[str, Any] = {
        "style": style(),
        "model_name": name,
        "task": task.name,
        "labels": predictor.labels,
        "architecture": type(predictor.model).__name__,
        "parameters": sum(p.numel() for p in predictor.model.parameters()),
        "generic": all(label == f"LABEL_{i}" for i, label in enumerate(predictor.labels)),
        "does": task.output.words["does"].format(row=task.inputs.noun, n=f"{len(predictor.labels):,}"),
        "problem": None if report else _NO_REPORT,
        "look": "none",
    }
    try:
        return page.render(values | (_VALUES[template](report, report.get("evidence") or {}) if report else {}))
    except Exception as error:  # a report from a stranger's repository may hold anything
        reraise_in_tests(error)
        _log.warning("The report cannot be shown", exc_info=error)
        problem = f"The report of this model cannot be shown ({type(error).__name__})."
        return page.render(values | {"problem": problem})


def _header(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    look, sentence = statements.headline(report, evidence)
    return {
        **{"look": look, "sentence": sentence, "base": public_name(report["model"]), "report": report},
        "method_words": statements.METHODS.get(str(report["method"]), ""),
        "learned": statements.learned(report),
    }


def _evidence(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    charts = {k: v for k, v in figures(report, evidence).items() if k not in ("loss", "scores")}
    labels = [str(name) for name in report["data"]["labels"]]
    cells = evidence.get("confusion")
    return {
        **evidence_sections(report, evidence, labels, confusion_of(cells, len(labels)) if cells else None),
        **{"rows_open": False, "cells_open": False},
        "findings": None,  # they name rows of the data
        "limits": limits(report),
        "charts": drawn(charts),
    }


_VALUES: dict[str, Callable[..., dict[str, Any]]] = {"header.html": _header, "evidence.html": _evidence}


def html(content: str, elem_id: str | None = None, **options: Any) -> gr.HTML:
    """Return a place for HTML of ours, which brings its own style."""
    return gr.HTML(content, apply_default_css=False, elem_id=elem_id, **options)


def in_place(handler: Callable[..., Any], emptied: Callable[[str], Any]) -> Callable[..., Any]:
    """Return the handler, which answers an `HftlError` with `emptied` of its message: said once, where a visitor looks."""

    @functools.wraps(handler)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except HftlError as error:
            return emptied(piece("line", look="problem", text=str(error)))

    return safe


def with_messages(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler with every `HftlError` as a message in the page, escaped: Gradio shows it as HTML."""

    @functools.wraps(handler)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except HftlError as error:
            raise gr.Error(escape(str(error), quote=False), duration=8.0, print_exception=False) from None

    return safe
