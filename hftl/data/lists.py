"""Lists that a table holds as text, and labels that it holds as one 0 or 1 for each."""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, List, Value

from hftl.data.columns import is_list, is_string, written_numbers


LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
_NEIGHBOURS = re.compile(r"""(?<=['"])\s+(?=['"])""")  # of numpy, which writes no commas
_SEPARATORS = (",", ";", "|")
_OFTEN = 0.2  # share of the rows whose label holds a separator, for labels to look like lists
_AGAIN = 0.9  # and of the parts beside a separator that stand in other labels too
FALLBACK = "LABEL_{}"  # what transformers calls a label without a name


def listed(text: str) -> list[str]:
    """Return the parts of "['EU', 'rejects']", as Python, JSON and numpy write them. Raises `ValueError` for no such list."""
    text = _NEIGHBOURS.sub(", ", text.strip())
    for read in (json.loads, ast.literal_eval):
        try:
            parts = read(text)
        except (ValueError, SyntaxError):
            continue
        return [str(part) for part in parts]
    if not re.fullmatch(r"\[[\s\d.]*\]", text):
        raise ValueError(text)
    return text[1:-1].split()  # [0 1 0] of numpy


def list_separator(labels: Mapping[str, int]) -> str | None:
    """Return what stands between several names in one label, where labels look so: "red, blue" beside "blue, green".

    `labels` counts the rows of each. What may be numbers, such as "1,234" or "3,5", is no list.
    """
    for separator in () if written_numbers([*labels]) else _SEPARATORS:
        lists = [{part.strip() for part in label.split(separator)} for label in labels]
        parts = Counter(part for names in lists for part in names)
        beside = [part for names in lists if len(names) > 1 for part in names]
        rows = sum(count for label, count in labels.items() if separator in label)
        again = sum(parts[part] > 1 for part in beside) >= _AGAIN * len(beside)
        if rows >= _OFTEN * sum(labels.values()) and again and 1 < len(parts) < len(labels):
            return separator
    return None


def with_lists(table: Dataset, column: str) -> Dataset:
    """Return the table with a column of labels as lists of names, where it has these as text or as 0 and 1 for each label."""
    feature, values = table.features[column], table[column][:]
    if is_string(feature):
        told = [value for value in values if value is not None and value.strip()]
        if not told or not all(LIST.fullmatch(value) for value in told):
            return table
        try:
            values = [listed(value) if value and value.strip() else None for value in values]
        except ValueError:
            return table
    elif not is_list(feature):
        return table
    names = ticked(values)
    if names is None and not is_string(feature):
        return table
    order, lists = table.column_names, values if names is None else names
    return (
        table.remove_columns([column]).add_column(column, lists, feature=List(Value("string"))).select_columns(order)
    )


def ticked(values: list[Any]) -> list[list[str] | None] | None:
    """Return the names of the labels that have a 1, where every list has one 0 or 1 for each label; None otherwise.

    Lists of names as long as each other hold no name twice.
    """
    lists = [value for value in values if value is not None]
    parts = [part for value in lists for part in value]
    ticks = parts and all(isinstance(part, str | int | float) and part in ("0", "1", 0, 1) for part in parts)
    if not ticks or len({len(value) for value in lists}) > 1 or all(len({*value}) == len(value) for value in lists):
        return None
    return [
        None if value is None else [FALLBACK.format(i) for i, part in enumerate(value) if int(part) == 1]
        for value in values
    ]
