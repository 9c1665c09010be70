"""Where the model is weaker than it is overall: accuracy per group of test rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from hftl.errors import ConfigError, DataError
from hftl.evaluation.bootstrap import LEVEL, intervals, proportion_interval
from hftl.evaluation.row_scores import check_ids


MISSING, OTHER = "(missing)", "(other)"
_NAME_LENGTH = 80  # a column may hold whole articles


@dataclass(frozen=True, eq=False)
class Grouping:
    """One way to cut the rows into slices: row i is in the slice `names[codes[i]]`."""

    by: str  # such as "text length"
    codes: np.ndarray  # [n] int64
    names: tuple[str, ...]


@dataclass(frozen=True)
class Slice:
    """The accuracy of some rows, with its exact 95% interval."""

    by: str
    name: str
    count: int
    accuracy: float
    low: float
    high: float
    weak: bool  # below the overall accuracy, beyond what so many comparisons throw up by chance


def by_quantiles(by: str, values: Sequence[float] | np.ndarray, unit: str = "", parts: int = 4) -> Grouping:
    """Cut the rows at the quantiles of `values` [n], such as characters per text or pixels of the shorter side.

    Slices are named by the values that they hold ("12 to 40 characters"). Equal values stay together, so that there
    may be fewer than `parts` slices of unequal size; NaN is a slice of its own.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise DataError(f"The values of a slice must be a list of numbers, got an array of shape {numbers.shape}.")
    if parts < 1:
        raise ConfigError(f"parts must be 1 or more, got {parts}.")
    known = ~np.isnan(numbers)
    codes = np.full(len(numbers), -1, dtype=np.int64)
    names: list[str] = []
    if known.any():
        # edges that are values of rows: a slice then ends where a row does
        edges = np.unique(np.quantile(numbers[known], np.arange(1, parts) / parts, method="inverted_cdf"))
        _, codes[known] = np.unique(np.searchsorted(edges, numbers[known], side="left"), return_inverse=True)
        for code in range(int(codes.max()) + 1):
            inside = numbers[codes == code]
            names.append(_span(inside.min(), inside.max(), unit))
    if not known.all():
        codes[~known] = len(names)
        names.append(MISSING)
    return Grouping(by, codes, tuple(names))


def _span(low: float, high: float, unit: str) -> str:
    numbers = f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"
    return f"{numbers} {unit}".rstrip()


def by_values(by: str, values: Sequence[Any], limit: int = 20) -> Grouping:
    """Make one slice of every distinct value, such as a source column or an image mode, the most frequent first.

    Beyond the `limit` most frequent ones the rows form one slice; None and NaN form another. Values count as their
    text; names are cut at 80 characters, and like all data they must be escaped where they are shown.
    """
    if limit < 1:
        raise ConfigError(f"limit must be 1 or more, got {limit}.")
    texts = [MISSING if _is_missing(v) else str(v) for v in values]
    if not texts:
        return Grouping(by, np.empty(0, dtype=np.int64), ())
    distinct, codes, counts = np.unique(np.array(texts, dtype=object), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    names = [_shorten(str(distinct[i])) for i in order[:limit]] + [OTHER] * (len(order) > limit)
    return Grouping(by, np.minimum(place[codes], limit), tuple(names))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shorten(text: str) -> str:
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"


def slice_scores(groupings: Sequence[Grouping], predictions: np.ndarray, references: np.ndarray) -> list[Slice]:
    """Return the accuracy of every slice of every grouping, in order, for class ids [n] against true ones [n].

    A slice is `weak` when its exact interval lies below the accuracy on all rows at the level 1 - .05 / slices
    (Bonferroni, over all groupings): if no slice were weaker, one would be called so in at most 1 of 20 reports,
    however many there are. Groupings that put all rows into one slice compare nothing and are left out.

    Raises `DataError` when the ids or a grouping do not pair up with the rows.
    """
    true = check_ids("references", references, len(np.atleast_1d(references)))
    predicted = check_ids("predictions", predictions, len(true))
    if len(true) == 0:
        return []
    correct = predicted == true
    cells: list[tuple[str, str, int, int]] = []
    for grouping in groupings:
        if grouping.codes.shape != true.shape:
            raise DataError(
                f"The slices by {grouping.by} have {len(grouping.codes)} rows, the predictions {len(true)}."
            )
        counts = np.bincount(grouping.codes, minlength=len(grouping.names))
        hits = np.bincount(grouping.codes, weights=correct, minlength=len(grouping.names))
        if np.count_nonzero(counts) > 1:
            cells += [
                (grouping.by, name, int(hits[i]), int(counts[i])) for i, name in enumerate(grouping.names) if counts[i]
            ]
    strict = 1 - 0.05 / max(1, len(cells))
    overall = correct.mean()
    slices = []
    for by, name, right, count in cells:
        interval = proportion_interval(right, count)
        weak = bool(proportion_interval(right, count, strict).high < overall)
        slices.append(Slice(by, name, count, interval.value, interval.low, interval.high, weak))
    return slices


def resampled_slices(groupings: Sequence[Grouping], statistics: Any, score: Any, smaller: bool = False) -> list[Slice]:
    """Return what `slice_scores` returns, for a score of sums of the `statistics` [n, s] and with bootstrap intervals.

    With `smaller`, less is better. Slices of one row have no interval to speak of: theirs is their value.
    """
    rows = sparse.csr_array(statistics)
    parts = [
        (grouping.by, name, np.flatnonzero(grouping.codes == code))
        for grouping in groupings
        for code, name in enumerate(grouping.names)
        if len(np.unique(grouping.codes)) > 1
    ]
    parts = [part for part in parts if len(part[2])]
    overall = float(score(np.asarray(rows.sum(axis=0))[None])[0]) if rows.shape[0] else 0.0
    strict = 1 - (1 - LEVEL) / max(1, len(parts))
    slices = []
    for by, name, inside in parts:
        usual, wide = (intervals(rows[inside], {"": score}, level=level)[""] for level in (LEVEL, strict))
        weak = wide.low > overall if smaller else wide.high < overall
        slices.append(Slice(by, name, len(inside), usual.value, usual.low, usual.high, bool(weak)))
    return slices
