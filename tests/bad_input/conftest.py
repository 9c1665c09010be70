"""Where each case runs, and the tiny models and data that the cases share."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.command import text_csv
from tests.tiny import build, tiny_images


@pytest.fixture(autouse=True)
def workplace(tmp_path_factory, tmp_path, monkeypatch):
    """Each case runs in a folder of its own, offline."""
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path_factory.getbasetemp() / "hftl-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="package")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad-input")
    build("bert", folder / "bert")
    build("resnet", folder / "resnet")
    text_csv(folder / "t.csv")
    tiny_images(folder / "images", per_class=10)
    return folder
