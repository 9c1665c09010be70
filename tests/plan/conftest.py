"""The folder that these tests share."""

import pytest

from tests.command import text_csv
from tests.tiny import tiny_images


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """Checkpoints, data and a cache of this package's own."""
    path = tmp_path_factory.mktemp("plan")
    text_csv(path / "t.csv", n=90)
    tiny_images(path / "images", per_class=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path
