"""Where the model is weaker than it is overall: accuracy, or another score, per group of test rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse, stats

from hftl.evaluation.bootstrap import RESAMPLES, Interval, intervals, kinds_of, left_out, proportion_interval
from hftl.evaluation.metrics import total


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
    """The score of some rows with its 95% interval, of accuracy the exact one."""

    by: str
    name: str
    count: int
    value: float
    low: float
    high: float
    weak: bool  # worse than the rows overall, beyond what so many comparisons throw up by chance


def by_quantiles(by: str, values: Sequence[float] | np.ndarray, unit: str = "", parts: int = 4) -> Grouping:
    """Cut the rows at the quantiles of `values` [n], such as characters per text or pixels of the shorter side.

    Slices are named by their values ("12 to 40 characters"). Equal values stay together; NaN is a slice of its own.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    codes = np.full(len(numbers), -1, dtype=np.int64)
    names: list[str] = []
    if known.any():
        # edges that are values of rows: a slice then ends where a row does
        edges = np.unique(np.quantile(numbers[known], np.arange(1, parts) / parts, method="inverted_cdf"))
        _, codes[known] = np.unique(np.searchsorted(edges, numbers[known], side="left"), return_inverse=True)
        for code in range(int(codes.max()) + 1):
            inside = numbers[codes == code]
            ends = dict.fromkeys(f"{end:.10g}" for end in (inside.min(), inside.max()))
            names.append(f"{' to '.join(ends)} {unit}".rstrip())
    if not known.all():
        codes[~known] = len(names)
        names.append(MISSING)
    return Grouping(by, codes, tuple(names))


def by_values(by: str, values: Sequence[Any], limit: int = 20) -> Grouping:
    """Make one slice of every distinct value, such as a source column or an image mode, the most frequent first.

    Beyond the `limit` most frequent ones the rows form one slice; None and NaN form another. Names are the values' text,
    cut at 80 characters; like all data they must be escaped where they are shown.
    """
    texts = [MISSING if v is None or (isinstance(v, float) and math.isnan(v)) else str(v) for v in values]
    if not texts:
        return Grouping(by, np.empty(0, dtype=np.int64), ())
    distinct, codes, counts = np.unique(np.array(texts, dtype=object), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    names = [str(distinct[i]) for i in order[:limit]] + [OTHER] * (len(order) > limit)
    names = [name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…" for name in names]
    return Grouping(by, np.minimum(place[codes], limit), tuple(names))


def right_slices(groupings: Sequence[Grouping], right: np.ndarray) -> list[Slice]:
    """Return the share of right rows in every slice of every grouping, in order; `right` [n] tells which rows are.

    A slice is `weak` when its exact interval lies below the share of all rows at the level 1 - .05 / slices
    (Bonferroni): if none were weaker, one would be called so in at most 1 of 20 reports. Groupings that put all rows
    into one slice are left out.
    """

    def judge(inside: np.ndarray, count: int, tail: float) -> tuple[Interval, bool]:
        hits = int(right[inside].sum())
        return proportion_interval(hits, count), proportion_interval(hits, count, 1 - tail).high < right.mean()

    return _slices(groupings, judge)


def score_slices(
    groupings: Sequence[Grouping],
    statistics: Any,
    score: Callable[[np.ndarray], np.ndarray],
    *,
    smaller: bool = False,
    resamples: int = RESAMPLES,
) -> list[Slice]:
    """Do what `right_slices` does for any score, a function of sums of statistics [n, s]; `smaller` ones may be better.

    The interval is a bootstrap of the slice's rows. A slice is `weak` when it is behind the rest of the rows at
    .05 / slices: Student's t with the standard errors of the jackknife (Tukey 1958), that of a slice at least what so
    many of all rows would have, for a few rows that are all wrong have none of their own.
    """
    rows = sparse.csr_array(statistics, dtype=np.float64)
    spread = _error(rows, score) ** 2 * rows.shape[0]

    def judge(inside: np.ndarray, count: int, tail: float) -> tuple[Interval, bool]:
        part, rest = rows[np.flatnonzero(inside)], rows[np.flatnonzero(~inside)]
        interval = intervals(part, {"": score}, resamples)[""]
        gap = interval.value - total(rest, score)
        error = math.hypot(max(_error(part, score), math.sqrt(spread / count)), _error(rest, score))
        behind = (gap if smaller else -gap) > error * float(stats.t.isf(tail / 2, max(1, count - 1)))
        return interval, behind and count > 1

    return _slices(groupings, judge)


def _slices(
    groupings: Sequence[Grouping], judge: Callable[[np.ndarray, int, float], tuple[Interval, bool]]
) -> list[Slice]:
    """Judge each slice that has rows, of the groupings that have two of them or more; `judge` gets its rows [n] bool."""
    cells = []
    for grouping in groupings:
        inside = [(grouping.by, name, grouping.codes == i) for i, name in enumerate(grouping.names)]
        inside = [cell for cell in inside if cell[2].any()]
        cells += inside if len(inside) > 1 else []
    slices = []
    for by, name, of_slice in cells:
        count = int(of_slice.sum())
        interval, weak = judge(of_slice, count, 0.05 / len(cells))
        slices.append(Slice(by, name, count, interval.value, interval.low, interval.high, bool(weak)))
    return slices


def _error(statistics: Any, score: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the standard error of a score by the jackknife; 0 for one row."""
    kinds = kinds_of(statistics)
    n = len(kinds.of_row)
    if n < 2:
        return 0.0
    without = left_out(kinds, score)
    return math.sqrt((n - 1) / n * float(kinds.counts @ (without - kinds.counts @ without / n) ** 2))
