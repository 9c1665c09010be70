"""For all tests, and the processes that they start."""

import gc
import os
import sys

import pytest


os.environ["HFTL_RAISE_BUGS"] = "1"  # what is caught so that no run is lost to it is raised here
_imported = 0  # modules at the last freeze


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep imported modules out of garbage collection: a tiny training takes less time than one look through them.

    transformers' Trainer collects after every training, and hftl rehearses each stage with one more.
    """
    global _imported
    if len(sys.modules) > _imported:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)
