"""The errors that hftl raises for bad input: one clear line that names the cause and the fix.

The CLI prints the line and exits with `exit_code`; Python callers catch the type.
"""

import difflib
import os
import re
from collections.abc import Iterable


class HftlError(Exception):
    """Base of every error that the user can fix."""

    exit_code = 2


class ConfigError(HftlError):
    """A flag, value, task, method or config file is wrong."""


class DataError(HftlError):
    """The data cannot be used as given."""


class ModelError(HftlError):
    """The checkpoint cannot be found or cannot do the task."""


class RunError(HftlError):
    """A run folder is in the way, is not a run, or cannot be written."""


class TrainingError(HftlError):
    """Training itself failed: a loss that is not a number, or processes that are not what was asked for."""


class Preempted(BaseException):
    """SIGTERM or Ctrl-C came: what is finished is kept, and `--resume` goes on with it.

    Like `KeyboardInterrupt` it is no `Exception`: it may come anywhere, and what turns any failure of a file or of a
    library into a line must not take it for one.
    """

    exit_code = 143  # 128 + SIGTERM, as shells report it; 130 for Ctrl-C


_LONG_WORD, _LONG_LINE = 300, 1200  # characters


def shortened(text: str) -> str:
    """Return an error's text for a terminal: labels and texts of the data may be of any length."""
    text = re.sub(rf"\S{{{_LONG_WORD},}}", lambda word: f"{word[0][:60]}...", text)
    return text if len(text) <= _LONG_LINE else f"{text[:_LONG_LINE]} ..."


def reraise_in_tests(error: Exception) -> None:
    """Raise what a user is better off without, where HFTL_RAISE_BUGS is set: a bug behind a fallback must fail tests."""
    if os.environ.get("HFTL_RAISE_BUGS"):
        raise error


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the option closest to `name`, or "" when none is close."""
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def install_extra(extra: str) -> str:
    """Return the command that brings an extra of hftl by its packages: it works with no release of hftl on PyPI."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = [line.partition(";") for line in requires("hftl") or []]
    except PackageNotFoundError:  # run from a folder of sources
        lines = []
    names = [name.strip() for name, _, marker in lines if f'extra == "{extra}"' in marker]
    quoted = [f'"{name}"' if set(name) & set("<>") else name for name in names]
    return " ".join(["pip install", *(quoted or [f'-e ".[{extra}]"'])])
