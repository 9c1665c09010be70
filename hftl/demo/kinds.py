"""What differs between texts and images on the page, all of it: another kind of input is one more value in `KINDS`."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from markupsafe import Markup
from PIL import Image as PILImage

from hftl.demo.batch import MAX_IMAGES, MAX_TEXTS, TABLE_SUFFIXES, classify_images, classify_table, text_columns
from hftl.demo.explain_image import explain_image
from hftl.demo.explain_text import explain_text, text_html
from hftl.demo.feedback import save_image, save_text
from hftl.demo.looks import piece
from hftl.demo.served import MAX_CHARACTERS, Kind, checked_image, checked_text
from hftl.predict import Predictor
from hftl.report.visible import one_line


_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_EXAMPLE_CHARACTERS = 90
_LARGEST = 1024  # pixels a side of an image that is explained: the map has about 14 x 14 places
_TINY = 64  # pixels a side up to which an image is shown with its pixels as squares


def _refuse_addresses(component: Any) -> Any:
    """Return the component, made to take uploaded files alone.

    Gradio would fetch an address that a visitor sends in place of a file: a request from this machine. It has no
    setting against that, hence the method of this one component.
    """
    move = component.async_move_resource_to_block_cache

    async def own_files(place: str | Path | None) -> str | None:
        if place is not None and is_http_url_like(str(place)):
            raise gr.Error("Send a file, not an address.", print_exception=False)
        moved: str | None = await move(place)
        return moved

    component.async_move_resource_to_block_cache = own_files
    return component


def _path_of(value: Any) -> str | None:
    """Return the path of an uploaded file as a handler with `preprocess=False` gets it, or None.

    Gradio has checked that it is one of its own uploads. Its preprocessing would decode an image before our limits
    are looked at.
    """
    path = value.get("path") if isinstance(value, dict) else None
    return path if isinstance(path, str) and path else None


def _text_box() -> Any:
    return gr.Textbox(
        label="Text",
        placeholder="Type or paste a text",
        info="Shift + Enter classifies",
        lines=7,
        max_lines=14,
        max_length=MAX_CHARACTERS,
        elem_id="text-input",
    )


def _plain_image(**options: Any) -> Any:
    return _refuse_addresses(gr.Image(**options))


def _image_box() -> Any:
    return _plain_image(
        label="Image",
        type="filepath",
        image_mode=None,
        height=320,
        sources=["upload", "webcam", "clipboard"],
        elem_id="image-input",
        buttons=[],
    )


def _file_box(label: str, suffixes: tuple[str, ...], count: Any) -> Any:
    return _refuse_addresses(
        gr.File(label=label, file_count=count, file_types=list(suffixes), elem_id="batch-files", height=160)
    )


def _why_text(predictor: Predictor, text: str, label: str | None) -> str:
    return piece("why_text", marked=Markup(text_html(explain_text(predictor, text, label))))  # escaped there


def _why_image(predictor: Predictor, image: PILImage.Image, label: str | None) -> str:
    if max(image.size) > _LARGEST:
        image = image.copy()
        image.thumbnail((_LARGEST, _LARGEST))
    attribution = explain_image(predictor, image, label)
    return piece(
        "why_image",
        label=attribution.label,
        before=_data_uri(image),
        after=_data_uri(attribution.overlay),
        tiny=max(image.size) <= _TINY,
    )


def _data_uri(image: PILImage.Image) -> str:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=85, lossless=max(image.size) <= _TINY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


_TEXT = Kind(
    name="text",
    smallest=lambda: "warm up",
    box=_text_box,
    plain=gr.Textbox,
    asks="submit",
    forgets=None,
    example_name=lambda text: one_line(text, _EXAMPLE_CHARACTERS),
    sent=lambda value: value,
    read=checked_text,
    why=_why_text,
    save=save_text,
    files=lambda: _file_box("File", TABLE_SUFFIXES, "single"),
    files_hint=f"A table (CSV, TSV, JSON, JSONL, parquet) or a .txt file with a text a line, up to {MAX_TEXTS:,} rows",
    files_missing="Choose a file first.",
    columns=text_columns,
    classify=lambda served, file, column, step: classify_table(served, Path(file), column, step),
)
_IMAGE = Kind(
    name="image",
    smallest=lambda: PILImage.new("RGB", (64, 64)),
    box=_image_box,
    plain=_plain_image,
    asks="upload",
    forgets="clear",
    example_name=None,
    sent=_path_of,
    read=checked_image,
    why=_why_image,
    save=save_image,
    files=lambda: _file_box("Images", _IMAGE_SUFFIXES, "multiple"),
    files_hint=f"Images, up to {MAX_IMAGES:,} images",
    files_missing="Choose images first.",
    columns=None,
    classify=lambda served, files, _, step: classify_images(served, [Path(file) for file in files], step),
)
KINDS = {kind.name: kind for kind in (_TEXT, _IMAGE)}
