"""The tab where a file, or many images, are classified at once: a table or image files in, a CSV out."""

import csv
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from hftl.config import DataConfig
from hftl.data.columns import no_formula
from hftl.data.load import find_columns
from hftl.data.sources import DATA_SUFFIXES, data_errors, read_file
from hftl.demo.looks import html, piece, with_messages
from hftl.demo.served import (
    MAX_CHARACTERS,
    MAX_UPLOAD_BYTES,
    Kind,
    Served,
    checked_image,
    checked_text,
    is_unsure,
    predicted,
)
from hftl.errors import DataError


MAX_TEXTS, MAX_IMAGES = 5_000, 500  # one page is for trying; `hftl predict --data` takes any number
TABLE_SUFFIXES = (*DATA_SUFFIXES, ".txt")
_CHUNK = 16  # texts between two movements of the progress bar, and for which an answer may have to wait
_PREVIEW = 10
_OWN: dict[str, Any] = {"api_visibility": "private"}
_ONE_BY_ONE: dict[str, Any] = {"concurrency_id": "batches", "concurrency_limit": 1}
_Step = Callable[[int, int], None]  # (done, total), called as it goes on


@dataclass(frozen=True)
class BatchRow:
    """One line of the CSV; an input that could not be read has no prediction."""

    input: str
    prediction: str = ""
    probability: float | None = None
    not_sure: bool | None = None


@dataclass(frozen=True)
class BatchResult:
    """The lines in the order of the inputs, and what should be said about them."""

    rows: list[BatchRow]
    notes: list[str]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """The predicted labels with their counts, the most frequent first."""
        return Counter(row.prediction for row in self.rows if row.prediction).most_common()


def text_columns(path: Path) -> tuple[list[str], str | None]:
    """Return the columns of a table and the one that holds the text, if it can be told; none for a .txt file.

    Raises `DataError` when the file cannot be read.
    """
    if path.suffix.lower() == ".txt":
        return [], None
    with data_errors(path.name):
        table = read_file(path)
    try:
        column = find_columns(table, "text", DataConfig(), need_label=False).input
    except DataError:
        column = None
    return list(table.column_names), column


def classify_table(served: Served, path: Path, column: str | None, step: _Step) -> BatchResult:
    """Classify the texts of a file, of the column that holds them by default. Raises `DataError` for bad files."""
    texts = _texts(path, column)
    notes = _cut_notes(len(texts), MAX_TEXTS, "rows")
    rows, faults = _classify(served, [(text, text) for text in texts[:MAX_TEXTS]], checked_text, _CHUNK, step)
    if len(faults) == len(rows):
        raise DataError(f"{path.name} has no text that can be classified: each is empty or too long.")
    if faults:
        limit = f"{MAX_CHARACTERS:,} characters"
        notes.append(f"Without a prediction, since empty or longer than {limit}: {len(faults):,} rows.")
    return BatchResult(rows, notes)


def classify_images(served: Served, paths: Sequence[Path], step: _Step) -> BatchResult:
    """Classify image files, one in memory at a time. Raises `DataError` when none can be read."""
    notes = _cut_notes(len(paths), MAX_IMAGES, "images")
    rows, faults = _classify(served, [(path.name, path) for path in paths[:MAX_IMAGES]], checked_image, 1, step)
    if len(faults) == len(rows):
        raise DataError(f"None of the {len(rows)} files can be read. {faults[0]}")
    if faults:
        notes.append(f"Without a prediction, since they cannot be read: {len(faults):,} files. {faults[0]}")
    return BatchResult(rows, notes)


def _classify(
    served: Served, inputs: Sequence[tuple[str, Any]], read: Callable[[Any], Any], chunk: int, step: _Step
) -> tuple[list[BatchRow], list[str]]:
    """Return a row for each (name, input), and the faults of those that `read` refuses."""
    rows = [BatchRow(name) for name, _ in inputs]
    faults = []
    for start in range(0, len(inputs), chunk):
        contents: dict[int, Any] = {}
        for i in range(start, min(start + chunk, len(inputs))):
            name, value = inputs[i]
            try:
                contents[i] = read(value)
            except DataError as error:
                faults.append(f"{name}: {error}")
        answers = predicted(served, list(contents.values())) if contents else []
        for i, p in zip(contents, answers, strict=True):
            unsure = None if served.threshold is None else is_unsure(served, p)
            rows[i] = BatchRow(rows[i].input, p.label, p.probability, unsure)
        step(min(start + chunk, len(inputs)), len(inputs))
    return rows, faults


