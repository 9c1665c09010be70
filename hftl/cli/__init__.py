"""The command line: verbs → functions. Heavy libraries are imported inside the verb that needs them.

To add a verb, write a function under `@verb(...)` in one of the files here; its parameters are its flags.
"""

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from typer import Exit, TyperException
from typer.main import get_command


# The verbs register themselves; `hftl --help` lists them in this order.
# isort: off
from hftl.cli import train, use, push, ui, job, listing  # noqa: F401

# isort: on
from hftl.cli.command import Verbs, app
from hftl.errors import ConfigError, HftlError, Preempted, shortened
from hftl.surroundings import note_interrupts
from hftl.terminal import record


_HFTL = get_command(app)
assert isinstance(_HFTL, Verbs)
VERBS = _HFTL.commands  # by name


def execute(words: list[str]) -> None:
    """Run one command line. Raises `HftlError` for whatever the user can put right, and `typer.Exit` after help."""
    try:
        with _HFTL.make_context("hftl", list(words)) as context:
            _HFTL.invoke(context)
    except TyperException as error:
        raise ConfigError(f"{error.format_message().rstrip('.')}. See hftl --help.") from None


def run_recipe(task: str, defaults: Mapping[str, str], argv: list[str] | None) -> NoReturn:
    """Run `hftl train` for a recipe and exit: its `defaults`, then the flags of `argv` (None: of the shell)."""
    flags = [word for name, value in defaults.items() for word in (f"--{name}", value)]
    sys.exit(run_command(["train", task, *flags, *(sys.argv[1:] if argv is None else argv)]))


def run_command(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        if not argv:
            with _HFTL.make_context("hftl", [], resilient_parsing=True) as context:
                _say(_HFTL.get_help(context))
            return 2
        execute(["--help"] if argv[0] == "help" else argv)
    except HftlError as error:
        _say(f"error: {shortened(str(error))}")
        record(error=shortened(str(error)))
        return error.exit_code
    except Preempted as ended:  # how to go on has been said
        record(stopped=True)
        return ended.exit_code
    except Exit as done:
        return done.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _say(text: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(text, file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `hftl` and `python -m hftl`."""
    note_interrupts()
    if "_HFTL_COMPLETE" in os.environ:  # the shell asks what could come next
        app(prog_name="hftl")
    # Third-party notices go to stderr already; these two are noise on every run.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = run_command(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # `hftl ... | head`: nobody reads on, also not what Python would flush at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
