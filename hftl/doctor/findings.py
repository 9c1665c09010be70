"""What is examined, `Records`, and what is said of it: one `Finding` per check, as a table on the terminal."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from hftl.report.table import print_table


Level = Literal["PASS", "INFO", "WARN", "FAIL"]
ACROSS = "across splits"  # in `by_split`: inputs that only differ from one split to another
SHOWN_ROWS = 20  # row numbers per split that a finding lists; `count` and `by_split` count them all
NO_LABEL = NO_KEY = -1
# From this share of a split's rows on, a fault moves the figures of the run: 1 point of accuracy. Ours.
SERIOUS = 0.01
_PRINTED_ROWS = 5  # of these on the terminal
Feature = tuple[str, Sequence[Any]]  # what should not tell the label, and its value in every row


@dataclass(frozen=True)
class Finding:
    """What a check says about the data.

    FAIL: hftl refuses these data, or a figure of the run would be wrong. WARN: worth a look before training.
    INFO: good to know, and nothing to do.
    """

    check: str
    level: Level = "PASS"
    count: int = 0  # of what the check counts (rows, inputs or classes; docs/doctor.md), exact
    by_split: dict[str, int] = field(default_factory=dict)  # the same by split
    rows: dict[str, list[int]] = field(
        default_factory=dict
    )  # by split: the first `SHOWN_ROWS`, counted from 0 in the source
    fix: str = ""  # what to do; empty when all is well


def warned(*, fails: bool) -> Level:
    """Return the level of a check that has something to say."""
    return "FAIL" if fails else "WARN"


def as_sentence(*parts: str) -> str:
    """Return the parts as one sentence."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def failures(findings: Iterable[Finding]) -> list[str]:
    """Return the names of the checks that failed."""
    return [finding.check for finding in findings if finding.level == "FAIL"]


@dataclass(frozen=True, eq=False)
class Facts:
    """What the checks know of the input of a row; each kind of inputs adds to it."""

    missing: bool = False  # nothing at all in this row
    fault: str | None = None  # why what is there cannot be used
    digest: bytes | None = None  # equal for the same input; None where there is no usable one
    path: str = ""  # of its file, where there is one
    own_file: bool = False  # whether it lies in that file, and not in a table


@dataclass(frozen=True)
class Kind:
    """What differs between texts and images."""

    name: str  # that of `Inputs.kind`
    look: Callable[..., list[Any]]  # (tables of the inputs' columns, `Inputs`, quick) -> `Facts` of every row
    check_of_faults: str  # the check that names rows with a fault
    checks: tuple[Callable[["Records"], Finding], ...]  # of these inputs only
    groups: Callable[..., np.ndarray | None]  # (facts [m], quick) -> a number [m], equal for those nearly the same
    alike: str  # what these share
    features: Callable[..., list[Feature]]  # facts [m] -> what they have beside what a model should learn from


@dataclass(frozen=True, eq=False)
class Records:
    """All rows of train, validation and test, in this order."""

    kind: Kind
    name: str
    splits: tuple[str, ...]  # those that there are
    split: np.ndarray  # [n] index into `splits`
    row: np.ndarray  # [n] row number in the source
    label: np.ndarray  # [n] index into `labels`, or NO_LABEL
    labels: tuple[str, ...]
    key: np.ndarray  # [n] equal for rows with the same input; NO_KEY where there is no usable one
    facts: list[Any]  # [n] `Facts` of this kind
    default_method: str  # of the task
    others: dict[str, Sequence[Any]] = field(default_factory=dict)  # the train split's other columns
    unused: tuple[str, ...] = ()  # classes that are declared, by a feature or an empty folder, and have no row
    empty_folders: bool = False  # whether `unused` are empty folders, which hftl refuses
    in_class_folders: bool = False  # whether the order of the rows is that of the class folders
    classes: bool = True  # is a label the one class of its row? Else what is checked of classes is left out
    quick: bool = False  # at the start of a run: spare what takes long
    masks: Sequence[Any] = ()  # [n] `MaskFacts` or None, where a row's target is a mask
    labels_beside: tuple[str, ...] = ()  # names of the classes in a file beside masks
    skipped: int = 0  # broken images that are left out already

    def __len__(self) -> int:
        return len(self.split)

    def counts(self, split: str) -> np.ndarray:
        """Return the rows of each class in this split, [K]."""
        here = self.label[self.within(split)]
        return np.bincount(here[here != NO_LABEL], minlength=len(self.labels))

    def where(self, holds: Callable[[Any], bool]) -> np.ndarray:
        """Return the positions of the rows whose `Facts` are so."""
        return np.array([i for i, one in enumerate(self.facts) if holds(one)], dtype=np.int64)

    def within(self, split: str) -> np.ndarray:
        """Return a mask [n] of the rows of this split; all False where there is no such split."""
        return self.split == (self.splits.index(split) if split in self.splits else -1)

    def of(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Return the positions by split, sorted, without the splits that have none."""
        ordered = np.sort(positions)
        rows_of = {name: ordered[self.split[ordered] == code] for code, name in enumerate(self.splits)}
        return {name: rows for name, rows in rows_of.items() if len(rows)}

    def finding(
        self, check: str, level: Level, positions: np.ndarray, fix: str, by_split: dict[str, int] | None = None
    ) -> Finding:
        """Return a finding about these rows; `by_split` where something else than rows is counted."""
        of = self.of(np.asarray(positions, dtype=np.int64))
        counts = {name: len(rows) for name, rows in of.items()} if by_split is None else by_split
        first = {name: self.row[rows[:SHOWN_ROWS]].tolist() for name, rows in of.items()}
        return Finding(check, level, sum(counts.values()), counts, first, fix)

    def take(self, positions: np.ndarray, label: np.ndarray) -> "Records":
        """Return the rows at these positions, in that order, with the labels [n] of all rows given anew."""
        arrays = {"split": self.split, "row": self.row, "key": self.key, "label": label}
        taken: dict[str, Any] = {name: array[positions] for name, array in arrays.items()}
        taken |= {
            "facts": [self.facts[i] for i in positions],
            "masks": [self.masks[i] for i in positions if self.masks],
        }
        return replace(self, **taken, others={}, unused=())


def show_findings(title: str, findings: Sequence[Finding], *, stdout: bool) -> None:
    """Print one line per finding, the gravest first."""
    grave = {"FAIL": 0, "WARN": 1, "INFO": 2, "PASS": 3}
    ordered = sorted(findings, key=lambda finding: grave[finding.level])
    rows = [(f.level, f.check, _count(f), _rows(f), f.fix or "nothing to do") for f in ordered]
    print_table(title, ("level", "check", "count", "rows (from 0)", "what to do"), rows, stdout=stdout)


def _count(finding: Finding) -> str:
    if len(finding.by_split) < 2:
        where = "".join(f" {'' if split == ACROSS else 'in '}{split}" for split in finding.by_split)
        return f"{finding.count:,}{where}"
    return f"{finding.count:,} ({', '.join(f'{split} {count:,}' for split, count in finding.by_split.items())})"


def _rows(finding: Finding) -> str:
    parts = []
    for split, rows in finding.rows.items():
        more = ", ..." if len(rows) > _PRINTED_ROWS or finding.by_split.get(split, 0) > _PRINTED_ROWS else ""
        parts.append(f"{split} {', '.join(map(str, rows[:_PRINTED_ROWS]))}{more}")
    return "; ".join(parts)
