"""Many inputs at once: a table or many image files in, a CSV out."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hftl.config import DataConfig
from hftl.data.columns import no_formula
from hftl.data.load import find_columns
from hftl.data.sources import DATA_SUFFIXES, data_errors, read_file
from hftl.demo.checks import MAX_CHARACTERS, MAX_UPLOAD_BYTES, checked_image
from hftl.demo.served import Served, is_unsure, predicted
from hftl.errors import DataError
from hftl.predict import Prediction


MAX_TEXTS, MAX_IMAGES = 5_000, 500  # one page is for trying; `hftl predict --data` takes any number
TABLE_SUFFIXES = (*DATA_SUFFIXES, ".txt")
_CHUNK = 16  # inputs between two movements of the progress bar, and for which an answer may have to wait


@dataclass(frozen=True)
class BatchRow:
    """One line of the CSV; an input that could not be read has no prediction."""

    input: str
    prediction: str
    probability: float | None
    not_sure: bool | None


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
        found = find_columns(table, "text", DataConfig(), need_label=False).input
    except DataError:
        found = None
    return list(table.column_names), found


def classify_table(served: Served, path: Path, column: str | None, step: Callable[[int, int], None]) -> BatchResult:
    """Classify the texts of a file. `step(done, total)` is called as it goes on. Raises `DataError` for bad files."""
    texts = _texts(path, column)
    notes = [_cut(len(texts), MAX_TEXTS, "rows")] if len(texts) > MAX_TEXTS else []
    texts = texts[:MAX_TEXTS]
    usable = [i for i, text in enumerate(texts) if text.strip() and len(text) <= MAX_CHARACTERS]
    if not usable:
        raise DataError(f"{path.name} has no text that can be classified: each is empty or too long.")
    rows = [BatchRow(text, "", None, None) for text in texts]
    for start in range(0, len(usable), _CHUNK):
        chunk = usable[start : start + _CHUNK]
        for i, found in zip(chunk, predicted(served, [texts[i] for i in chunk]), strict=True):
            rows[i] = _row(served, texts[i], found)
        step(start + len(chunk), len(usable))
    left = len(texts) - len(usable)
    if left:
        notes.append(f"Without a prediction, since empty or longer than {MAX_CHARACTERS:,} characters: {left:,} rows.")
    return BatchResult(rows, notes)


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


def classify_images(served: Served, paths: Sequence[Path], step: Callable[[int, int], None]) -> BatchResult:
    """Classify image files, one in memory at a time. Raises `DataError` when none can be read."""
    notes = [_cut(len(paths), MAX_IMAGES, "images")] if len(paths) > MAX_IMAGES else []
    paths = paths[:MAX_IMAGES]
    rows, broken = [], []
    for done, path in enumerate(paths, start=1):
        try:
            rows.append(_row(served, path.name, predicted(served, [checked_image(path)])[0]))
        except DataError as error:
            broken.append(f"{path.name}: {error}")
            rows.append(BatchRow(path.name, "", None, None))
        step(done, len(paths))
    if len(broken) == len(paths):
        raise DataError(f"None of the {len(paths)} files can be read. {broken[0]}")
    if broken:
        notes.append(f"Without a prediction, since they cannot be read: {len(broken):,} files. {broken[0]}")
    return BatchResult(rows, notes)


def _row(served: Served, shown: str, found: Prediction) -> BatchRow:
    unsure = None if served.threshold is None else is_unsure(served, found)
    return BatchRow(shown, found.label, found.probability, unsure)


def _cut(count: int, limit: int, things: str) -> str:
    return (
        f"There are {count:,} {things}; the first {limit:,} were classified. "
        "For all of them: hftl predict MODEL --data FILE --output OUT.csv"
    )


def write_csv(path: Path, result: BatchResult) -> None:
    """Write input, prediction, probability and not_sure; a text that a spreadsheet would run is quoted."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("input", "prediction", "probability", "not_sure"))
        for row in result.rows:
            sure = "" if row.not_sure is None else str(row.not_sure).lower()
            probability = "" if row.probability is None else f"{row.probability:.6f}"
            writer.writerow((no_formula(row.input), no_formula(row.prediction), probability, sure))
