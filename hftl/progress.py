"""Progress bars where a person looks, silence in logs."""

import os
import sys
from collections.abc import Iterable
from typing import Any


def hide_bars() -> bool:
    """True when nobody would see a bar move: stderr is no terminal, or this is not the main process."""
    return not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0"


def progress(items: Iterable[Any], title: str, unit: str, total: int | None = None) -> Any:
    """Return `items` behind a bar that vanishes when it is done."""
    from tqdm import tqdm  # late: the command line's help imports this file

    return tqdm(items, desc=title, unit=unit, total=total, leave=False, disable=hide_bars())


def quiet_libraries() -> None:
    """Silence the notices of the libraries, and their bars where nobody looks; a recipe imported them before."""
    import datasets
    from transformers.utils import logging

    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    if hide_bars():
        logging.disable_progress_bar()
        datasets.disable_progress_bars()
