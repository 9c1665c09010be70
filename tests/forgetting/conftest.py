"""A cache of the package's own, and no Hub."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants


@pytest.fixture(scope="package", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("forgetting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield path
