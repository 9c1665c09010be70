"""Cells of a CSV that somebody may open in a spreadsheet."""

from typing import Any


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def no_formula(cell: Any) -> Any:
    """Return a text that a spreadsheet would run as a formula with a quote before it (OWASP, CSV injection)."""
    return "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
