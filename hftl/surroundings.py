"""What is around the process: a person at a terminal or a log, a Hub or none."""

import gc
import importlib.util
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

from hftl.errors import ConfigError, did_you_mean, install_extra
from hftl.values import trackers


_LIBRARIES = r"(transformers|datasets|peft|torch|accelerate|huggingface_hub|sklearn)(\.|$)"
_TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}  # packages
_interrupted = False
# For the threads of a page: datasets and accelerate swap sys.stdout and os.environ while they work, and accelerate's state,
# which every TrainingArguments makes anew, is that of the whole process.
ONE_AT_A_TIME = threading.Lock()


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while libraries are imported, which takes a fifth of that time and finds none.

    What they made is never looked through again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


def note_interrupts() -> None:
    """Remember Ctrl-C as well as raise it: what an import runs through may drop the exception.

    A process that was started to ignore it, as a job in the background is, goes on to.
    """

    def note(number: int, frame: Any) -> None:
        global _interrupted
        _interrupted = True
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)


def end_if_interrupted() -> None:
    """Raise the `KeyboardInterrupt` that was dropped."""
    if _interrupted:
        raise KeyboardInterrupt


def hide_bars() -> bool:
    """True when nobody would see a bar move: stderr is no terminal, or this is not the main process."""
    return not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0"


def quiet_libraries() -> None:
    """Silence the notices and bars of the libraries, but for downloads that somebody watches; a recipe imported them before."""
    import datasets
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)  # peft asks
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if not hide_bars():
        enable_progress_bars()


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the notices, bars and warnings of the libraries while a function of Python's runs, and then no longer.

    What the user set up stays: the verbosity of transformers where it is not the usual one, filters of warnings that the
    command line of Python names, and every logger but those of transformers.
    """
    import datasets
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = [
        logging.enable_progress_bar if logging.is_progress_bar_enabled() else logging.disable_progress_bar,
        datasets.disable_progress_bars if datasets.are_progress_bars_disabled() else datasets.enable_progress_bars,
        disable_progress_bars if are_progress_bars_disabled() else enable_progress_bars,  # the first changes these too
    ]
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", module=_LIBRARIES)
        quiet_libraries()
        if verbosity != logging.WARNING:
            logging.set_verbosity(verbosity)
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            for restore in bars:
                restore()


def check_trackers(wanted: str | Iterable[str] | None) -> None:
    """Raise `ConfigError` for a tracker of `--report_to` that transformers does not know, or whose package is not installed."""
    for name in (wanted,) if isinstance(wanted, str) else wanted or ():
        packages = _TRACKERS.get(name, ())
        if not packages and name not in ("all", "none", *(known := trackers())):
            raise ConfigError(f"--report_to is one of {', '.join(known)}, not {name!r}.{did_you_mean(name, known)}")
        if packages and not any(map(importlib.util.find_spec, packages)):
            raise ConfigError(f"--report_to {name} needs the package {packages[0]}: {install_extra(name)}")


def hub_reachable(timeout: float = 1.5) -> bool:
    """True when the Hub's host accepts a connection within `timeout` seconds and offline mode is off.

    With a proxy set the proxy decides, so the answer is True. A try costs nothing beside a download, and spares a
    user without network the minutes of retries that the Hub client would make.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlparse(constants.ENDPOINT)
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=timeout).close()
    except OSError:
        return False
    return True
