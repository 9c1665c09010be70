"""Runs wrong inputs in forked processes, a few at a time, and judges how each was answered."""

import collections
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


PROCESSOR_SECONDS = 60  # a case that has used so much hangs
WALL_SECONDS = 240  # on a busy machine, and for a case that waits for something that never comes


@dataclass(frozen=True)
class Case:
    """One command line (or Python call) in a folder of its own."""

    kind: str  # the damage, or the flag
    verb: str
    words: tuple[str, ...]
    prepare: Callable[[Path, random.Random], dict[str, str]] | None = None  # → what `{data}` and the like stand for
    call: Callable[[], Any] | None = None


CommandOf = Callable[[Case, Path, dict[str, str], random.Random], list[str]]  # the words, with the names filled in


def give_up_root() -> None:
    """Lose root's right to read every file, as far as this process has it: a file without permissions is unreadable."""
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, data) != 0:
        return
    for i in (0, 1):  # effective, permitted: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        data[i] &= ~0b110
    libc.capset(header, data)


def child(case: Case, good: Path, seed: int, where: Path, command_of: CommandOf) -> None:
    """Run the case in this (forked) process, and leave it with the exit code that the command gave."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS + 5))
    os.chdir(where)
    code = 1
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(where / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115  as Python opens it
    try:
        rng = random.Random(seed)
        work = where / "work"
        work.mkdir()
        os.chdir(work)
        names = case.prepare(good, rng) if case.prepare else {}
        words = command_of(case, good, names, rng) if case.words else []
        (where / "command").write_text(json.dumps(words))
        give_up_root()
        code = _python(case) if case.call else _cli(words)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _cli(words: list[str]) -> int:
    from hftl.cli import run_command

    return run_command(words)


def _python(case: Case) -> int:
    from hftl.errors import HftlError

    assert case.call is not None
    try:
        case.call()
    except HftlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def judge(status: int, verb: str, where: Path, wall: float) -> tuple[str, str]:
    """Return how the case was answered, and the line that shows it."""
    err = (where / "stderr").read_text(errors="replace") if (where / "stderr").exists() else ""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    last = (err.strip().splitlines() or [""])[-1][:200]
    if os.WIFSIGNALED(status):
        hung = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        return ("hung" if hung else "traceback"), f"signal {os.WTERMSIG(status)} after {wall:.0f} s; {last}"
    code = os.WEXITSTATUS(status)
    left = (
        [p.name for p in (where / "work").glob("out*") if p.name.endswith((".partial", ".seeds"))]
        if (where / "work").exists()
        else []
    )
    if (where / "work" / "ran").exists():
        return "traceback", "code of the file was executed"
    if code == 0 and "Traceback" not in err:
        return "worked", last
    failed_checks = code == 1 and verb in ("doctor", "fix") and "failed: " in "".join(lines)  # what the doctor is for
    if (code == 2 or failed_checks) and len(lines) == 1 and "Traceback" not in err:
        rest = err[err.index("error: ") :].strip()
        if len(rest) > 1500 or len(rest.splitlines()) > 8:
            return "untidy", f"{len(rest)} characters in {len(rest.splitlines())} lines: {lines[0][:150]}"
        return ("untidy", f"left {left}; {lines[0][:150]}") if left else ("answered", lines[0][:200])
    return "traceback", f"exit {code}; {last}"


def run_all(
    cases: list[tuple[int, Case]], good: Path, workers: int, out: Path, command_of: CommandOf
) -> collections.Counter:
    """Run the cases, `workers` at a time; append a line of JSON for each to `out`."""
    counts: collections.Counter = collections.Counter()
    running: dict[int, tuple[int, Case, Path, float]] = {}
    waiting = list(reversed(cases))
    with out.open("w") as file:
        while waiting or running:
            while waiting and len(running) < workers:
                number, case = waiting.pop()
                where = Path(tempfile.mkdtemp(prefix="wrong-"))
                pid = os.fork()
                if pid == 0:
                    child(case, good, number, where, command_of)
                running[pid] = (number, case, where, time.monotonic())
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                _kill_late(running)
                time.sleep(0.02)
                continue
            if pid not in running:
                continue
            number, case, where, start = running.pop(pid)
            answer, line = judge(status, case.verb, where, time.monotonic() - start)
            words = json.loads((where / "command").read_text()) if (where / "command").exists() else []
            entry = {
                "number": number,
                "kind": case.kind,
                "verb": case.verb,
                "answer": answer,
                "line": line,
                "words": [w[:200] for w in words],
            }
            entry["seconds"] = round(time.monotonic() - start, 1)
            file.write(json.dumps(entry) + "\n")
            file.flush()
            counts[answer] += 1
            if answer not in ("answered", "worked"):
                print(f"{answer:10} #{number} {case.kind} {case.verb}: {line}", flush=True)
            shutil.rmtree(where, ignore_errors=True)
    return counts


def _kill_late(running: dict[int, tuple[int, Case, Path, float]]) -> None:
    for pid, (_, _, _, start) in running.items():
        if time.monotonic() - start > WALL_SECONDS:
            os.killpg(pid, signal.SIGKILL)
