"""Which of Trainer's checkpoints are whole: a run killed while it wrote one must not go on from it."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hftl.training.world import is_main_process, wait_for_all


_MARK = "whole"


class MarkWhole(TrainerCallback):
    """Marks a checkpoint once all of it is on disk. Trainer loads one without an optimizer state, and says nothing."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the mark after everything else."""
        wait_for_all()  # the other processes write their random states into the same folder
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if is_main_process() and folder.is_dir():
            for path in folder.iterdir():
                _flush(path)
            (folder / _MARK).touch()


class StageOver(Exception):  # noqa: N818  no fault: how Trainer's loop is left
    """The checkpoint is that of the stage's last step."""


class NoStepMore(TrainerCallback):
    """Keeps Trainer from a step beyond the end: resumed after --max_steps or an early stop, it would take one."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise `StageOver` when the checkpoint was written at the end."""
        saved = state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if state.global_step >= state.max_steps or saved.get("should_training_stop"):
            raise StageOver


def train_on(trainer: Trainer, folder: Path) -> None:
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
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step)
    whole = [path for path in found if (path / _MARK).is_file()]
    wait_for_all()  # every process has looked before rank 0 removes anything
    if is_main_process():
        for path in set(found) - set(whole):
            shutil.rmtree(path)
    wait_for_all()
    return str(whole[-1]) if whole else None


def _step(path: Path) -> int:
    number = re.search(r"\d+$", path.name)
    return int(number.group()) if number else -1
