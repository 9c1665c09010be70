"""What the four steps of the page show, as plain values: data, plan, result; each by the part of hftl that knows it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftl.ui.files import Workspace


Content = Any  # a text (str), or an image (PIL.Image)


@dataclass(frozen=True)
class Row:
    """One row of the data."""

    split: str  # train, validation or test, as hftl reads the source
    row: int  # counted from 0 in that split of the source
    content: Content
    label: str | None  # None: it has none


@dataclass(frozen=True)
class Problem:
    """A finding of the doctor's, with the first of its rows."""

    check: str
    level: str  # PASS, INFO, WARN or FAIL
    count: int
    advice: str
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class DataLook:
    """Step 1."""

    data: str  # the value of --data
    name: str
    task: str
    why: str  # a sentence: what in the data speaks for the task
    columns: tuple[str, ...]  # of the inputs, then the label
    splits: dict[str, int]  # rows
    rows: tuple[Row, ...]  # the first five
    classes: dict[str, int]  # rows of train by class, the most frequent first; empty where labels are no classes
    problems: tuple[Problem, ...]  # the gravest first; those that passed are left out
    fixable: bool  # the doctor's fix would change something


@dataclass(frozen=True)
class Card:
    """Step 2: one method."""

    method: str
    words: str  # what it does, in one line
    seconds: float | None = None
    memory: int | None = None  # bytes
    fits: bool = True
    metric: str = ""
    value: float | None = None  # what the probe reaches by cross-validation, with its 95% bounds; None: not known
    low: float | None = None
    high: float | None = None
    recommended: bool = False
    reason: str = ""  # why it is
    words_of_command: tuple[str, ...] = ()  # after `hftl train`, for `hftl.ui.process.start`
    command: str = ""  # the same as a line for a shell
    problem: str = ""  # why this method cannot be used here


@dataclass(frozen=True)
class WorstRow:
    """A test row that the model got most wrong, or a training row whose label looks wrong (`suspect`)."""

    split: str  # in which the source has it: train, validation or test
    row: int  # counted from 0 there
    content: Content
    label: str
    prediction: str
    probability: float | None  # of the prediction
    suspect: bool = False


@dataclass(frozen=True)
class ResultView:
    """Step 4."""

    folder: Path
    report: dict[str, Any]
    metric: str
    value: float
    low: float | None
    high: float | None
    score: str  # "87.9%"
    interval: str  # "86.4 to 89.4%"
    ladder: tuple[tuple[str, ...], ...]  # name, score, interval
    verdict: str  # the title of the verdict
    sentence: str
    look: str  # good, neutral or bad
    classes: tuple[str, ...]
    worst: tuple[WorstRow, ...]
    correctable: bool  # `corrected_copy` can change labels of this data
    data: str  # the value of --data it was trained on
    words: tuple[str, ...]  # after `hftl train`: trains the same again


def look(data: str, task: str | None = None) -> DataLook:
    """Examine the data as `hftl doctor` does. Raises an `HftlError` when they cannot be read or learnt from."""
    raise NotImplementedError


def fix(workspace: Workspace, data: str, task: str | None = None) -> DataLook:
    """Write the doctor's cleaned copy into the workspace and return the look at it."""
    raise NotImplementedError


def plan_cards(data: str, task: str, model: str | None, flags: list[str]) -> Iterator[Card]:
    """Yield a card for each method as it is worked out: first auto, which names the recommended one.

    `flags` are words as `take_flags` returns them. Raises an `HftlError` where no method could work.
    """
    raise NotImplementedError


def command_line(words: tuple[str, ...] | list[str]) -> str:
    """Return `hftl train WORDS` quoted for a shell."""
    raise NotImplementedError


def result(folder: Path) -> ResultView:
    """Return what the page shows of a finished run. Raises `RunError` where there is none."""
    raise NotImplementedError
