"""Runs `hftl` as a person would: in this process where that is enough, else in one of its own."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hftl.cli import run_command
from tests.tiny import tiny_text_rows


ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def hftl(capsys, *words: object) -> Outcome:
    """Run one command line in this process."""
    capsys.readouterr()
    code = run_command([str(word) for word in words])
    out, err = capsys.readouterr()
    return Outcome(code, out, err)


def environment(**more: str) -> dict[str, str]:
    """The variables of a process without a Hub, one thread, and the checkout importable from anywhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "ACCELERATE_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **more}


def shell(words: Sequence[object], cwd: Path, env: dict[str, str] | None = None) -> Outcome:
    """Run `python WORDS` and wait for it."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ("text", "label")) -> Path:
    """Write a CSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def text_csv(path: Path, n: int = 60, classes: int = 3) -> Path:
    """Write tiny texts that can be learnt, with the labels mood0, mood1, ..."""
    return write_csv(path, [(text, f"mood{label}") for text, label in tiny_text_rows(n, classes)])
