"""Strings from data, made safe to look at: nothing in them is hidden, reorders its surroundings or breaks a file."""

import re
import unicodedata
from typing import Any

from markupsafe import Markup


# Invisible characters that change how text is ordered, joined or read: bidirectional marks, zero-width spaces, invisible
# operators, separators, and tag characters, which can carry a whole sentence. Persian and emoji need zero-width joiners.
_HIDDEN = frozenset(
    {0x061C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(0x2028, 0x202F), *range(0x2060, 0x2070)}
    | set(range(0xFFF9, 0xFFFC))
    | set(range(0xE0000, 0xE0080))
)
_LINE = "\u23ce"  # the "return" symbol
NAME_CHARACTERS = 120
_MARKDOWN = {**{char: f"\\{char}" for char in "\\`*_{}[]|~$#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def _shown(char: str) -> str:
    code = ord(char)
    if char in "\n\t":
        return char
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures of Unicode
    if code in _HIDDEN or unicodedata.category(char) in ("Cc", "Cs"):  # controls; halves of surrogate pairs
        return f"[U+{code:04X}]"
    return char


def visible(text: str) -> str:
    """Return the text with every control and hidden character spelt out, such as [U+202E]; \\n and \\t stay.

    What comes back can be written as UTF-8 and keeps its order to itself inside an element of its own (`bdi`).
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(map(_shown, text))


def one_line(text: str, limit: int = 80) -> str:
    """Return `visible` text of at most `limit` characters in one line, for labels and names."""
    text = text[: limit + 1]  # cut first: a label can be megabytes
    cut = visible(text[:limit]).replace("\n", _LINE).replace("\t", " ")
    return cut + ("\u2026" if len(text) > limit else "")


def isolated(text: str, limit: int = 80) -> str:
    """Return `one_line` between U+2068 and U+2069, for attributes and sentences that take no element around a name."""
    return f"\u2068{one_line(text, limit)}\u2069"


def shorten(text: str, limit: int, lines: int) -> tuple[str, bool]:
    """Return `visible` text of at most `limit` characters and `lines` lines, and whether anything was cut off."""
    parts = visible(text[:limit]).split("\n")
    cut = len(text) > limit or len(parts) > lines
    return "\n".join(parts[:lines]) + ("\u2026" if cut else ""), cut


def md(text: Any, limit: int = NAME_CHARACTERS) -> Markup:
    """Return a name as Markdown that shows it: in one line, nothing hidden, no markup, no link, no mention of anyone.

    It may stand in a table cell. A name with right-to-left letters is isolated, so that it does not reorder the line.
    """
    if hasattr(text, "__html__"):
        return Markup(text)
    line = one_line(str(text), limit)
    escaped = "".join(_MARKDOWN.get(char, char) for char in line)
    escaped = re.sub(r"(?i)\b(www)\.", r"\1&#46;", escaped.replace("://", ":&#47;&#47;"))
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in line):
        escaped = f"\u2068{escaped}\u2069"
    return Markup(escaped)


def code(text: Any, limit: int = NAME_CHARACTERS) -> Markup:
    """Return a name as a code span, or as `md` where it could end the span or the table cell around it."""
    line = one_line(str(text), limit)
    if not line or any(char in line for char in "`|\\") or not line.isascii():
        return md(text, limit)
    return Markup(f"`{line}`")


def quoted_python(text: str) -> Markup:
    """Return a string as a Python or YAML literal for a fenced block."""
    return Markup('"{}"'.format(one_line(text).replace("\\", "\\\\").replace('"', '\\"')))
