"""What `--fix` changes: decided on all rows first, written afterwards. Test loses only rows that cannot be scored."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hftl.doctor.findings import NO_KEY, NO_LABEL, Records, plural
from hftl.doctor.fix_files import write_fixed
from hftl.doctor.input_checks import empty_texts, missing_inputs, repeats
from hftl.doctor.label_checks import is_sorted, merged_names, missing_labels
from hftl.doctor.reading import Opened


SEED = 42  # of the order that shuffled rows get


@dataclass(eq=False)
class Changes:
    """The rows that stay, their labels, and the log of what was done; `fix` fills it step by step."""

    records: Records
    stays: np.ndarray  # [n] mask
    label: np.ndarray  # [n] index into the labels, as changed
    log: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, positions: np.ndarray, check: str, why: str) -> None:
        """Leave these rows out and write it down."""
        for position in positions[self.stays[positions]].tolist():
            self.note(position, check, f"removed: {why}")
        self.stays[positions] = False

    def note(self, position: int, check: str, change: str) -> None:
        """Write down a change of one row."""
        split = self.records.splits[self.records.split[position]]
        self.log.append({"split": split, "row": int(self.records.row[position]), "check": check, "change": change})


def fix(opened: Opened, out: Path) -> Records:
    """Write the cleaned data and `changes.log` to the new folder `out`; return the rows as they are now.

    Raises:
        RunError: `out` cannot be written; it is then not there.
    """
    changes = decide(opened.records)
    order = _order(changes)
    write_fixed(opened, changes.label, order, changes.log, out)
    return opened.records.take(np.concatenate(list(order.values())), changes.label)


def decide(records: Records) -> Changes:
    """Return all changes but the order of the rows."""
    changes = Changes(records, np.ones(len(records), dtype=bool), records.label.copy())
    _drop_unusable(changes)
    _merge_names(changes)
    _settle_conflicts(changes)
    _drop_repeats(changes)
    _drop_leaks(changes)
    return changes


def _drop_unusable(changes: Changes) -> None:
    """Leave out of every split what hftl would refuse or skip: rows without label, text or pixels."""
    records = changes.records
    changes.drop(np.flatnonzero(missing_inputs(records)), "missing_values", f"no {records.kind}")
    for rows in missing_labels(records).values():
        changes.drop(rows, "missing_values", "no label")
    if records.kind == "text":
        changes.drop(np.flatnonzero(empty_texts(records)), "empty_or_truncated_texts", "empty text")
        return
    for position, image in enumerate(records.images):
        if image.fault is not None:
            changes.drop(np.array([position]), "broken_images", image.fault)


def _merge_names(changes: Changes) -> None:
    """Give every class one spelling, that of test; spellings that test has several of stay, or it could not be scored."""
    records = changes.records
    in_test = set(records.label[records.within("test")].tolist())
    for rare, spelling in merged_names(records).items():
        if rare in in_test:
            continue
        rows = np.flatnonzero((records.label == rare) & changes.stays)
        for position in rows.tolist():
            change = f"label {records.labels[rare]!r} changed to {records.labels[spelling]!r}"
            changes.note(position, "similar_class_names", change)
        changes.label[records.label == rare] = spelling


def _settle_conflicts(changes: Changes) -> None:
    """Of an input under several labels in a split keep the rows of the label that more than half of them have."""
    records = changes.records
    usable = changes.stays & ~records.within("test") & (records.key != NO_KEY) & (changes.label != NO_LABEL)
    positions = np.flatnonzero(usable)
    labels = pd.Series(changes.label[positions], index=positions)
    places = pd.Series(records.key * len(records.splits) + records.split)[positions]  # one number per input and split
    several = labels.groupby(places).transform("nunique") > 1
    for _, group in labels[several].groupby(places[several]):
        best, votes = Counter(group.tolist()).most_common(1)[0]
        if 2 * votes > len(group):
            rows = group.index[group != best].to_numpy()
            changes.drop(rows, "conflicting_labels", f"{votes} of {len(group)} copies have the label of the rows kept")
        else:
            changes.drop(group.index.to_numpy(), "conflicting_labels", f"no label has most of the {len(group)} copies")


def _drop_repeats(changes: Changes) -> None:
    """Keep the first of the copies in a split."""
    records = changes.records
    for split in records.splits:
        if split != "test":
            again = repeats(records, records.within(split) & changes.stays)
            changes.drop(again, "exact_duplicates", f"a row before it in {split} is the same")


def _drop_leaks(changes: Changes) -> None:
    """Leave out of train what stands in validation or test, and out of validation what stands in test."""
    records = changes.records
    for code, split in enumerate(records.splits[:-1]):
        for later in range(len(records.splits) - 1, code, -1):
            theirs = records.key[(records.split == later) & changes.stays & (records.key != NO_KEY)]
            rows = np.flatnonzero(records.within(split) & changes.stays & np.isin(records.key, theirs))
            changes.drop(rows, "cross_split_duplicates", f"stands in {records.splits[later]} too")


def _order(changes: Changes) -> dict[str, np.ndarray]:
    """Return the positions of each split in the order in which they are written: train shuffled when it is sorted."""
    records = changes.records
    order = {split: np.flatnonzero(records.within(split) & changes.stays) for split in records.splits}
    rows = np.concatenate(list(order.values()))
    if not records.in_class_folders and is_sorted(records.take(rows, changes.label)):
        order["train"] = np.random.default_rng(SEED).permutation(order["train"])
        change = f"{plural(len(order['train']), 'row')} put in a random order (seed {SEED})"
        changes.log.append({"split": "train", "row": None, "check": "sorted_rows", "change": change})
    return order
