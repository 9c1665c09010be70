"""What an upload component of Gradio hands over, without what a visitor could misuse."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like


def refuse_addresses(component: Any) -> Any:
    """Return the component, made to take uploaded files alone.

    Gradio would fetch an address that a visitor sends in place of a file: a request from this machine.
    """
    move = component.async_move_resource_to_block_cache

    async def own_files(place: str | Path | None) -> str | None:
        if place is not None and is_http_url_like(str(place)):
            raise gr.Error("Send a file, not an address.", print_exception=False)
        moved: str | None = await move(place)
        return moved

    component.async_move_resource_to_block_cache = own_files
    return component


def path_of(value: Any) -> str | None:
    """Return the path of an uploaded file as a handler with `preprocess=False` gets it, or None.

    Gradio has checked that it is one of its own uploads. Its preprocessing would decode an image before our limits
    are looked at.
    """
    path = value.get("path") if isinstance(value, dict) else None
    return path if isinstance(path, str) and path else None
