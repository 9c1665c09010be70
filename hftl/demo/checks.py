"""What a visitor may put in: texts and image files within limits, or one line that says what is wrong with them."""

import warnings
from pathlib import Path
from typing import Any

from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from hftl.data.images import MAX_PIXELS, decode_image
from hftl.errors import DataError


MAX_CHARACTERS = 20_000  # of one text; the longest models read a few thousand tokens of it
MAX_UPLOAD = "20mb"  # of one file
MAX_UPLOAD_BYTES = 20 * 1024 * 1024
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder of Pillow sees a stranger's file


def checked_text(text: Any) -> str:
    """Return the text, as UTF-8 can hold it. Raises `DataError` when it is empty, too long, or no text."""
    if not isinstance(text, str) or not text.strip():
        raise DataError("There is no text to classify: type or paste one.")
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"The text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken. Shorten it.")
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair can be neither read nor saved


def checked_image(path: Any) -> PILImage.Image:
    """Return the image of a file, upright and in RGB.

    The size is read from the file's header, before a pixel is decoded: a few kilobytes can unfold to gigabytes.
    Raises `DataError` when the file is missing, too large, broken, or of another kind.
    """
    if not isinstance(path, str | Path) or not Path(path).is_file():
        raise DataError("There is no image to classify: choose or drop a file.")
    if Path(path).stat().st_size > MAX_UPLOAD_BYTES:
        raise DataError(f"The file is larger than {MAX_UPLOAD_BYTES // 2**20} MB: send a smaller image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)  # the limit below is stricter
            with PILImage.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(_too_many_pixels(f"{image.width:,} x {image.height:,}"))
                return decode_image(image)
    except PILImage.DecompressionBombError:
        raise DataError(_too_many_pixels("far too many")) from None
    except UnidentifiedImageError:
        kinds = ", ".join(_FORMATS[:-1]) + " or " + _FORMATS[-1]
        raise DataError(f"This is not an image that can be read: send {kinds}.") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, ValueError
        raise DataError(f"The image cannot be read ({' '.join(str(error).split())[:120]}): save it anew.") from None


def _too_many_pixels(size: str) -> str:
    return f"The image has {size} pixels; at most {MAX_PIXELS // 1_000_000} million are taken. Send a smaller one."
