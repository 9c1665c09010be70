"""Exact intervals for a share of rows, such as the accuracy of a few of them."""

from dataclasses import dataclass

from scipy.special import betaincinv

from hftl.errors import DataError


@dataclass(frozen=True)
class Interval:
    """A score on the data itself (`value`) and the two ends of its confidence interval."""

    value: float
    low: float
    high: float


def proportion_interval(hits: int, rows: int, level: float = 0.95) -> Interval:
    """Return `hits` of `rows` as a share, with its exact interval (Clopper and Pearson 1934).

    It covers the truth in at least `level` of cases for any number of rows; Wilson's does so only on average, and
    would take a single wrong row as proof of an accuracy below 80%. Raises `DataError` for no rows or more hits than
    rows.
    """
    if not 0 <= hits <= rows or rows == 0:
        raise DataError(f"A share needs at least one row and at most all of them as hits, got {hits} of {rows}.")
    tail = (1 - level) / 2
    low = betaincinv(hits, rows - hits + 1, tail) if hits else 0.0
    high = betaincinv(hits + 1, rows - hits, 1 - tail) if hits < rows else 1.0
    return Interval(float(hits / rows), float(low), float(high))
