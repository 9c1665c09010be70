"""Labels: missing ones, classes that are one class by two names, absent, rare, or sorted."""

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np

from hftl.data.columns import quoted
from hftl.doctor.findings import NO_LABEL, Finding, Records, as_sentence, warned
from hftl.evaluation import RARE
from hftl.methods import METHODS
from hftl.methods.policy import Facts, recommend


# Rows count as sorted when the runs of equal labels are at least half way from the number that a random order has to
# that of a sorted one, by a margin that chance does not give (standard deviations of the number of runs).
_HALF_WAY, _SORTED_DEVIATIONS = 0.5, 4.0


def missing_labels(records: Records) -> np.ndarray:
    """Return the positions without a label; a split that has none at all is not missing some."""
    without = records.label == NO_LABEL
    for split in records.splits:
        here = records.within(split)
        if split != "train" and without[here].all():
            without = without & ~here
    return np.flatnonzero(without)


def folded_name(name: str) -> str:
    """Return what is equal for class names that differ in case, spaces, hyphens or underscores only.

    Signs at the ends stay ("A-" is not "A", "-1" is not "1"), and so does a gap between digits ("1-2" is not "12").
    """
    name = unicodedata.normalize("NFKC", name).casefold().strip()
    name = re.sub(r"(?<=\d)[\s_-]+(?=\d)", " ", name)
    return re.sub(r"(?<=[^\W\d])[\s_-]+(?=\w)|(?<=\d)[\s_-]+(?=[^\W\d])", "", name)


def merged_names(records: Records) -> dict[int, int]:
    """Return, for each spelling too many of a class, the index of the one to keep.

    That is one that test has, since test is never changed; else, or of several, the one that most rows have, of all
    splits; of equally frequent ones the first.
    """
    groups = defaultdict(list)
    counts = np.sum([records.counts(split) for split in records.splits], axis=0)
    in_test = records.counts("test") > 0
    for code in np.flatnonzero(counts).tolist():
        groups[folded_name(records.labels[code])].append(code)
    merged: dict[int, int] = {}
    for codes in groups.values():
        spelling = max(codes, key=lambda code: (in_test[code], counts[code], -code))
        merged.update({code: spelling for code in codes if code != spelling})
    return merged


def similar_class_names(records: Records) -> Finding:
    """Count the spellings too many, such as "Billing" beside "billing"."""
    merged = merged_names(records)
    if not merged:
        return Finding("similar_class_names")
    pairs = "; ".join(f"{records.labels[a]!r:.42} is {records.labels[b]!r:.42}" for a, b in list(merged.items())[:5])
    positions = np.flatnonzero(np.isin(records.label, list(merged)))
    fix = f"Make each one class ({pairs}{'; ...' if len(merged) > 5 else ''}): --fix OUT takes the spelling of test, else the most frequent."
    finding = records.finding("similar_class_names", "FAIL", positions, fix)
    by_split = {split: len(np.unique(records.label[rows])) for split, rows in records.of(positions).items()}
    return replace(finding, count=len(merged), by_split=by_split)


def missing_classes(records: Records) -> Finding:
    """Count the classes that a split lacks: those of test and validation in train above all."""
    train = records.counts("train") > 0
    by_split: dict[str, int] = Counter()
    graver: list[str] = []
    lesser: list[str] = []
    if train.sum() < 2:
        graver.append("train needs at least two classes")
        by_split["train"] = 2 - int(train.sum())
    if records.unused:
        line = f"train has no rows of {quoted(records.unused)}: add some or remove the class"
        (graver if records.empty_folders else lesser).append(line)
        by_split["train"] += len(records.unused)
    for split in records.splits:
        here = records.counts(split) > 0
        unknown, absent = (
            quoted([records.labels[i] for i in np.flatnonzero(m)]) for m in (here & ~train, train & ~here)
        )
        if here.any() and unknown:
            graver.append(f"train lacks {unknown}, which {split} has: add such rows to train or remove them there")
        if here.any() and absent:
            lesser.append(f"{split} lacks {absent}: nothing will be known of them there, add rows")
        if here.any() and (unknown or absent):
            by_split[split] = int((here != train).sum())
    if not by_split:
        return Finding("missing_classes")
    strange = np.flatnonzero(np.isin(records.label, np.flatnonzero(~train)))
    fix = as_sentence(*graver, *lesser)
    return records.finding("missing_classes", warned(fails=bool(graver)), strange, fix, dict(by_split))


