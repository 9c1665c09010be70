"""Faults that a visitor can mend become a message in the page; the server lives on."""

import functools
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from hftl.errors import HftlError


SECONDS = 8.0  # that a message stays


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler with every `HftlError` as a message in the page.

    Its text may hold names of files and columns, and Gradio shows a message as HTML: hence the escaping.
    """

    @functools.wraps(handler)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except HftlError as error:
            said = escape(str(error), quote=False)
            raise gr.Error(said, duration=SECONDS, print_exception=False) from None

    return safe
