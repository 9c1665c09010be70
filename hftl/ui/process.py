"""A training as a process of its own, which outlives the page; all that is known of it is on the disk."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from hftl.atomic import disk_errors, partial_of, write_new
from hftl.errors import RunError
from hftl.run_folder import is_held
from hftl.runs import (
    NO_LAST_WORD,
    Point,
    curve,
    is_alive,
    last_error,
    process_folder,
    progress_of,
    read_run,
    started,
    was_stopped,
)
from hftl.seeds import seeds_folder
from hftl.terminal import PROGRESS


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
    held: bool = False  # by a process that no page started: it can be watched, not stopped
    steps: tuple[StepState, ...] = ()
    points: tuple[Point, ...] = ()  # the live curve
    seconds: float = 0.0  # of all its processes together
    left: float | None = None  # seconds of the training that goes on, where they can be told
    error: str = ""  # the one line of a run that failed
    resumable: bool = False  # `resume` goes on with it (from its beginning, where nothing was kept)
    log: Path | None = None


def start(words: Sequence[str], folder: Path) -> RunState:
    """Start `hftl train WORDS --output_dir FOLDER` in a session of its own, and return at once.

    Raises `RunError` when a run is there already, or another process holds the folder.
    """
    folder = folder.absolute()
    if folder.exists() or partial_of(folder).exists():
        raise RunError(f"{folder} holds a run already. Go on with it, or choose another name.")
    with _launching(folder):
        _launch(list(words), folder, [], str(Path.cwd()))
    return state(folder)


def stop(folder: Path) -> RunState:
    """Ask the run to end (SIGTERM): it writes a checkpoint first. Raises `RunError` when it is not ours to stop."""
    folder = folder.absolute()
    noted = started(folder)
    if noted is not None and is_alive(noted):
        _note(folder, stop=True)
        with suppress(ProcessLookupError):
            os.kill(int(noted["pid"]), signal.SIGTERM)
    elif is_held(folder):
        raise RunError(f"Another process is writing {folder}, which no page started: stop it where it was started.")
    return state(folder)


def resume(folder: Path) -> RunState:
    """Go on with a run that was stopped, killed or failed. Raises `RunError` when there is none, or it runs."""
    folder = folder.absolute()
    with _launching(folder):
        noted, config = started(folder), partial_of(folder) / "config.yaml"
        if folder.exists() and not partial_of(folder).exists():
            raise RunError(f"{folder} is finished: there is nothing to go on with.")
        if noted is not None:
            _launch([str(word) for word in noted["words"]], folder, ["--resume"], str(noted.get("cwd") or Path.cwd()))
        elif config.is_file():
            _launch([str(config)], folder, ["--resume"], str(Path.cwd()))
        else:
            raise RunError(f"There is no run {folder} to go on with.")
    return state(folder)


@contextmanager
def _launching(folder: Path) -> Iterator[None]:
    """Let one page at a time start a process for this run. Raises `RunError` while one runs."""
    home = process_folder(folder)
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / "starting.lock", timeout=0):
            if is_alive(started(folder)) or is_held(folder):
                raise RunError(f"Another process is writing {folder} at this moment. Wait for it, or stop it.")
            yield
    except Timeout:
        raise RunError(f"Another page is starting {folder} at this moment.") from None


def _launch(words: list[str], folder: Path, more: list[str], cwd: str) -> None:
    """Start the process and note who it is, before this page can be told of it."""
    home = process_folder(folder)
    line = [sys.executable, "-m", "hftl", "train", *words, "--output_dir", str(folder), *more]
    _note(folder, started=True)
    with disk_errors(home), (home / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            line,
            cwd=cwd,
            env={**os.environ, PROGRESS: str(home / "progress.jsonl")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # no signal to the page, and no closed terminal, reaches it
        )
        import psutil  # late: a page of runs needs none

        with suppress(psutil.NoSuchProcess):
            created = psutil.Process(process.pid).create_time()
            noted = {"words": words, "cwd": cwd, "pid": process.pid, "created": created}
            write_new(home / "start.json", json.dumps(noted))
    threading.Thread(target=process.wait, daemon=True).start()  # else it would stay a zombie until the page ends


def _note(folder: Path, **facts: Any) -> None:
    """Add to what the run's processes record."""
    path = process_folder(folder) / "progress.jsonl"
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps({'time': round(time.time(), 2), **facts})}\n")


def state(folder: Path) -> RunState:
    """Return how the run of this folder stands, from the disk alone."""
    folder = folder.absolute()
    noted, entries = started(folder), progress_of(folder)
    alive = is_alive(noted)
    held = not alive and is_held(folder)
    begun = max((i for i, entry in enumerate(entries) if "started" in entry), default=-1)
    current = entries[begun + 1 :]
    steps = _steps(current, running=alive)
    error = "" if alive or held else last_error(entries) or ""
    kept = partial_of(folder).is_dir() or seeds_folder(folder).is_dir()
    if alive:
        status: Status = "stopping" if was_stopped(entries) else "running" if current else "starting"
    elif held:
        status = "running"
    elif (folder / "report.json").is_file():
        status, error = "finished", ""
    elif noted is None and not kept:
        status = "none"
    elif error or (noted is not None and not was_stopped(entries)):
        status, error = "failed", error or NO_LAST_WORD
    else:
        status = "stopped"
    log = process_folder(folder) / "log.txt"
    return RunState(
        folder,
        status,
        held=held,
        steps=steps,
        points=tuple(curve(folder)),
        seconds=read_run(folder).seconds or 0.0,
        left=_left(current) if alive else None,
        error=error,
        resumable=status in ("stopped", "failed"),
        log=log if log.is_file() else None,
    )


def _steps(entries: Sequence[dict[str, Any]], *, running: bool) -> tuple[StepState, ...]:
    """Return the steps that the last process did, each once, and the one that it is at; those within a step are its detail."""
    done: dict[str, StepState] = {}
    outer: tuple[str, float] | None = None
    detail = ""
    for entry in entries:
        title = entry.get("step")
        if title in STEPS:
            outer, detail = (str(title), entry["time"]), ""
        elif title is not None:
            detail = str(title)
        elif "at" in entry:
            detail = str(entry["at"])
        elif entry.get("done") in STEPS:
            name = str(entry["done"])
            done[name] = StepState(name, float(entry.get("seconds", 0.0)), done=True)
            outer = None
    if outer is not None:
        end = time.time() if running else entries[-1]["time"]
        done[outer[0]] = StepState(outer[0], round(max(0.0, end - outer[1]), 1), done=False, detail=detail)
    return tuple(done.values())


def _left(entries: Sequence[dict[str, Any]]) -> float | None:
    """Return the seconds that were left by the last line that says so, less what has passed since."""
    told = [entry for entry in entries if "at" in entry or "step" in entry or "done" in entry][-1:]
    left = told[0].get("left") if told else None
    return None if left is None else max(0.0, float(left) - (time.time() - told[0]["time"]))


def running(folder: Path) -> list[RunState]:
    """Return the runs under `folder` that a page started and that are not finished, the newest first."""
    homes = [home for home in folder.rglob(".*.process") if home.is_dir()]
    names = [home.with_name(home.name[1 : -len(".process")]) for home in sorted(homes, key=_touched, reverse=True)]
    states = [state(name) for name in names if not (name / "report.json").is_file()]
    return [one for one in states if one.status != "none"]


def _touched(home: Path) -> float:
    try:
        return (home / "start.json").stat().st_mtime
    except OSError:
        return 0.0
