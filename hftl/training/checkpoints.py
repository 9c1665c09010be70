"""Which of Trainer's checkpoints are whole: a run killed while it wrote one must not go on from it."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
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
