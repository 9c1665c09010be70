"""Inputs to try the model on. What others can see never shows rows of the run's own data."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hftl.errors import HftlError
from hftl.run_data import Artifact, some_rows
from hftl.tasks import INPUTS


_COUNT = 5
_SAMPLE = "sample:"
_log = logging.getLogger(__name__)


def example_inputs(artifact: Artifact, kind: str, *, share: bool, data: str | None) -> Sequence[Any]:
    """Return texts or images spread over the test rows of what the model was trained on, or none.

    With `share` only a packaged sample, which is public, is shown: rows of any other data would leave the machine.
    Raises `HftlError` when `data` was named and cannot be read; without it, data that moved give no examples.
    """
    name = str(((artifact.report or {}).get("data") or {}).get("name") or "")
    if share and not (data or name).startswith(_SAMPLE):
        return ()
    if artifact.run is None and data is None and not name.startswith(_SAMPLE):
        return ()  # a sample of other data would show the model what it does not know
    try:
        rows = some_rows(artifact, INPUTS[kind], _COUNT, data)
    except HftlError:
        if data is not None:
            raise
        return ()
    return rows.inputs if rows.own or rows.origin == name else ()


def read_examples(artifact: Artifact, kind: str, folder: Path, *, share: bool, data: str | None) -> Future[list[str]]:
    """Read the examples beside all else, since a folder of images takes a while: texts, or paths of PNG files.

    Data that cannot be read, whatever the reason, give no examples and a line in the log.
    """

    def read() -> list[str]:
        try:
            rows = example_inputs(artifact, kind, share=share, data=data)
            return [item if isinstance(item, str) else _saved(item, folder, i) for i, item in enumerate(rows)]
        except (HftlError, OSError) as error:
            _log.warning("There are no examples: %s", error)
            return []

    pool = ThreadPoolExecutor(1, thread_name_prefix="hftl-examples")
    future = pool.submit(read)
    pool.shutdown(wait=False)
    return future


def _saved(image: Any, folder: Path, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"example-{number + 1}.png"
    image.save(path)
    return str(path)
