"""Why the model answers so, as HTML for the page: the words of a text, or a heat map over an image."""

import base64
from io import BytesIO
from typing import Any

from markupsafe import Markup
from PIL import Image as PILImage

from hftl.demo.attribution import explain_image, explain_text
from hftl.demo.looks import render
from hftl.demo.served import Served
from hftl.demo.text_view import text_html
from hftl.errors import HftlError


_LARGEST = 1024  # pixels a side of an image that is explained: the map has about 14 x 14 places
_TINY = 64  # pixels a side up to which an image is shown with its pixels as squares


def why_html(served: Served, content: Any, label: str | None) -> str:
    """Return what in a text or decoded image speaks for `label` (default: the predicted one).

    A model that cannot be explained gives a line that says so.
    """
    try:
        return _text(served, content, label) if served.reads_text else _image(served, content, label)
    except HftlError as error:
        return render("said.html", look="note", text=str(error))


def _text(served: Served, text: str, label: str | None) -> str:
    found = explain_text(served.predictor, text, label)
    return render("why_text.html", marked=Markup(text_html(found)))  # escaped there


def _image(served: Served, image: PILImage.Image, label: str | None) -> str:
    shown = image
    if max(image.size) > _LARGEST:
        shown = image.copy()
        shown.thumbnail((_LARGEST, _LARGEST))
    found = explain_image(served.predictor, shown, label)
    return render(
        "why_image.html",
        label=found.label,
        before=_data_uri(shown),
        after=_data_uri(found.overlay),
        tiny=max(shown.size) <= _TINY,
    )


def _data_uri(image: PILImage.Image) -> str:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=85, lossless=max(image.size) <= _TINY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
