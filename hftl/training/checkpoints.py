"""How a stage is cut off and goes on: which checkpoints are complete, and what SIGTERM and Ctrl-C do.

Inside a stage a checkpoint comes first; outside the run ends at once.
"""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hftl.errors import Preempted
from hftl.surroundings import end_if_interrupted
from hftl.training.world import is_main_process, largest, on_the_cpu, wait_for_all


if TYPE_CHECKING:  # predicting heeds signals too, and needs no Trainer
    from transformers import Trainer

_MARK = "whole"
_NAMES = {int(signal.SIGTERM): "SIGTERM", int(signal.SIGINT): "Ctrl-C"}
_asked = 0  # the signal that came
_in_stage = False


class StageOver(Exception):  # noqa: N818  no fault: how Trainer's loop is left
    """The checkpoint is that of the stage's last step."""


class Paused(Exception):  # noqa: N818  as above
    """The stage has reached the step at which somebody wants to look at the model; its checkpoint is written."""


def train_on(trainer: "Trainer", folder: Path) -> None:
    """Train from the last whole checkpoint in `folder`, or from the beginning."""
    try:
        trainer.train(resume_from_checkpoint=last_whole(folder))
    except StageOver:
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
            trainer._load_best_model()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def last_whole(folder: Path) -> str | None:
    """Return the last marked checkpoint under `folder`; unmarked ones are removed. None when there is none."""
    wait_for_all()
    checkpoints = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in checkpoints if (path / _MARK).is_file()]
    wait_for_all()  # every process has looked before rank 0 removes anything
    if is_main_process():
        for path in set(checkpoints) - set(whole):
            shutil.rmtree(path)
    wait_for_all()
    return str(whole[-1]) if whole else None


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
    end_if_interrupted()
    heeded = [number for number in _NAMES if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _on_signal) for number in heeded}
    try:
        yield
        end_if_asked()
    finally:
        _asked = 0  # what this process does next was not asked to end
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


class Interruptible(TrainerCallback):
    """Lets a stage be cut off at any moment.

    A checkpoint gets its mark once all of it is on disk: Trainer loads one without an optimizer state, and says nothing.
    A signal, to whichever process, brings a checkpoint at the end of the step and ends the run there. An evaluation that
    the step or the end of its epoch brings comes first, else the resumed run would lack it; in the middle of an epoch
    there is none. A stage at its end is finished.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._group = on_the_cpu()  # where the processes agree, so that no step waits for a GPU

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep Trainer from a step beyond the end: resumed after --max_steps or an early stop, it would take one."""
        saved = state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if state.global_step >= state.max_steps or saved.get("should_training_stop"):
            raise StageOver

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        global _asked
        _asked = largest(_asked, self._group)  # on one step, or they would wait for each other for ever
        if _asked and not control.should_training_stop and not float(state.epoch).is_integer():
            control.should_save = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if _asked:
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait_for_all()  # the other processes write their random states into the same folder
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if is_main_process() and folder.is_dir():
            for path in folder.iterdir():
                _flush(path)
            (folder / _MARK).touch()
        if not control.should_training_stop and state.global_step < state.max_steps:
            end_if_asked()


class PauseAt(TrainerCallback):
    """Leaves Trainer's loop with `Paused` after a step, or once `late` says so, with a checkpoint to go on from.

    It comes after `Interruptible`, which marks the checkpoint as whole.
    """

    def __init__(self, step: int, late: Callable[[], bool]):
        self.step, self._late = step, late

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make the group in which the processes agree on the step, whose clocks differ."""
        self._group = on_the_cpu()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave at once where the checkpoint is that of the step, or of a later one."""
        if self.step <= state.global_step < state.max_steps:
            raise Paused

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ask for the checkpoint."""
        if largest(state.global_step >= self.step or self._late(), self._group):
            self.step = state.global_step
            control.should_save = True  # at the stage's end as well: harmless there
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave, unless the stage is at its end anyway."""
        self.on_epoch_begin(args, state, control)
