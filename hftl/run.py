"""One run as its steps see it: config, folder, clock; and what fails on one process fails on all."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hftl import terminal
from hftl.config import RunConfig, to_yaml
from hftl.errors import HftlError, Preempted, RunError
from hftl.run_folder import check_output, discard_partial, holds_training, is_resumable, open_partial, partial_of
from hftl.training.hooks import NO_HOOKS, Hooks
from hftl.training.memory import forget_peak, peak_bytes
from hftl.training.precision import runs_on_cpu
from hftl.training.world import broadcast_from_main, check_world, from_every_process, is_main_process, wait_for_all


MEBIBYTE = 2**20
PARTIAL_BATCHES = (
    "{processes} processes: each epoch drops the rows that do not fill the last global batch. Length groups are formed "
    "for the process's own batch size; --train_sampling_strategy random gives one process's batches."
)
STEPS = {"base": "base model", "train": "training", "score": "test"}  # what people call them, where that differs


@dataclass(frozen=True, eq=False)
class Run:
    """What every step of a run may use, and none changes but `seconds` and `notes`."""

    config: RunConfig
    folder: Path  # where the run will lie
    processes: int
    use_cpu: bool
    start: float
    seconds: dict[str, float] = field(default_factory=dict)  # that each step took
    peaks: dict[str, int | None] = field(default_factory=dict)  # the most bytes held in each, where the system says
    notes: list[str] = field(default_factory=list)  # for the report
    hooks: Hooks = NO_HOOKS

    @property
    def work(self) -> Path:
        """The folder in which the run works until it is finished."""
        return partial_of(self.folder)

    def step(self, name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        """Do one step on all processes, timed. An error of one process is raised on all of them."""
        clock, watched = time.perf_counter(), forget_peak(self.use_cpu)
        with terminal.step(STEPS.get(name, name)):
            value, problem = _attempt(do, self, *arguments)
            _raise_first(from_every_process(_sendable(problem)), problem)
        self.seconds[name] = time.perf_counter() - clock
        self.peaks[name] = peak_bytes(self.use_cpu) if watched else None
        return value

    def on_main(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Do something on the main process; every process gets what it returns, or its error."""
        value, problem = _attempt(do, *arguments) if is_main_process() else (None, None)
        value, sent = broadcast_from_main((value, _sendable(problem)))
        _raise_first([sent], problem)
        return value

    def open_folder(self, identity: dict[str, Any]) -> None:
        """Make the folder that the run works in, or go on in the one that a run of the same `identity` left.

        Raises `RunError` when it belongs to another run or cannot be made.
        """
        self.on_main(lambda: open_partial(self.folder, to_yaml(self.config), identity, resume=self.config.resume))

    @contextmanager
    def nothing_useless(self) -> Iterator[None]:
        """Remove the folder of a run whose training fails here, unless `--resume` could get further with it."""
        try:
            yield
        except BaseException as error:
            again = isinstance(error, HftlError)  # the same flags would fail again
            lost = again or not (isinstance(error, Preempted) or holds_training(self.folder))
            if lost and not self.config.resume and is_main_process():  # the other processes share the folder
                discard_partial(self.folder)
            raise


def _attempt(do: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return do(*arguments), None
    except Exception as error:
        return None, error


def _sendable(problem: Exception | None) -> Exception | None:
    """Errors of libraries may hold what cannot be sent to another process."""
    if problem is None or isinstance(problem, HftlError):
        return problem
    return RunError(f"Another process of the run failed: {type(problem).__name__}: {problem}")


def _raise_first(problems: list[Exception | None], own: Exception | None) -> None:
    for problem in (own, *problems):
        if problem is not None:
            raise problem


@contextmanager
def open_run(config: RunConfig, hooks: Hooks) -> Iterator[Run]:
    """Check that the run can be written and yield it. Raises `RunError` for what a full disk cuts off."""
    assert config.output_dir is not None
    check_output(config.output_dir, overwrite=config.overwrite, resume=config.resume)
    use_cpu = runs_on_cpu(config.training)
    run = Run(config, config.output_dir, check_world(use_cpu), use_cpu, time.perf_counter(), hooks=hooks)
    try:
        yield run
        wait_for_all()
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_resumable(run.folder) or not _no_room(error, run.work):
            raise
        raise RunError(f"The disk of {run.work} is full ({error}). Make room, and add --resume to go on.") from error


def _no_room(error: Exception, work: Path) -> bool:
    """Is this what a full disk raises? torch.save reports it by a failed assertion, safetensors in words."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in numbers or any(f"(os error {n})" in str(error) for n in numbers):
        return True
    return isinstance(error, RuntimeError) and shutil.disk_usage(work.parent).free < MEBIBYTE
