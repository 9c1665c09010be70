"""Made runs, one of each kind for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.looks.made import made_run
from tests.report_page.conftest import chromium  # noqa: F401  the same browser


@pytest.fixture(scope="package")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`run_of(kind, inputs)` returns the run, made once."""
    made: dict[tuple[str, str], Path] = {}

    def get(kind: str, inputs: str = "text") -> Path:
        if (kind, inputs) not in made:
            made[kind, inputs] = made_run(tmp_path_factory.mktemp("made") / f"{kind}-{inputs}", kind, inputs)
        return made[kind, inputs]

    return get
