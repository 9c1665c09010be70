"""Every run under a folder: what it was, what it reached, how it stands; read from the disk alone, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


Status = Literal["running", "finished", "stopped", "failed", "damaged"]


@dataclass(frozen=True)
class Run:
    """One run as `hftl runs` lists it; what is not known is None."""

    folder: Path  # where the run lies, or will lie once it is finished
    status: Status
    data: str | None = None
    task: str | None = None
    model: str | None = None
    method: str | None = None
    metric: str | None = None  # such as "accuracy"
    value: float | None = None  # on the test rows, as are its 95% bounds
    low: float | None = None
    high: float | None = None
    verdict: str | None = None  # POSITIVE, NEGATIVE, NEUTRAL, EQUIVALENT or UNDECIDED
    seconds: float | None = None
    date: str | None = None  # ISO 8601, UTC
    problem: str | None = None  # one line: why it failed, or what is damaged


@dataclass(frozen=True)
class Point:
    """One mark of a training curve; several stages, or trials of a race, follow each other."""

    stage: str
    step: int
    epoch: float
    loss: float | None = None  # on training rows, mean since the last mark
    score: float | None = None  # the task's headline score on the validation rows


@dataclass(frozen=True)
class Pair:
    """Two runs that answered the same test rows; `gap` is a's score minus b's, with its 95% bounds."""

    metric: str
    rows: int
    a: float
    b: float
    gap: float
    low: float
    high: float
    p: float | None
    label: str  # POSITIVE: a is better, NEGATIVE: b is better, NEUTRAL: not shown
    sentence: str


def list_runs(folder: Path) -> list[Run]:
    """Return every run under `folder`, at any depth, the newest first. Raises `RunError` where there is no such folder."""
    raise NotImplementedError


def curve(run: Path) -> list[Point]:
    """Return the training curve of a run folder, finished or not; empty for a method without gradient."""
    raise NotImplementedError


def compare_two(a: Path, b: Path) -> Pair:
    """Compare two finished runs on their test rows by the paired bootstrap. Imports torch, and answers the rows anew.

    Raises `RunError` when the test rows differ, or one of the runs is not finished.
    """
    raise NotImplementedError


def as_row(run: Run) -> dict[str, Any]:
    """Return the run as `hftl runs --json` prints it: plain values by name."""
    raise NotImplementedError


def table(runs: Sequence[Run]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows, in words, of the table that `hftl runs` and the page show."""
    raise NotImplementedError
