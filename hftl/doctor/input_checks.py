"""Inputs that are missing, or in the data more than once."""

import numpy as np
import pandas as pd

from hftl.doctor.findings import ACROSS, NO_KEY, NO_LABEL, SERIOUS, Finding, Records, warned
from hftl.doctor.label_checks import missing_labels
from hftl.report.statements import counted


def missing_values(records: Records) -> Finding:
    """Count the rows without an input or without a label."""
    inputs, labels = records.where(lambda one: one.missing), missing_labels(records)
    rows = np.union1d(inputs, labels)
    if not len(rows):
        return Finding("missing_values")
    counts = {records.kind.name: len(inputs), "label": len(labels)}
    parts = " and ".join(counted(count, noun, f"{noun}s") for noun, count in counts.items() if count)
    fix = f"Fill in the missing {parts}, or remove the rows: --fix OUT removes them."
    return records.finding("missing_values", "FAIL", rows, fix)


def repeats(records: Records, mask: np.ndarray) -> np.ndarray:
    """Return the positions among `mask` [n] whose input stands there before."""
    positions = np.flatnonzero(mask & (records.key != NO_KEY))
    return positions[pd.Series(records.key[positions]).duplicated().to_numpy()]


def exact_duplicates(records: Records) -> Finding:
    """Count the rows whose input stands in the same split before, whatever their labels."""
    again = np.concatenate([repeats(records, records.within(split)) for split in records.splits])
    if not len(again):
        return Finding("exact_duplicates")
    example = _beside(records, records.key, again[0])
    fix = f"Keep one row of each ({example}): --fix OUT removes the copies, but none from test."
    return records.finding("exact_duplicates", "WARN", again, fix)


def _beside(records: Records, group: np.ndarray, later: int) -> str:
    """Name a row and the first one with its number in `group` [n]: "such as train 4 and test 61"."""
    pair = (np.flatnonzero(group == group[later])[0], later)
    return "such as " + " and ".join(f"{records.splits[records.split[i]]} {records.row[i]}" for i in pair)


def copies_of(records: Records, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the positions among `mask` [n] whose input stands among `others` [n] too."""
    return np.flatnonzero(mask & (records.key != NO_KEY) & np.isin(records.key, records.key[others]))


def cross_split_duplicates(records: Records) -> Finding:
    """Count the rows of validation that stand in train, and those of test that stand in train or validation."""
    numbered = list(enumerate(records.splits))[1:]
    copies = {split: copies_of(records, records.split == code, records.split < code) for code, split in numbered}
    positions = np.concatenate([*copies.values(), np.empty(0, dtype=np.int64)])
    if not len(positions):
        return Finding("cross_split_duplicates")
    shares = [len(rows) / records.within(split).sum() for split, rows in copies.items()]
    fix = (
        f"They make the scores too good, {max(shares):.1%} of a split at most "
        f"({_beside(records, records.key, positions[0])}): "
        "--fix OUT removes their copies from the earlier split, never from test."
    )
    return records.finding("cross_split_duplicates", warned(fails=max(shares) >= SERIOUS), positions, fix)


def conflict_positions(records: Records, mask: np.ndarray) -> np.ndarray:
    """Return the positions among `mask` [n] whose input stands there under another label as well."""
    positions = np.flatnonzero(mask & (records.key != NO_KEY) & (records.label != NO_LABEL))
    labels = pd.Series(records.label[positions]).groupby(records.key[positions])
    return positions[(labels.transform("nunique") > 1).to_numpy()]


def conflicting_labels(records: Records) -> Finding:
    """Count the inputs with several labels: within each split, and those that only differ from split to split."""
    inside = {split: conflict_positions(records, records.within(split)) for split in records.splits}
    every = conflict_positions(records, np.ones(len(records), dtype=bool))
    if not len(every):
        return Finding("conflicting_labels")
    counts = {split: len(np.unique(records.key[rows])) for split, rows in inside.items() if len(rows)}
    seen = np.concatenate([records.key[rows] for rows in inside.values()])
    across = len(np.setdiff1d(records.key[every], seen))
    if across:
        counts[ACROSS] = across
    share = max((len(rows) / records.within(split).sum() for split, rows in inside.items()), default=0)
    fix = (
        f"Decide which label is right ({counted(len(every), 'row', 'rows')} in question): --fix OUT keeps the label that more than "
        "half of the copies have, or none of them without such a majority; in test you have to decide."
    )
    return records.finding("conflicting_labels", warned(fails=share >= SERIOUS), every, fix, counts)


def near_duplicates(records: Records) -> Finding | None:
    """Count the rows that are nearly the same as a row before them; exact copies are left to the other checks.

    None where a quick look would take too long.
    """
    usable = np.flatnonzero(records.key != NO_KEY)
    first = usable[~pd.Series(records.key[usable]).duplicated().to_numpy()]  # one row of each input
    group = records.kind.groups([records.facts[i] for i in first], records.quick)
    if group is None:
        return None
    again = first[pd.Series(group).duplicated().to_numpy()]
    if not len(again):
        return Finding("near_duplicates")
    every = np.full(len(records), -1)
    every[first] = group
    fix = (
        f"Look at them ({records.kind.alike}, {_beside(records, every, again[0])}): copies in test make the scores too good, "
        "copies in train count twice. A column that says which rows belong together keeps them on one side of a cut "
        "(--group_column)."
    )
    return records.finding("near_duplicates", "WARN", again, fix)
