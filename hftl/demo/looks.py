"""How the page looks and speaks: the report's colours and tables on Gradio's page, pieces of HTML, and messages."""

import functools
from collections.abc import Callable
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from hftl.errors import HftlError
from hftl.report.html import environment
from hftl.report.visible import one_line


_WITHIN = "/* within our pieces */"
_SHORT = 100  # characters of a text in the preview of a batch
_SCOPE = "hftl"  # class of every piece of HTML of ours
_MESSAGE_SECONDS = 8.0


def theme() -> gr.themes.Base:
    """Return the theme. Its fonts are those of the machine: none is fetched."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    return gr.themes.Default(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", radius_size="lg", font=sans, font_mono=mono
    ).set(
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


@functools.cache
def style() -> Markup:
    """Return a style element: the page's own rules, and those of report.html within our pieces of HTML alone."""
    report = files("hftl.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    report = report.replace(":root {", "& {", 1)  # its colours, for our pieces
    outer, inner = files("hftl.demo").joinpath("templates/demo.css").read_text(encoding="utf-8").split(_WITHIN)
    # Nested, so that Gradio's rules for the same elements give way; all of it from files of ours.
    return Markup(f"<style>\n{outer}\n.gradio-container .{_SCOPE}.{_SCOPE} {{\n{report}\n{inner}\n}}\n</style>")


@functools.cache
def _templates() -> Environment:
    """Return the report's environment (escaping, filters) with the demo's templates before its own."""
    loader = ChoiceLoader([PackageLoader("hftl.demo"), PackageLoader("hftl.report")])
    templates = environment().overlay(loader=loader, cache_size=50)
    templates.filters = {**templates.filters, "short": lambda text: one_line(str(text), _SHORT)}
    return templates


def render(template: str, **values: Any) -> str:
    """Return a template of the demo as HTML. Every string that is not markup of our own is escaped."""
    return _templates().get_template(template).render(**values)


def piece(name: str, **values: Any) -> str:
    """Return a macro of pieces.html as HTML, escaped as by `render`."""
    return str(getattr(_templates().get_template("pieces.html").module, name)(**values))


def html(content: str, elem_id: str | None = None, **options: Any) -> gr.HTML:
    """Return a place for HTML of ours, which brings its own style."""
    return gr.HTML(content, apply_default_css=False, elem_id=elem_id, **options)


def with_messages(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler with every `HftlError` as a message in the page: the visitor can correct it, the server goes on.

    Its text may hold names of files and columns, and Gradio shows a message as HTML: hence the escaping.
    """

    @functools.wraps(handler)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except HftlError as error:
            message = escape(str(error), quote=False)
            raise gr.Error(message, duration=_MESSAGE_SECONDS, print_exception=False) from None

    return safe
