"""Cells of a CSV that somebody may open in a spreadsheet."""

import re
from typing import Any


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]\s?[\d.(][\d\s.,()/-]*(e[+-]?\d+)?%?", re.IGNORECASE)  # also the number of a telephone


def no_formula(cell: Any) -> Any:
    """Return a text that a spreadsheet would run as a formula with a quote before it (OWASP, CSV injection).

    A number with a sign is left as it is: there is nothing in it to run.
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA) or _NUMBER.fullmatch(cell):
        return cell
    return "'" + cell


def as_it_was(cell: str) -> str:
    """Return the text that `no_formula` made this cell of; a cell that it did not change is returned as it is."""
    return cell[1:] if cell.startswith("'") and no_formula(cell[1:]) == cell else cell
