"""Images with what is true and what was answered of every pixel over them: pictures in the page, as data URIs."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


SIDE = 640  # pixels of the longer side, of the image and of what lies over it
MOST = 12  # images of a page: 0.1 to 0.2 MB each
WRONG = (255, 45, 85)  # what a wrong pixel is painted in
UNASKED = (128, 128, 128)
_OPAQUE, _HALF = 255, 128
_BLACK = [0, 0, 0]  # of the ground, as a rule: it is not painted, or nothing of the image would be seen


def overlay(
    image: Image.Image, truth: np.ndarray, answer: np.ndarray, colours: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Return the image, and `layers` to lie over it: "truth", "answer" and "wrong", each of the image's shape.

    `truth` and `answer` are ids of classes [height, width], whose `colours` are red, green, blue; an id below 0 is not
    counted, which `unasked` says there is. What is large is shrunk.
    """
    scale = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = BytesIO()
    image.convert("RGB").resize(size).save(file, "WEBP", quality=80, method=4)
    asked = truth >= 0
    grey, wrong = len(colours), len(colours) + 1
    painted = {
        "truth": np.where(asked, truth, grey),
        "answer": answer,
        "wrong": np.where(asked & (truth != answer), wrong, grey + 2),
    }
    palette = [*map(list, colours), list(UNASKED), list(WRONG), _BLACK]
    return {
        "image": _uri(file, "webp"),
        "layers": {name: _layer(ids, size, palette, grey) for name, ids in painted.items()},
        **{"width": image.width, "height": image.height, "unasked": not asked.all()},
    }


def _layer(ids: np.ndarray, size: tuple[int, int], palette: list[list[int]], grey: int) -> str:
    there, places = np.unique(ids, return_inverse=True)  # a palette has room for 256, and all classes may be more
    layer = Image.fromarray(places.reshape(ids.shape).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    used = {int(i): palette[i] for i in there}
    layer.putpalette([value for colour in used.values() for value in colour])
    alpha = bytes(0 if colour == _BLACK else _HALF if i == grey else _OPAQUE for i, colour in used.items())
    layer.save(file := BytesIO(), "PNG", transparency=alpha, optimize=True)
    return _uri(file, "png")


def _uri(file: BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def legend_of(report: dict[str, Any], colours: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Return a line for each class that has pixels: its name, its colour as #rrggbb, and whether it is painted."""
    taken = {i for cell in (report.get("evidence") or {}).get("confusion") or [] for i in cell[:2]}
    pixels = [line["support"] or i in taken for i, line in enumerate(report["per_class"])]
    lines = zip(report["data"]["labels"], colours, pixels, strict=True)
    return [
        {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour), "painted": list(colour) != _BLACK}
        for name, colour, count in lines
        if count
    ]
