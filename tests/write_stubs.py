"""What type checkers and editors read beside the code, written from it: `python -m tests.write_stubs`.

hftl/flags.pyi has the types of all flags, hftl/__init__.pyi the names that hftl/__init__.py imports when first used.
"""

import dataclasses
import re
import textwrap
from pathlib import Path

import hftl
from hftl.config import COLUMN_FLAGS, OWN_FLAGS, OWNED, trainer_fields
from hftl.selection.shortlist import Wanted


PACKAGE = Path(__file__).resolve().parents[1] / "hftl"
ELSEWHERE = ("data", "model", "method", "output_dir")  # parameters of their own in some functions
UNTYPED = (*ELSEWHERE, "race")  # the last is what config.yaml of a run holds, and a switch of `pick`
HEAD = """# The flags as types. Written by `python -m tests.write_stubs`: change hftl/config.py instead.

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


Flags = TypedDict("Flags", {{
{flags}
}}, total=False)  # of every function that trains


class ColumnFlags(TypedDict, total=False):
{columns}


class RunFlags(Flags, total=False):
    data: Any
{run}


class PlanFlags(RunFlags, total=False):
    method: str | None


class PickFlags(Flags, total=False):
    data: Any
{pick}
"""


def own_type(name: str) -> str:
    flag = OWN_FLAGS[name]
    kind, choices = flag.metadata["kind"], flag.metadata["choices"]
    named = {tuple: "Sequence[str]", Path: "str | Path"}.get(kind, kind.__name__)
    named = "str | float" if name == "thresholds" else named
    if choices:
        named = f"Literal[{', '.join(map(repr, choices))}]".replace("'", '"')
    named = f"{named} | bool" if name == "evidence" else named
    return f"{named} | None" if flag.default is None else named


def trainer_type(annotation: str) -> str:
    """The annotation with transformers' enumerations as the texts that they are."""
    plain = re.sub(r"[A-Z]\w+(Type|Names|Strategy) \| str", "str", annotation).replace("DebugOption", "str")
    plain = re.sub(r"\bdict\b(?!\[)", "dict[str, Any]", plain)
    return "Any" if "Parallelism" in plain else plain


def fields_of(types: dict[str, str]) -> str:
    return "\n".join(f"    {name}: {kind}" for name, kind in types.items())


def flags() -> str:
    types = {name: own_type(name) for name in OWN_FLAGS if name not in UNTYPED}
    types |= {
        name: trainer_type(annotation)
        for name, annotation in trainer_fields().items()
        if name not in OWN_FLAGS and name not in OWNED and not name.startswith("hub_")
    }
    entries = " ".join(f'"{name}": {kind},'.replace(" ", "\0") for name, kind in types.items())
    lines = textwrap.wrap(entries, 115, break_on_hyphens=False, break_long_words=False)
    run, pick = ({k: own_type(k) for k in ELSEWHERE if k not in ("data", other)} for other in ("method", "model"))
    pick |= {field.name: str(field.type) for field in dataclasses.fields(Wanted) if field.name != "models"}
    every = "\n".join(f"    {line}".replace("\0", " ") for line in lines)
    columns = fields_of({name: types[name] for name in COLUMN_FLAGS})
    return HEAD.format(columns=columns, flags=every, run=fields_of(run), pick=fields_of(pick))


def names() -> str:
    """The lazy names as imports."""
    lines = [f"from {module} import {name} as {name}" for name, module in hftl._PUBLIC.items()]
    head = "# Written by `python -m tests.write_stubs`: change hftl/__init__.py instead."
    return "\n".join([head, "", *sorted(lines), "", "__version__: str", ""])


STUBS = {"flags.pyi": flags, "__init__.pyi": names}

if __name__ == "__main__":
    for name, text in STUBS.items():
        (PACKAGE / name).write_text(text(), encoding="utf-8")
