"""SIGTERM, as preemption sends it, and Ctrl-C: inside a stage a checkpoint comes first; outside the run ends at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

from hftl.errors import Preempted
from hftl.training.world import largest, on_the_cpu


_NAMES = {int(signal.SIGTERM): "SIGTERM", int(signal.SIGINT): "Ctrl-C"}
_asked = 0  # the signal that came
_in_stage = False


def end_if_asked() -> None:
    """Raise `Preempted` when a signal has come.

    Called at the boundaries of all long work: Python loses an exception that a handler raises inside a `__del__`.
    """
    if _asked:
        error = Preempted(f"{_NAMES[_asked]} came. --resume goes on with the run.")
        error.exit_code = 128 + _asked  # as shells report it
        raise error


def _on_signal(number: int, _: Any) -> None:
    global _asked
    if _asked == number == signal.SIGINT:
        raise KeyboardInterrupt  # pressed again: now, whatever is lost
    _asked = number
    if not _in_stage:
        end_if_asked()


@contextmanager
def heed_signals() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into `Preempted` while the block runs. Signals reach Python's main thread alone.

    A signal that the process was started to ignore, as Ctrl-C is for a job in the background, stays ignored.
    """
    global _asked
    _asked = 0
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NAMES}
    heeded = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, _on_signal)
    try:
        yield
        end_if_asked()
    finally:
        _asked = 0  # what this process does next was not asked to end
        for number in heeded:
            signal.signal(number, before[number])


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


class SaveWhenAsked(TrainerCallback):
    """Writes a checkpoint at the end of the step in which a signal came to any process, and ends the run there.

    An evaluation that the step or the end of its epoch brings comes first, else the resumed run would lack it; in the
    middle of an epoch there is none. A stage at its end is finished.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make the group in which the processes agree: on the CPU, so that no step waits for a GPU."""
        self._group = on_the_cpu()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Agree on the step, and ask Trainer for the checkpoint."""
        global _asked
        _asked = largest(_asked, self._group)  # on one step, or they would wait for each other for ever
        if _asked and not control.should_training_stop and not float(state.epoch).is_integer():
            control.should_save = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ask for the checkpoint that was not written at the last step."""
        if _asked:
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the run, unless the stage is over anyway."""
        if not control.should_training_stop and state.global_step < state.max_steps:
            end_if_asked()
