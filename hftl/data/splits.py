"""The splits that a run works on, and the seeded stratified cuts and samples that make them.

scikit-learn's stratified split refuses a class of one row and a cut smaller than the number of classes; few rows and
many classes are the daily case of transfer learning, so the rows are allotted here by largest remainder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hftl.data.files import SPLIT_NAMES, split_of
from hftl.errors import DataError


@dataclass(frozen=True)
class Written:
    """A table as its file has it, where rows of words and tags were made of it."""

    table: Dataset
    rows: Sequence[Sequence[int]]  # of it, that each row was made of
    words: bool = False  # is each of them one word?
    spans: str | None = None  # its column of marked spans
    shift: int = 0  # what the ends of these lack


@dataclass(frozen=True)
class Source:
    """Tables by the source's own split names, and what is known of where they come from."""

    tables: dict[str, Dataset]
    name: str
    base: Path = Path()  # what relative image paths are relative to
    empty_classes: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    bases: dict[str, Path] = field(default_factory=dict)  # by split, where it differs
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # by split, where they are files of rows
    classes: tuple[str, ...] = ()  # their names, where a file beside the masks gives them
    faults: dict[str, dict[int, str]] = field(default_factory=dict)  # by split: row -> why its label cannot be read
    written: dict[str, Written] = field(default_factory=dict)  # by split, where `tables` were made of others
    unfit: str = ""  # why nothing can be learned from it
    loose: dict[str, Dataset] = field(
        default_factory=dict
    )  # by split: rows outside of all classes, answered where none is asked

    def base_of(self, split: str) -> Path:
        """Return the folder that relative image paths of the split start from."""
        return self.bases.get(split, self.base)


