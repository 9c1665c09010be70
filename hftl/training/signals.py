"""SIGTERM and Ctrl-C: when they end a run, and when they wait for a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hftl.errors import Preempted
from hftl.surroundings import end_if_interrupted


_NAMES = {int(signal.SIGTERM): "SIGTERM", int(signal.SIGINT): "Ctrl-C"}
asked = 0  # the signal that came
_in_stage = False


def end_if_asked() -> None:
    """Raise `Preempted` when a signal has come.

    Called at the boundaries of all long work: Python loses an exception that a handler raises inside a `__del__`.
    """
    if asked:
        error = Preempted(f"{_NAMES[asked]} came. --resume goes on with the run.")
        error.exit_code = 128 + asked  # as shells report it
        raise error


def _on_signal(number: int, _: Any) -> None:
    global asked
    if asked == number == signal.SIGINT:
        raise KeyboardInterrupt  # pressed again: now, whatever is lost
    asked = number
    if not _in_stage:
        end_if_asked()


@contextmanager
def heed_signals() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into `Preempted` while the block runs. Signals reach Python's main thread alone.

    A signal that the process was started to ignore, as Ctrl-C is for a job in the background, stays ignored.
    """
    global asked
    asked = 0
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    end_if_interrupted()
    heeded = [number for number in _NAMES if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _on_signal) for number in heeded}
    try:
        yield
        end_if_asked()
    finally:
        asked = 0  # what this process does next was not asked to end
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stage_running() -> Iterator[None]:
    """While the block runs, a signal waits for a checkpoint, or for the end of the block, which raises `Preempted`."""
    global _in_stage
    end_if_asked()
    _in_stage = True
    try:
        yield
    finally:
        _in_stage = False
    end_if_asked()
