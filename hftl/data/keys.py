"""What is equal for rows that hold the same input: to find copies of a row, and to keep them together."""

import hashlib
import re
from pathlib import Path
from typing import Any

from datasets import Dataset


def text_digest(text: str | None) -> bytes | None:
    """Return what is equal for texts that differ in case, in the spaces around or in kinds of space only.

    Tabs, line breaks and no-break spaces count as spaces. Two spaces in a row inside a text are not made one: such
    texts are near duplicates. None for a text with nothing in it.
    """
    folded = re.sub(r"[^\S ]+", " ", text or "").casefold().strip()
    if not folded:
        return None
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def file_digest(value: Any) -> bytes | None:
    """Return what is equal for images whose files are the same; None for an image that is no file."""
    content = value.get("bytes") if isinstance(value, dict) else None
    path = value.get("path") if isinstance(value, dict) else None
    if content is None and path is not None:
        content = Path(path).read_bytes()
    return None if content is None else hashlib.blake2b(content, digest_size=16).digest()


def row_keys(inputs: Dataset) -> list[bytes | None]:
    """Return a key for every row of a table with the one column "text" or "image"."""
    if "text" in inputs.column_names:
        return [text_digest(text) for text in inputs["text"][:]]
    return [file_digest(row["image"]) for row in inputs]
