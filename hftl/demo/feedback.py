"""Corrections from the page, appended to data that `hftl train --data DIR` reads.

Texts become rows of DIR/feedback.csv. Images become DIR/images/<sha256>.png, written anew from the pixels (without place
and time of a photo), and a row in DIR/metadata.csv: what Hugging Face calls an image folder.
"""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hftl.atomic import new_file
from hftl.data.columns import no_formula
from hftl.errors import DataError, RunError
from hftl.paths import typed_path
from hftl.tasks.task import Answer


NONE_OF_THESE = "none of these"
MAX_BYTES = 2**30  # of the folder, so that a public page cannot fill the disk


@dataclass(frozen=True)
class Feedback:
    """A folder of corrections, the table in it, and the cells of the table that stand for an input."""

    folder: Path
    table: str
    header: tuple[str, ...]
    cells: Callable[[Path, Any], list[str]]  # (folder, input); writes what the table only names

    def lock(self) -> Any:
        """Keep others out of the folder for a block."""
        return FileLock(self.folder / ".feedback.lock", timeout=10)

    def save(self, content: Any, answer: Answer, right: Any, model: str) -> None:
        """Append a text, a pair or an image (once whatever its corrections), and what is right, as `as_text` writes it,
        numbers in full.

        Raises `DataError` when it cannot be saved.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        sure = "" if math.isnan(answer.confidence) else f"{answer.confidence:.6f}"
        path, told = self.folder / self.table, (_in_full(answer.value), sure, _in_full(right))
        try:
            with self.lock():
                if sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) >= MAX_BYTES:
                    raise DataError(f"The corrections fill {MAX_BYTES // 2**30} GB already; no more are taken.")
                cells = [*self.cells(self.folder, content), *told, now, model]
                row = [str(no_formula(cell)) for cell in cells]
                _append(path, [row] if path.is_file() and path.stat().st_size else [self.header, row])
        except Timeout:
            raise DataError("The correction could not be saved: another process holds the file. Try again.") from None
        except OSError as error:
            raise DataError(f"The correction could not be saved: {error.strerror or error}.") from None


def open_feedback(folder: str | Path, kind: str) -> Feedback:
    """Make the folder for corrections of a kind of inputs ("text", "image"). Raises `RunError` for one of no use."""
    if kind not in _TABLES:
        why = "what is right about each part of a row is more than a choice"
        raise RunError(f"--feedback takes no corrections of {kind}s: {why}.")
    feedback = Feedback(typed_path(folder), *_TABLES[kind])
    table, header = feedback.folder / feedback.table, ",".join(feedback.header)
    try:
        feedback.folder.mkdir(parents=True, exist_ok=True)
        with feedback.lock():
            first = table.open(encoding="utf-8").readline().strip() if table.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunError(f"--feedback {folder} cannot be used ({reason}): name a folder that can be written.") from None
    if first not in ("", header):
        raise RunError(f"{table} has other columns than {header}: name another folder with --feedback.")
    return feedback


def as_text(value: Any) -> str:
    """Return an answer as a cell holds it: several labels with | between, which `--label_separator "|"` reads."""
    if isinstance(value, list | tuple) and any(isinstance(one, dict) for one in value):  # entities
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "|".join(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _in_full(value: Any) -> str:
    return str(value) if isinstance(value, float) else as_text(value)


def _image_cell(folder: Path, image: Any) -> str:
    """Write the image, unless it is there already, and return the name of its file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    name = f"images/{hashlib.sha256(buffer.getvalue()).hexdigest()}.png"
    (folder / "images").mkdir(exist_ok=True)
    if not (folder / name).is_file():
        with new_file(folder / name) as partial:
            partial.write_bytes(buffer.getvalue())
    return name


def _text_cells(*texts: str) -> list[str]:
    return [text.replace("\x00", " ") for text in texts]


_COLUMNS = ("predicted", "probability", "label", "time", "model")
_TABLES: dict[str, tuple[str, tuple[str, ...], Callable[[Path, Any], list[str]]]] = {
    "text": ("feedback.csv", ("text", *_COLUMNS), lambda folder, text: _text_cells(text)),
    "pair": ("feedback.csv", ("text", "text_pair", *_COLUMNS), lambda folder, pair: _text_cells(*pair.values())),
    "image": ("metadata.csv", ("file_name", *_COLUMNS), lambda folder, image: [_image_cell(folder, image)]),
}


def _append(table: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write the rows at the end of the table at once."""
    buffer = io.StringIO()
    # a lone carriage return is not quoted before Python 3.13, and would end the row for every reader
    clean = [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in rows]
    csv.writer(buffer, lineterminator="\n").writerows(clean)
    with table.open("ab") as file:
        file.write(buffer.getvalue().encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
