"""What the doctor says: one `Finding` per check."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


Level = Literal["PASS", "INFO", "WARN", "FAIL"]
ACROSS = "across splits"  # in `by_split`: inputs that only differ from one split to another
SHOWN_ROWS = 20  # row numbers per split that a finding lists; `count` and `by_split` count them all


@dataclass(frozen=True)
class Finding:
    """What one check found.

    FAIL: hftl refuses these data, or a figure of the run would be wrong. WARN: worth a look before training.
    INFO: good to know, and nothing to do.
    """

    check: str
    level: Level
    count: int  # of what the check counts (rows, inputs or classes; docs/doctor.md), exact
    by_split: dict[str, int]  # the same by split
    rows: dict[str, list[int]]  # by split: the first `SHOWN_ROWS` row numbers, as the source counts them from 0
    mend: str  # what to do; empty when all is well


def passed(check: str) -> Finding:
    """Return the finding of a check that found nothing."""
    return Finding(check, "PASS", 0, {}, {}, "")


def warned(*, fails: bool) -> Level:
    """Return the level of a check that found something."""
    return "FAIL" if fails else "WARN"


def failures(findings: Iterable[Finding]) -> list[str]:
    """Return the names of the checks that failed."""
    return [finding.check for finding in findings if finding.level == "FAIL"]


def plural(count: int, noun: str, more: str | None = None) -> str:
    """Return "1 row" or "2 rows"; `more` is the plural where it takes more than an s."""
    return f"{count:,} {noun if count == 1 else more or noun + 's'}"


def quoted(names: Iterable[str], shown: int = 5) -> str:
    """Return the first names in quotes, control characters escaped and long ones cut."""
    every = list(names)
    short = [repr(name if len(name) <= 40 else name[:37] + "...") for name in every[:shown]]
    return ", ".join(short) + (", ..." if len(every) > shown else "")
