"""What the page leaves to other verbs of hftl, each in a process of its own: train, demo, export, push."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

from hftl.demo import AUTH_VARIABLE
from hftl.errors import ConfigError, RunError
from hftl.ui import process
from hftl.ui.files import Workspace


_COMMAND = (sys.executable, "-m", "hftl")
_TIMEOUT = 3_600  # seconds; a large model takes minutes to export or to send
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def _result(words: list[str]) -> dict[str, object]:
    """Return what `hftl WORDS --json` prints. Raises `RunError` with its own line."""
    done = subprocess.run(
        [*_COMMAND, *words, "--json"], capture_output=True, text=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RunError(_line_of(done.stderr, words[0]))
    return dict(json.loads(done.stdout))


def _line_of(said: str, verb: str) -> str:
    """Return the error line of a verb."""
    lines = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
    return lines[-1] if lines else f"hftl {verb} ended without a result. See what it says in a terminal."


def begun(workspace: Workspace, words: tuple[str, ...], method: str, model: str = "") -> list[Any]:
    """Start a training; return its folder, and the name that the page's address keeps."""
    said = dict(pairwise(words))
    folder = workspace.new_run(said.get("--data", ""), said.get("--model", model), method)
    process.start(words, folder)
    return [folder, folder.name]


def exported(run: Path, cache: Path) -> Path:
    """Export a run as ONNX beside it, where that was not done yet, and return a zip of it in `cache`."""
    folder = run / "onnx"
    if not folder.is_dir():
        _result(["export", str(run), "--output_dir", str(folder)])
    place = cache / "exports" / run.name
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.make_archive(str(place), "zip", folder))


def pushed(run: Path, repository: str, licence: str) -> str:
    """Push a run to a private repository and return its address. The token comes from the environment alone."""
    name, terms = repository.strip(), licence.strip()
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError("Give the repository a name, such as my-name/tickets.")
    if terms and not re.fullmatch(r"[\w.-]+", terms):
        raise ConfigError("A licence is an identifier of the Hub, such as apache-2.0.")
    return str(_result(["push", str(run), name, *(["--license", terms] if terms else [])])["url"])


class Demos:
    """The demos that a page has started, one a run; they end with the page, and ask for its password."""

    def __init__(self, auth: tuple[str, str] | None) -> None:
        self.environment = os.environ | ({AUTH_VARIABLE: ":".join(auth)} if auth else {})
        if (
            "GRADIO_TEMP_DIR" in os.environ
        ):  # the page's: a demo has its uploads beside it, not inside of what it serves
            self.environment["GRADIO_TEMP_DIR"] = str(Path(os.environ["GRADIO_TEMP_DIR"]).parent)
        self._running: dict[Path, tuple[subprocess.Popen[str], str]] = {}
        self._lock = threading.Lock()
        atexit.register(self._end)

    def url(self, run: Path) -> str:
        """Return the address of a run's demo, which is started where it is not up. Raises `RunError`."""
        with self._lock:
            started, url = self._running.get(run, (None, ""))
            if started is None or started.poll() is not None:
                started = subprocess.Popen(
                    [*_COMMAND, "demo", str(run), "--port", "0", "--json"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    stdin=subprocess.DEVNULL,
                    text=True,
                    env=self.environment,
                )
                assert started.stdout is not None
                line = started.stdout.readline()
                if not line:
                    raise RunError(f"The demo did not start. See what hftl demo {run.name} says in a terminal.")
                url = str(json.loads(line)["url"])
                self._running[run] = (started, url)
            return url

    def _end(self) -> None:
        for started, _ in self._running.values():
            started.terminate()
