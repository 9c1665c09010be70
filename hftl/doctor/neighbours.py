"""Groups of rows that are nearly the same, from buckets of rows that might be: never all pairs.

Locality-sensitive hashing as in Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, ch. 3: rows that share a
bucket of any band are candidates, and every candidate is verified.
"""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


# A row is held against so many of its neighbours in a bucket, and against the first row there. It makes buckets of
# many rows cost linear time; groups come out whole all the same, since each verified pair joins two groups.
WINDOW = 8

Verify = Callable[[np.ndarray, np.ndarray], np.ndarray]


def group_near(bands: Iterable[np.ndarray], rows: int, verify: Verify) -> np.ndarray:
    """Return a group number per row [rows]: rows joined by verified pairs, or by chains of them, share one.

    Args:
        bands: one array [rows] of bucket numbers per band.
        rows: how many rows there are.
        verify: tells of pairs (i, j), two arrays [m], which are near [m].
    """
    group = np.arange(rows)
    tried = np.empty(0, dtype=np.int64)
    for buckets in bands:
        left, right = bucket_pairs(buckets)
        apart = group[left] != group[right]
        codes = _distinct(np.minimum(left, right)[apart] * rows + np.maximum(left, right)[apart])
        codes = codes[~_among(codes, tried)]
        if not len(codes):
            continue
        tried = np.sort(np.concatenate([tried, codes]), kind="stable")  # two sorted runs: a merge
        left, right = codes // rows, codes % rows
        near = verify(left, right)
        # One graph over rows: the groups so far, each row tied to the first of its group, and the new pairs.
        first = np.unique(group, return_index=True)[1][group]
        ends = np.concatenate([first, right[near]]), np.concatenate([np.arange(rows), left[near]])
        graph = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(rows, rows))
        group = connected_components(graph, directed=False)[1]
    return group


def _distinct(values: np.ndarray) -> np.ndarray:
    """Return the distinct values, sorted; numpy 2.4's own `unique` hashes, which took ten times as long here."""
    ordered = np.sort(values)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def _among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Tell which of the values are in `ordered`, a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def bucket_pairs(buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows that share a bucket: all of them up to `WINDOW` rows, a connected part of them beyond."""
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    left, right = [], []
    for step in range(1, min(WINDOW, len(order))):
        same = ordered[step:] == ordered[:-step]
        left.append(order[:-step][same])
        right.append(order[step:][same])
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    within = np.arange(len(order)) - np.repeat(starts, sizes)
    far = within >= WINDOW
    left.append(order[np.repeat(starts, sizes)][far])
    right.append(order[far])
    return np.concatenate(left).astype(np.int64), np.concatenate(right).astype(np.int64)
