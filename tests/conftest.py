"""For all tests, and the processes that they start."""

import gc
import os
import sys

import pytest


os.environ["HFTL_RAISE_BUGS"] = "1"  # what is caught so that no run is lost to it is raised here

# Where the time goes. These come first, so that what is left over at the end, for two workers to share, is short.
LONG = (
    "faults/", "test_cli", "architectures/", "publishing_space/", "test_states", "test_recipes_hub", "test_methods",
    "test_exactness", "forgetting/", "export/", "evidence/", "demo/", "push/", "test_packaged", "traps/",
)  # fmt: skip
_imported = 0  # modules at the last freeze


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; the Makefile asks xdist to keep this order."""

    def place(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(LONG) if item.nodeid.startswith(f"tests/{name}")), len(LONG))

    items.sort(key=place)


def pytest_runtest_setup() -> None:
    """Keep imported modules out of garbage collection: a tiny training takes less time than one look through them.

    transformers' Trainer collects after every training, and hftl rehearses each stage with one more.
    """
    global _imported
    if len(sys.modules) > _imported:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)
