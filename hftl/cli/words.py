"""The words of a command line, told apart: positional ones and flags."""

from typing import Any

from hftl.config import OWN_FLAGS
from hftl.errors import ConfigError, did_you_mean
from hftl.flag_values import KIND_WORDS, convert
from hftl.names import TASK_NAMES


Flags = dict[str, Any]

# Flags that stand alone, so that a word after them is not their value.
SWITCHES = {"json", "help", "public", "create_pr", "dry_run", "adapter_only", "yes", "int8", "share"} | {
    n for n, f in OWN_FLAGS.items() if f.metadata["kind"] is bool
}


def read_words(words: list[str], *, one_target: bool = False) -> tuple[list[str], Flags]:
    """Split the words after the verb into positional ones and flags.

    `--a b`, `--a=b`, `--a` and `--a b c` all work; every word after a bare `--` is positional. With `one_target` the
    verb takes one TASK or config.yaml: a second word right after an on|off flag was meant as its value. Raises
    `ConfigError` for that, and for a flag with one dash.
    """
    end = words.index("--") if "--" in words else len(words)
    positional: list[str] = []
    flags: Flags = {}
    current: str | None = None
    misplaced: list[str] = []
    for word in words[:end]:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            current = name.replace("-", "_")
            flags[current] = [value] if equals else []
            current = None if equals else current
        elif word.startswith("-") and len(word) > 1 and not word[1:2].isdigit() and word[1] != "." and current is None:
            raise ConfigError(f"There is no flag {word}: flags begin with two dashes, such as --data.")
        elif (current is not None and current not in SWITCHES) or (
            current in SWITCHES and word.lower() in ("true", "false", "on", "off")
        ):
            flags[current].append(word)
        else:
            if current in OWN_FLAGS and not _is_target(word):
                misplaced.append(f"--{current} is on or off, not {word!r}.")
            positional.append(word)
            current = None
    positional += words[end + 1 :]
    if one_target and len(positional) > 1 and misplaced:
        raise ConfigError(misplaced[0])
    return positional, {k: True if not v else v[0] if len(v) == 1 else v for k, v in flags.items()}


def _is_target(word: str) -> bool:
    return word in TASK_NAMES or word.endswith((".yaml", ".yml"))


def check_flags(flags: Flags, known: set[str], verb: str) -> None:
    """Raise `ConfigError` for a flag that the verb lacks, or one whose value is not one value."""
    for name, value in flags.items():
        if name not in known:
            raise ConfigError(f"hftl {verb} has no flag --{name}.{did_you_mean(name, known)}")
        if name not in SWITCHES and not (isinstance(value, str) and value):
            raise ConfigError(f"--{name} needs one value, but got {'nothing' if value is True else repr(value)}.")


def is_on(flags: Flags, name: str) -> bool:
    """Return whether a switch is on; one that was not given is off. Raises `ConfigError` for no such value."""
    value = flags.get(name, False)
    try:
        return bool(convert(bool, value))
    except (TypeError, ValueError):
        raise ConfigError(f"--{name} stands alone, or needs {KIND_WORDS[bool]}, not {value!r}.") from None
