"""What a person sees while hftl works: on a terminal one live line, in a log a line for each step and a sign of life."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftl.surroundings import hide_bars


HEARTBEAT = 30.0  # seconds of silence after which a log says what goes on
_REFRESH = 0.1  # seconds between two changes of the live line, at least
PROGRESS = (
    "HFTL_PROGRESS"  # variable that names a file: a line of JSON is added to it for all that a page shows of a run
)
# Seconds between two lines that only say how far a step is: one at least, and this share of what the step has taken.
_SELDOM = 0.002
_progress = os.environ.pop(PROGRESS, None)  # taken out: the processes that a run starts are no runs


@dataclass
class _Now:
    """What is being done at this moment."""

    title: str = ""
    detail: str = ""  # how far it is
    summary: str = ""  # what a log says of it at its end
    start: float = 0.0
    live: Any = None  # rich's status line, on a terminal
    changed: float = 0.0
    recorded: float = 0.0

    @property
    def line(self) -> str:
        """Title, detail and seconds, in one line."""
        seconds = clock(time.perf_counter() - self.start)
        return "  ".join(filter(None, (self.title, self.detail, seconds)))


_now = _Now()
verbose = False  # `--verbose`: tables beside the lines


def be_verbose(value: bool) -> None:
    """Say whether the tables of a run are printed, too."""
    global verbose
    verbose = value


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them: 0:28, 12:05, 1:02:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


@contextmanager
def step(title: str, *, logged: bool = True) -> Iterator[None]:
    """Say that something is being done until the block ends; then a log says how long it took, if `logged`."""
    outer = _now.title, _now.detail, _now.summary, _now.start
    _now.title, _now.detail, _now.summary, _now.start = title, "", "", time.perf_counter()
    _now.recorded = 0.0
    record(step=title)
    try:
        with _alive():
            yield
        record(done=title, seconds=round(time.perf_counter() - _now.start, 1))
        if logged and hide_bars():
            say(f"{time.perf_counter() - _now.start:6.1f} s  {title:<11} {_now.summary}")
    finally:
        _now.title, _now.detail, _now.summary, _now.start = outer


def record(**facts: Any) -> None:
    """Add facts about the run to the file that `PROGRESS` names, with the time: whole lines, which any process may read."""
    if _progress and os.environ.get("RANK", "0") == "0":
        with suppress(OSError), Path(_progress).open("a", encoding="utf-8") as file:  # a full disk stops no run
            file.write(f"{json.dumps({'time': round(time.time(), 2), **facts})}\n")


def at(detail: str, left: float | None = None) -> None:
    """Say how far the step is, and how many seconds are left of it."""
    _now.detail = detail
    now = time.perf_counter()
    if detail and now - _now.recorded >= max(1.0, _SELDOM * (now - _now.start)):
        _now.recorded = now
        record(at=detail, left=left)
    if _now.live is not None and time.perf_counter() - _now.changed >= _REFRESH:
        _now.changed = time.perf_counter()
        _now.live.update(_text(_now.line))


def sum_up(summary: str) -> None:
    """Set what a log says of the step when it has ended."""
    _now.summary = summary


def say(line: str) -> None:
    """Print a line of the main process."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"{line.rstrip()}\n")
        sys.stderr.flush()


def log(line: str) -> None:
    """Print a line between steps, in a log; on a terminal, show it in the live line."""
    at(line)
    if hide_bars():
        say(f"{'':10}{line}")


def progress(items: Iterable[Any], title: str, unit: str, total: int | None = None) -> Iterator[Any]:
    """Yield `items`, and say how many of them are done."""
    total = len(items) if total is None and isinstance(items, Sized) else total
    of = "" if total is None else f" of {total:,}"
    several = unit + ("es" if unit.endswith("ch") else "" if unit.endswith("s") else "s")
    nested = _now.live is not None
    within = f"{title}: " if nested and title != _now.title else ""
    with nullcontext() if nested else step(title, logged=False):
        for done, item in enumerate(items):
            at(f"{within}{done:,}{of} {several}")
            yield item


@contextmanager
def _alive() -> Iterator[None]:
    """Keep the live line moving, or a log from being silent; only the outermost step does."""
    if _now.live is not None or os.environ.get("RANK", "0") != "0":
        at("")
        yield
        return
    if not hide_bars():
        from rich.console import Console  # late: the command line's help imports this file

        _now.live = Console(file=sys.stderr, force_terminal=True).status(_text(_now.line))
        try:
            with _now.live:
                yield
        finally:
            _now.live = None
        return
    over = threading.Event()
    _now.live = _Silent()
    beating = threading.Thread(target=_beat, args=(over,), daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        _now.live = None


class _Silent:
    """The live line of a log: there is none."""

    def update(self, _: Any) -> None:
        """Show nothing."""


def _beat(over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        say(f"{'':10}... {_now.line}")


def _text(line: str) -> Any:
    from rich.text import Text

    return Text(line, overflow="ellipsis", no_wrap=True)
