"""Corrections from the page, appended to data that `hftl train --data DIR` reads.

Texts become rows of DIR/feedback.csv. Images become DIR/images/<sha256>.png with a row in DIR/metadata.csv, the form
that Hugging Face calls an image folder. A PNG is written anew from the pixels: where and when a photo was taken stays
out of it.
"""

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image as PILImage

from hftl.data.columns import no_formula
from hftl.errors import DataError, RunError
from hftl.paths import typed_path
from hftl.predict import Prediction


NONE_OF_THESE = "none of these"
MAX_BYTES = 2**30  # of the folder, so that a public page cannot fill the disk
_LOCK_SECONDS = 10
_COLUMNS = ("predicted", "probability", "label", "time", "model")
_TEXTS = ("feedback.csv", ("text", *_COLUMNS))  # the table that rows are appended to, and its header
_IMAGES = ("metadata.csv", ("file_name", *_COLUMNS))


def open_feedback(folder: str | Path, *, text: bool) -> Path:
    """Make the folder, and return it.

    Raises `RunError` when it cannot be written, or holds a table with other columns.
    """
    folder = typed_path(folder)
    name, columns = _TEXTS if text else _IMAGES
    table = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
        first = table.open(encoding="utf-8").readline().strip() if table.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunError(f"--feedback {folder} cannot be used ({reason}): name a folder that can be written.") from None
    header = ",".join(columns)
    if first not in (None, "", header):
        raise RunError(f"{table} has other columns than {header}: name another folder with --feedback.")
    return folder


def save_text(folder: Path, text: str, prediction: Prediction, label: str, model: str) -> None:
    """Append one text. Raises `DataError` when it cannot be kept."""
    _append(folder, _TEXTS, (text.replace("\x00", " "), *_cells(prediction, label, model)))


def save_image(folder: Path, image: PILImage.Image, prediction: Prediction, label: str, model: str) -> None:
    """Keep one image, once whatever its corrections, and append its row. Raises `DataError` when it cannot be kept."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    name = f"images/{hashlib.sha256(buffer.getvalue()).hexdigest()}.png"
    target = folder / name
    _check_room(folder)
    try:
        target.parent.mkdir(exist_ok=True)
        if not target.is_file():
            partial = target.with_name(f".{target.name}.{os.getpid()}.{id(buffer)}")
            partial.write_bytes(buffer.getvalue())
            partial.replace(target)  # whole or absent, whoever else writes the same image
    except OSError as error:
        raise DataError(f"The correction could not be saved: {error.strerror or error}.") from None
    _append(folder, _IMAGES, (name, *_cells(prediction, label, model)))


def _cells(prediction: Prediction, label: str, model: str) -> tuple[str, ...]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return prediction.label, f"{prediction.probability:.6f}", label, now, model


def _append(folder: Path, table: tuple[str, tuple[str, ...]], cells: Sequence[str]) -> None:
    """Write one row at the end of the table, with its header when it is new: one write, under a lock."""
    path, header = folder / table[0], table[1]
    try:
        with FileLock(folder / ".feedback.lock", timeout=_LOCK_SECONDS):
            _check_room(folder)
            is_new = not path.is_file() or not path.stat().st_size
            _write(path, [*([header] if is_new else []), [str(no_formula(cell)) for cell in cells]])
    except Timeout:
        raise DataError("The correction could not be saved: another process holds the file. Try again.") from None
    except OSError as error:
        raise DataError(f"The correction could not be saved: {error.strerror or error}.") from None


def _write(table: Path, rows: Sequence[Sequence[str]]) -> None:
    buffer = io.StringIO()
    # a lone carriage return is not quoted before Python 3.13, and would end the row for every reader
    clean = [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in rows]
    csv.writer(buffer, lineterminator="\n").writerows(clean)
    with table.open("ab") as file:
        file.write(buffer.getvalue().encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _check_room(folder: Path) -> None:
    """Raise `DataError` when the corrections fill what they may."""
    if sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >= MAX_BYTES:
        raise DataError(f"The corrections fill {MAX_BYTES // 2**30} GB already; no more are taken.")
