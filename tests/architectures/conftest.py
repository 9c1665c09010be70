"""Checkpoints made once a session, and a cache of this package's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architectures.text_models import build_text


@pytest.fixture(autouse=True, scope="package")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(tmp_path_factory.mktemp("architectures-cache")))
        yield


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a text family to its checkpoint."""
    place = tmp_path_factory.mktemp("text-models")

    def made(family: str) -> Path:
        folder = place / family
        return folder if folder.is_dir() else build_text(family, folder)

    return made
