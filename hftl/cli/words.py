"""The words of a command line, told apart: positional ones and flags."""

from collections.abc import Collection
from typing import Any

from hftl.errors import ConfigError
from hftl.flag_values import KIND_WORDS, convert
from hftl.names import TASK_NAMES


Flags = dict[str, Any]
_ON_OFF = ("true", "false", "on", "off")
_ALSO = ("yes", "no", "1", "0")  # as transformers reads its own switches


def read_words(words: list[str], switches: Collection[str], *, one_target: bool = False) -> tuple[list[str], Flags]:
    """Split the words after the verb into positional ones and flags.

    `--a b`, `--a=b`, `--a` and `--a b c` all work, with `-` and `_` alike; every word after a bare `--` is positional.
    One of `switches` stands alone, or before on or off. With `one_target` the verb takes one TASK or config.yaml: a
    second word right after a switch was meant as its value. Raises `ConfigError` for that, and for a flag with one dash.
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
        elif current is not None and (current not in switches or _is_value(word, one_target)):
            flags[current].append(word)
        else:
            if current is not None and not _is_target(word):
                misplaced.append(f"--{current} is on or off, not {word!r}.")
            positional.append(word)
            current = None
    positional += words[end + 1 :]
    if one_target and len(positional) > 1 and misplaced:
        raise ConfigError(misplaced[0])
    return positional, {k: True if not v else v[0] if len(v) == 1 else v for k, v in flags.items()}


def _is_value(word: str, one_target: bool) -> bool:
    """Is it the value of the switch before it? A verb that takes texts may be given the text "no"."""
    return word.lower() in _ON_OFF or (one_target and word.lower() in _ALSO)


def _is_target(word: str) -> bool:
    return word in TASK_NAMES or word.endswith((".yaml", ".yml"))


def is_on(flags: Flags, name: str) -> bool:
    """Return whether a switch is on; one that was not given is off. Raises `ConfigError` for no such value."""
    value = flags.get(name, False)
    try:
        return bool(convert(bool, value))
    except (TypeError, ValueError):
        raise ConfigError(f"--{name} stands alone, or needs {KIND_WORDS[bool]}, not {value!r}.") from None


def one_value(flags: Flags, name: str, *, may_be_empty: bool) -> str:
    """Return the value of a flag that takes one. Raises `ConfigError` for none and for several."""
    value = flags[name]
    if isinstance(value, str) and (value or may_be_empty):
        return value
    raise ConfigError(f"--{name} needs one value, but got {'nothing' if value is True else repr(value)}.")
