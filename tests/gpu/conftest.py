"""The machine that these tests run on."""

import os

import pytest
import torch


REASON = "no CUDA GPU here: nothing about GPUs is proven (HFTL_TEST_GPU=cpu tries the wiring on the CPU)"


@pytest.fixture(scope="session", autouse=True)
def gpu() -> bool:
    """True on a GPU. False on a CPU, where figures of time and memory are taken but not judged."""
    if torch.cuda.is_available():
        return True
    if os.environ.get("HFTL_TEST_GPU") != "cpu":
        pytest.skip(REASON)
    return False


@pytest.fixture(scope="package")
def folder(tmp_path_factory, gpu):
    """Checkpoints, data and a cache of this package's own."""
    path = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path
