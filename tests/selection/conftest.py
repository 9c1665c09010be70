"""Tiny data and a tiny model, in a folder with a cache of its own."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hftl.cli import run_command
from tests.runs import SMALL, checkpoint, split_folder


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("selection")
    split_folder(path / "data", 48, 24)
    checkpoint("bert", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def words_of(values: dict[str, Any]) -> list[str]:
    """The flags of a command line."""
    return [str(word) for name, value in values.items() for word in (f"--{name}", value)]


def answer_of(verb: str, values: dict[str, Any]) -> Any:
    """The JSON that a verb prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run_command([verb, *words_of(values), "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="package")
def flags(folder: Path) -> dict[str, Any]:
    """Those of every run here."""
    common = {"data": str(folder / "data"), "model": str(folder / "base-bert")}
    return {**common, **SMALL, "max_steps": 6, "learning_rate": 5e-3}


@pytest.fixture(scope="package")
def compared(folder: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """Two methods with all of the evidence."""
    values = {**flags, "evidence": "on", "output_dir": folder / "compared", "methods": "probe,full"}
    return answer_of("compare", values)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained any more."""

    def refuse(*_: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(sys.modules["hftl.adapt"], "fit_plan", refuse)
