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


def _on_signal(*_: Any) -> None:
    global _asked
    _asked = True
    if not _in_stage:
        raise Preempted()


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
    """While the block runs, SIGTERM waits for the end of the step; `Preempted` is raised when the block ends."""
    global _in_stage
    _in_stage = True
    try:
        yield
    finally:
        _in_stage = False
    if _asked:
        raise Preempted()


class SaveWhenAsked(TrainerCallback):
    """Writes a checkpoint and stops at the end of the step in which SIGTERM came to any process."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ask Trainer for the checkpoint and the end."""
        global _asked
        if args.world_size > 1:  # the ranks must agree on the step, or they would wait for each other for ever
            flag = torch.tensor(float(_asked), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            _asked = bool(flag.item())
        if _asked:
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True
        return control
