"""Wide tables of parameters: a thin row of each runs by default, the rest under `make test-all`."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def thin(rows: Iterable[Any], keep: Container[Any]) -> list[Any]:
    """Return the rows as parameters, marked slow where they are not in `keep`. A tuple is several parameters."""
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=() if row in keep else pytest.mark.slow)
        for row in rows
    ]