def imbalance(records: Records) -> Finding:
    """Count the classes with less than a fifth of the training rows of the largest."""
    counts = records.counts("train")
    present = counts[counts > 0]
    if len(present) < 2 or present.max() <= RARE * present.min():
        return Finding("imbalance")
    rare = np.flatnonzero((counts > 0) & (counts * RARE < counts.max()))
    weights = present.sum() / (len(present) * present)
    fix = (
        f"The largest class has {present.max() / present.min():.1f} times the rows of the smallest "
        f"({records.labels[rare[counts[rare].argmin()]]!r:.42}): train with --class_weights auto (factors {weights.min():.2f} "
        f"to {weights.max():.2f}), and read macro F1 beside accuracy."
    )
    return Finding("imbalance", "WARN", len(rare), {"train": len(rare)}, {}, fix)


def too_few_rows(records: Records, method: str | None) -> Finding:
    """Count the classes with fewer training rows than the method can use; a class of one row cannot be learnt."""
    counts = records.counts("train")
    single = np.flatnonzero(counts == 1)
    if len(single):
        rows = np.flatnonzero(records.within("train") & np.isin(records.label, single))
        names = quoted([records.labels[i] for i in single])
        fix = f"Add rows of {names}, or remove {'it' if len(single) == 1 else 'them'}: one row cannot be learnt and tested."
        return records.finding("too_few_rows", "FAIL", rows, fix)
    present = counts[counts > 0]
    name = method or records.default_method
    enough = METHODS[name].rows  # per class (median), below which the method is short of data
    median = float(np.median(present)) if len(present) else 0.0
    if median >= enough:
        return Finding("too_few_rows")
    few = int((present < enough).sum())
    who = f"--method {name}" if method else f"{name}, the default method here"
    best = recommend(Facts(median)).method
    instead = "more rows help more than another method" if METHODS[name].frozen_body else f"use --method {best}"
    rarest = quoted([records.labels[i] for i in np.argsort(counts, kind="stable") if 0 < counts[i] < enough][:3])
    fix = f"{median:g} rows per class (median) are few for {who}, which wants {enough} (rarest: {rarest}): {instead}."
    return Finding("too_few_rows", "WARN", few, {"train": few}, {}, fix)


def runs_by_chance(counts: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of the number of runs of equal labels in a random order of two rows or more.

    `counts` [k] are the rows of each label: Wald & Wolfowitz (1940), extended to k labels by Barton & David (1957).
    """
    n, squares, cubes = (float((counts.astype(np.float64) ** power).sum()) for power in (1, 2, 3))
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    return 1 + n - squares / n, max(variance, 0.0) ** 0.5


def is_sorted(records: Records) -> bool:
    """Tell whether train is sorted by class: far fewer runs of equal labels than a random order has."""
    labels = records.label[records.within("train") & (records.label != NO_LABEL)]
    if len(labels) < 4:
        return False
    counts = np.unique(labels, return_counts=True)[1]
    mean, deviation = runs_by_chance(counts)
    gap = mean - 1 - int((labels[1:] != labels[:-1]).sum())
    return gap >= _HALF_WAY * (mean - len(counts)) and gap > _SORTED_DEVIATIONS * deviation + 1e-9


def sorted_rows(records: Records) -> Finding:
    """Count the rows of a train split that is sorted by class; class folders have no order of their own."""
    if records.in_class_folders or not is_sorted(records):
        return Finding("sorted_rows")
    rows = int(records.within("train").sum())
    fix = (
        "hftl shuffles in training and stratifies its splits, but a part cut off by other tools would lack classes: "
        "--fix OUT shuffles train."
    )
    return Finding("sorted_rows", "WARN", rows, {"train": rows}, {}, fix)
