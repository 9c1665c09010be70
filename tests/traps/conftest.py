"""The folder that the tests of traps share."""

from typing import Any

import pytest


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("traps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path
