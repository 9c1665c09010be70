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
