"""The packages that only the export needs, and quiet around the noise that they make."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from hftl.errors import ModelError


_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def check_packages() -> None:
    """Raise `ModelError` when a package that the export needs is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModelError(f'hftl export needs {", ".join(missing)}: pip install "hftl[export]"')


@contextmanager
def quiet() -> Iterator[None]:
    """Silence notices and warnings inside: torch.onnx logs each torchvision operator that it does not find."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