def _texts(path: Path, column: str | None) -> list[str]:
    """Return the texts of a file, one a line of a .txt file; a missing cell is an empty text."""
    if path.stat().st_size > MAX_UPLOAD_BYTES:
        raise DataError(f"{path.name} is larger than {MAX_UPLOAD_BYTES // 2**20} MB: send a part of it.")
    if path.suffix.lower() == ".txt":
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DataError(f"{path.name} is not in UTF-8: save it in that encoding.") from None
        texts = [line for line in lines if line.strip()]
    else:
        with data_errors(path.name):
            table = read_file(path)
        column = column or find_columns(table, "text", DataConfig(), need_label=False).input
        if column not in table.column_names:
            raise DataError(f"{path.name} has no column {column!r}: choose one of its own.")
        texts = ["" if value is None else str(value) for value in table[column][:]]
    if not texts:
        raise DataError(f"{path.name} has no rows.")
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _cut_notes(count: int, limit: int, things: str) -> list[str]:
    if count <= limit:
        return []
    return [
        f"There are {count:,} {things}; the first {limit:,} were classified. "
        "For all of them: hftl predict MODEL --data FILE --output OUT.csv"
    ]


def write_csv(path: Path, result: BatchResult) -> None:
    """Write input, prediction, probability and not_sure; a text that a spreadsheet would run is quoted."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("input", "prediction", "probability", "not_sure"))
        for row in result.rows:
            sure = "" if row.not_sure is None else str(row.not_sure).lower()
            probability = "" if row.probability is None else f"{row.probability:.6f}"
            writer.writerow((no_formula(row.input), no_formula(row.prediction), probability, sure))


def batch_tab(served: Served, kind: Kind, folder: Path) -> None:
    """Lay out the tab and join its events, inside `gr.Blocks`. CSV files are written under `folder`."""
    html(piece("line", look="hint", text=f"{kind.files_hint} at once. A CSV comes out."))
    files = kind.files()
    column = gr.Dropdown([], label="Column with the text", visible=False, elem_id="batch-column", interactive=True)
    run = gr.Button("Classify all", variant="primary", elem_id="batch-run")
    output = gr.File(label="Answers as CSV", visible=False, interactive=False, elem_id="batch-output")
    summary = html("", "batch-summary", min_height=20)

    def classify(uploads: Any, name: Any, progress: Any = gr.Progress()) -> tuple[str, Any]:  # noqa: B008 Gradio's way
        if not uploads:
            raise DataError(kind.files_missing)
        progress(0, desc="Reading")

        def step(done: int, total: int) -> None:
            progress((done, total), desc="Classifying", unit=f"{kind.name}s")

        result = kind.classify(served, uploads, str(name) if name else None, step)
        path = folder / secrets.token_hex(16) / "answers.csv"
        path.parent.mkdir(parents=True)
        write_csv(path, result)
        return _summary(served, kind, result), gr.File(value=str(path), visible=True)

    def forget() -> tuple[Any, str, Any]:
        return gr.Dropdown(choices=[], value=None, visible=False), "", gr.File(value=None, visible=False)

    if kind.columns is not None:
        list_columns = kind.columns

        def offer_columns(path: str | None) -> Any:
            names, likely = list_columns(Path(path)) if path else ([], None)
            return gr.Dropdown(choices=names, value=likely, visible=bool(names))

        files.upload(with_messages(offer_columns), files, column, **_OWN)
    files.clear(forget, None, [column, summary, output], **_OWN)
    inputs, outputs = [files, column], [summary, output]
    run.click(with_messages(classify), inputs, outputs, show_progress_on=summary, **_ONE_BY_ONE, **_OWN)


def _summary(served: Served, kind: Kind, result: BatchResult) -> str:
    counts = result.counts
    highest = max((count for _, count in counts), default=1)
    return piece(
        "batch",
        done=sum(count for _, count in counts),
        thing=kind.name,
        unsure=None if served.threshold is None else sum(bool(row.not_sure) for row in result.rows),
        notes=result.notes,
        counts=[(label, count, count / highest) for label, count in counts],
        first=result.rows[:_PREVIEW],
    )
