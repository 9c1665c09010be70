"""Strings from elsewhere, made safe to stand in a Markdown card."""

import re
import unicodedata
from typing import Any

from markupsafe import Markup

from hftl.report.visible import one_line


NAME_CHARACTERS = 120
_SPECIAL = {**{char: f"\\{char}" for char in "\\`*_{}[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def md(text: Any, limit: int = NAME_CHARACTERS) -> Markup:
    """Return a name as Markdown that shows it: in one line, nothing hidden, no markup, no link, no mention of anyone.

    It may stand in a table cell. A name with right-to-left letters is isolated, so that it does not reorder the line.
    """
    if hasattr(text, "__html__"):
        return Markup(text)
    shown = one_line(str(text), limit)
    escaped = "".join(_SPECIAL.get(char, char) for char in shown)
    escaped = re.sub(r"(?i)\b(www)\.", r"\1&#46;", escaped.replace("://", ":&#47;&#47;"))
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in shown):
        escaped = f"\u2068{escaped}\u2069"
    return Markup(escaped)


def code(text: Any, limit: int = NAME_CHARACTERS) -> Markup:
    """Return a name as a code span, or as `md` where it could end the span or the table cell around it."""
    shown = one_line(str(text), limit)
    if not shown or any(char in shown for char in "`|\\") or not shown.isascii():
        return md(text, limit)
    return Markup(f"`{shown}`")


def quoted_python(text: str) -> Markup:
    """Return a string as a Python or YAML literal for a fenced block."""
    return Markup('"{}"'.format(one_line(text).replace("\\", "\\\\").replace('"', '\\"')))