@dataclass(frozen=True)
class Splits:
    """Train, validation and test rows with one set of labels.

    The tables have the columns "text" (str) or "image" (`datasets.Image(decode=False)`), "label" (an index into
    `labels`) and "row" (the row number in the split of the source that the row came from); with `--slice_column` also
    "slice" (str).
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    labels: tuple[str, ...]
    name: str  # what the report calls the data
    origins: dict[str, str]  # how each split came about, such as "cut from train: 10%, stratified, seed 42"
    skipped: tuple[str, ...]  # "path: reason" for each broken image that was left out
    warnings: tuple[str, ...]
    whole: dict[str, str] = field(default_factory=dict)  # of a split that is all of one of the source, its name there
    readings: tuple[str, ...] = ()  # those of the warnings that say how the source was read


@dataclass(frozen=True)
class Rows:
    """One table to predict or to evaluate."""

    table: Dataset  # as the source has it, every row
    inputs: Dataset  # the canonical input columns of the rows that can be used
    numbers: np.ndarray  # of these rows
    labels: Any | None  # their targets, by `Output.recognise`, when labels were asked for
    skipped: tuple[str, ...]  # "path: reason" or "row 3: reason" for each other row


def recognise_splits(names: Sequence[str]) -> dict[str, str]:
    """Map "train", "validation" and "test" to the source's own names; a split with another name is left out.

    Exact names win over names that only contain the word, and "eval" beside "test" is the validation split. The one
    split of a source is the train split, unless its name says that it is another.
    """
    named: dict[str, str] = {}
    for split, words in SPLIT_NAMES.items():
        exact = [name for word in words for name in names if name.lower() == word]
        loose = [name for name in names if split_of(name) == split]
        named |= {split: (exact or loose)[0]} if exact or loose else {}
    evaluations = [name for name in names if name.lower() in ("eval", "evaluation")]
    if "validation" not in named and evaluations and named.get("test") not in (None, *evaluations):
        named["validation"] = evaluations[0]
    return {"train": names[0]} if len(names) == 1 and not named else named


def allocate(counts: np.ndarray, total: int, low: np.ndarray, high: np.ndarray, seed: int) -> np.ndarray:
    """Share `total` rows among classes of `counts` rows by largest remainder, within `low` and `high` per class.

    Ties go by a seeded order, so that among many equal classes it is not always the first ones that gain. A total
    outside what the bounds allow gives the nearest that they do.
    """
    total = int(np.clip(total, low.sum(), high.sum()))
    ideal = counts * (total / max(counts.sum(), 1))
    quota = np.clip(np.floor(ideal + 1e-9).astype(np.int64), low, high)
    order = np.random.default_rng(seed).permutation(len(counts))
    while quota.sum() != total:
        step = 1 if quota.sum() < total else -1
        room = quota < high if step > 0 else quota > low
        need = np.where(room, step * (ideal - quota), -np.inf)
        quota[order[np.argmax(np.round(need[order], 9))]] += step
    return quota


def _pick(labels: np.ndarray, quota: np.ndarray, seed: int) -> np.ndarray:
    """Return the sorted positions of `quota[k]` random rows of every class k."""
    rng = np.random.default_rng(seed)
    picked = [rng.permutation(np.flatnonzero(labels == label))[:size] for label, size in enumerate(quota)]
    return np.sort(np.concatenate(picked)).astype(np.int64)


def cut(
    labels: np.ndarray, classes: int, share: float, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions (left, cut) of a stratified cut of `share` of the rows, at least one.

    Every class keeps a row, so a class of two rows may be absent from what is cut. With `groups` [n] the same is done
    with groups in the place of rows, each of its most frequent class. Raises `DataError` when no class has one to spare.
    """
    unit, of_row = "rows", np.arange(len(labels))
    if groups is not None:
        unit, of_row = "groups", np.unique(groups, return_inverse=True)[1]
        table = np.zeros((of_row.max() + 1, classes), dtype=np.int64)
        np.add.at(table, (of_row, labels), 1)
        labels = table.argmax(axis=1)
    counts = np.bincount(labels, minlength=classes)
    spare = np.maximum(counts - 1, 0)
    if not spare.sum():
        raise DataError(
            f"too few {unit}: {len(labels)} {unit} in {classes} classes leave none to cut off for validation and test: "
            f"add {unit}, or give validation and test splits of your own"
        )
    size = max(1, int(np.floor(share * len(labels) + 0.5)))
    taken = _pick(labels, allocate(counts, size, np.zeros_like(counts), spare, seed), seed)
    inside = np.isin(of_row, taken)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def together(left: np.ndarray, taken: np.ndarray, keys: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions (left, cut) with the copies of a row that is left beside it: a copy in both parts is a leak.

    `keys` are equal for the same input, None for an input that has no copies to speak of. A cut that would be empty
    is left as it was.
    """
    known = {keys[i] for i in left} - {None}
    copies = np.array([keys[i] in known for i in taken], dtype=bool)
    if copies.all():
        return left, taken
    return np.sort(np.concatenate([left, taken[copies]])), taken[~copies]


def joined(*views: Sequence[Any]) -> np.ndarray:
    """Return a number per row [n], equal for rows that share a value of any view, also by way of others; None is no value."""
    rows, ends = np.arange(len(views[0])), []
    for view in views:
        first: dict[Any, int] = {}
        ends += [row if value is None else first.setdefault(value, row) for row, value in enumerate(view)]
    graph = coo_array((np.ones(len(ends)), (np.tile(rows, len(views)), ends)), shape=(len(rows), len(rows)))
    numbers: np.ndarray = connected_components(graph, directed=False)[1]
    return numbers


def sample(labels: np.ndarray, classes: int, limit: int | None, seed: int, every_class: bool) -> np.ndarray:
    """Return the sorted positions of a stratified sample of at most `limit` rows.

    With `every_class`, each class that has rows keeps at least one. Raises `DataError` when `limit` is below one, or
    below the number of classes with `every_class`.
    """
    if limit is None:
        return np.arange(len(labels))
    counts = np.bincount(labels, minlength=classes)
    low = np.minimum(counts, 1) if every_class else np.zeros_like(counts)
    if limit < max(1, low.sum()):
        name = "max_train_samples" if every_class else "max_eval_samples"
        needed = f"a row of each of the {int(low.sum())} classes" if every_class else "one at least"
        raise DataError(f"{name} is {limit}: {needed} is needed; raise it")
    if limit >= len(labels):
        return np.arange(len(labels))
    return _pick(labels, allocate(counts, limit, low, counts, seed), seed)


def pick_shots(labels: np.ndarray, names: Sequence[str], shots: int, seed: int) -> np.ndarray:
    """Return the sorted positions of `shots` rows of every class. Raises `DataError` when a class has fewer."""
    counts = np.bincount(labels, minlength=len(names))
    least = int(counts.argmin())
    if counts[least] < shots:
        has = f"the class {names[least]!r} has {counts[least]} training rows"
        raise DataError(f"shots is {shots}, but {has}; lower it to that")
    return _pick(labels, np.full(len(names), shots), seed)
