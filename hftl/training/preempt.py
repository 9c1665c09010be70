"""SIGTERM, as preemption sends it: inside a stage a checkpoint is written first; outside the run ends at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from hftl.errors import Preempted


_asked = False
_in_stage = False


def _end_if_asked() -> None:
    if _asked:
        raise Preempted("SIGTERM came. --resume goes on with the run.")


def _on_signal(*_: Any) -> None:
    global _asked
    _asked = True
    if not _in_stage:
        _end_if_asked()


@contextmanager
def heed_sigterm() -> Iterator[None]:
    """Turn SIGTERM into `Preempted` while the block runs. Signals reach Python's main thread alone."""
    global _asked
    _asked = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stage_running() -> Iterator[None]:
    """While the block runs, SIGTERM waits for a checkpoint, or for the end of the block, which raises `Preempted`."""
    global _in_stage
    _in_stage = True
    try:
        yield
    finally:
        _in_stage = False
    _end_if_asked()


class SaveWhenAsked(TrainerCallback):
    """Writes a checkpoint at the end of the step in which SIGTERM came to any process, and ends the run there.

    An evaluation that the step or the end of its epoch brings comes first, else the resumed run would lack it; in the
    middle of an epoch there is none. A stage at its end is finished.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Agree on the step, and ask Trainer for the checkpoint."""
        global _asked
        if args.world_size > 1:  # the ranks must agree on the step, or they would wait for each other for ever
            flag = torch.tensor(float(_asked), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            _asked = bool(flag.item())
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
            _end_if_asked()
