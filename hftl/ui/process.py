"""A training as a process of its own, which outlives the page; all that is known of it is on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hftl.runs import Point


Status = Literal["none", "starting", "running", "stopping", "stopped", "failed", "finished"]
# The steps of a run in their order, as `hftl.terminal` names them; a run without evidence leaves some out.
STEPS = ("data", "base model", "features", "training", "finish", "test", "forgetting", "evidence")


@dataclass(frozen=True)
class StepState:
    """One step of the run: done, or going on."""

    name: str
    seconds: float  # it took, or has taken so far
    done: bool
    detail: str = ""  # such as "epoch 2/3, loss 0.048, 0:28 left"


@dataclass(frozen=True)
class RunState:
    """How a run stands; two pages that look at one folder see the same."""

    folder: Path  # the finished run's, also while it is not there yet
    status: Status
    held: bool = False  # by a process that this page's folder did not start: it can be watched, not stopped
    steps: tuple[StepState, ...] = ()
    points: tuple[Point, ...] = ()  # the live curve
    seconds: float = 0.0  # of all its processes together
    left: float | None = None  # seconds of the training that goes on, where they can be told
    error: str = ""  # the one line of a run that failed
    resumable: bool = False  # `resume` goes on with it (from its beginning, where nothing was kept)
    words: tuple[str, ...] = ()  # after `hftl train`
    log: Path | None = None


def start(words: Sequence[str], folder: Path) -> RunState:
    """Start `hftl train WORDS --output_dir FOLDER` in a session of its own, and return at once.

    Raises `RunError` when a run is there already, or another process holds the folder.
    """
    raise NotImplementedError


def stop(folder: Path) -> RunState:
    """Ask the run to end (SIGTERM): it writes a checkpoint first. Raises `RunError` when it is not ours to stop."""
    raise NotImplementedError


def resume(folder: Path) -> RunState:
    """Go on with a run that was stopped, killed or failed. Raises `RunError` when there is none, or it runs."""
    raise NotImplementedError


def state(folder: Path) -> RunState:
    """Return how the run of this folder stands, from the disk alone."""
    raise NotImplementedError


def running(folder: Path) -> list[RunState]:
    """Return the runs under `folder` that a page started and that are not finished, the newest first."""
    raise NotImplementedError
