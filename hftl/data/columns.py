"""Tables and their columns: made of any values, named in the wild, and told in words."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, Features, Image, LargeList, List, Value
from datasets.table import InMemoryTable
from PIL import Image as PILImage

from hftl.errors import DataError


# fmt: off
TEXT_NAMES = (
    "text", "sentence", "content", "review", "body", "document", "utterance", "query", "question", "comment",
    "message", "tweet", "post", "article", "abstract", "summary", "description", "sms", "email", "headline",
    "title", "input", "inputs", "sentence1", "premise",
)
LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "tag", "tags",
    "classification", "class_name", "class_label", "label_name", "label_text", "category_name", "label_id",
    "fine_label", "coarse_label", "labels_id", "emotion", "star", "stars", "rating", "y", "output",
    "score", "similarity", "similarity_score",
)
WORD_NAMES = ("tokens", "words", "token", "word")
TAG_NAMES = ("tags", "ner_tags", "ner", "entities_tags", "labels", "label", "pos_tags", "upos", "chunk_tags", "tag")
SPAN_NAMES = ("entities", "spans", "labels", "label", "annotations")
IMAGE_NAMES = (
    "image", "images", "img", "picture", "photo", "pixels", "image_path", "img_path", "filepath", "path",
    "file_name", "filename", "file",
)
# fmt: on
_NAMED, _LONG = 5, 60  # rows or classes in a line, characters of one
MOST_CLASSES = 20  # different numbers with fractions: more are something measured
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|nan|inf", re.IGNORECASE)
_MARK = "[$\u20ac\u00a3\u00a5\u20b9]|USD|EUR|GBP"  # of a currency
_WRITTEN = re.compile(
    rf"(?P<sign>[-+\u2212]?)\s*(?P<before>(?:{_MARK})?)\s*(?P<digits>\d[\d.,' \u00a0\u202f]*?)\s*(?P<after>(?:%|{_MARK})?)"
)
_WAYS = (  # thousands and decimals
    (re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?|\d+(\.\d+)?"), ",", "."),
    (re.compile(r"[1-9]\d{0,2}(\.\d{3})+(,\d+)?|\d+(,\d+)?"), ".", ","),
    (re.compile(r"[1-9]\d{0,2}([ '\u00a0\u202f]\d{3})+(\.\d+)?|\d+(\.\d+)?"), " '\u00a0\u202f", "."),
    (re.compile(r"[1-9]\d{0,2}([ '\u00a0\u202f]\d{3})+(,\d+)?|\d+(,\d+)?"), " '\u00a0\u202f", ","),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SIGNED_NUMBER = re.compile(r"[+-]\s?[\d.(][\d\s.,()/-]*(e[+-]?\d+)?%?", re.IGNORECASE)  # also that of a telephone


def no_formula(cell: Any) -> Any:
    """Return a text that a spreadsheet would run as a formula with a quote before it (OWASP, CSV injection).

    A number with a sign is left as it is: there is nothing in it to run.
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA) or _SIGNED_NUMBER.fullmatch(cell):
        return cell
    return "'" + cell


def as_it_was(cell: str) -> str:
    """Return the text that `no_formula` made this cell of; a cell that it did not change is returned as it is."""
    return cell[1:] if cell.startswith("'") and no_formula(cell[1:]) == cell else cell


def frame_table(frame: pd.DataFrame, name: str) -> Dataset:
    """Return a DataFrame as a Dataset without its index; missing cells become None.

    Raises `DataError` when a column mixes kinds of values, or two columns share a name.
    """
    columns: dict[str, list[Any]] = {}
    for position, key in enumerate(map(str, frame.columns)):
        if key in columns:
            raise DataError(f"{name} has two columns called {key!r}: rename one")
        column = frame.iloc[:, position]
        columns[key] = column.astype(object).where(column.notna(), None).tolist()
    return _columns_table(columns, name)


def records_table(records: Any, name: str) -> Dataset:
    """Return a list of records as a Dataset; a key that a record lacks is None there.

    Raises `DataError` when these are no records, or a column mixes kinds of values.
    """
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{name} cannot be parsed: a list of records such as {{'text': ..., 'label': ...}} is needed")
    keys = dict.fromkeys(key for record in records for key in record)
    return _columns_table({key: [record.get(key) for record in records] for key in keys}, name)


def is_columns(data: Mapping[Any, Any]) -> bool:
    """Is this a dict of columns, such as {"text": [...], "label": [...]}, and not one of tables by split?"""
    sequences = all(isinstance(values, list | np.ndarray | pd.Series) for values in data.values())
    first = [next(iter(values)) for values in data.values() if len(values)] if sequences else []
    return sequences and "train" not in data and not (first and all(isinstance(value, dict) for value in first))


def columns_table(data: Mapping[Any, Any], name: str) -> Dataset:
    """Return a dict of columns as a Dataset. Raises `DataError` where they have not as many values, or mix kinds of them."""
    columns = {str(key): as_rows(values) for key, values in data.items()}
    if len({*map(len, columns.values())}) > 1:
        lengths = ", ".join(f"{key} has {len(values)}" for key, values in columns.items())
        raise DataError(f"the columns of {name} are not equally long: {lengths}")
    return _columns_table(columns, name)


def as_rows(values: Any) -> list[Any]:
    """Return X or y, as scikit-learn takes them, as a list; the rows of a DataFrame are dicts, pixels and masks images."""
    if isinstance(values, pd.DataFrame):
        return values.to_dict("records")
    pixels = isinstance(values, np.ndarray) and values.dtype.kind in "bui" and values.ndim > 2
    if pixels and values.ndim == 3 and values.shape[-1] in (3, 4):  # one image in colour, not grey ones 3 pixels wide
        values = values[None]
    rows = values.tolist() if isinstance(values, np.ndarray | pd.Series) and not pixels else [*values]
    return [_as_image(row) for row in rows]


def _as_image(value: Any) -> Any:
    """Return an array of pixels (uint8) or of ids [height, width] as an image; any other value as it is."""
    if not isinstance(value, np.ndarray) or value.ndim < 2 or value.dtype.kind not in "bui":
        return value
    if value.dtype == np.uint8 or value.ndim > 2:
        return PILImage.fromarray(value) if value.dtype == np.uint8 else value
    smallest = np.uint8 if value.min(initial=0) >= 0 and value.max(initial=0) < 2**8 else np.int32
    return PILImage.fromarray(value.astype(smallest))


def labelled_table(inputs: Any, labels: Any, kind: str) -> Dataset:
    """Return X and y as a Dataset with the usual names of columns.

    X holds texts, images, paths of images (where `kind` is "image"), lists of words, or dicts; or it is a DataFrame.
    Raises `DataError` for anything else, and where y is not as long.
    """
    for name, values in (("X", inputs), ("y", labels)):
        if not hasattr(values, "__len__"):  # an iterator is empty when it is read once more
            raise DataError(f"{name} is of the type {type(values).__name__}: give a list, an array or a Series")
    rows, targets = as_rows(inputs), as_rows(labels)
    if len(rows) != len(targets):
        raise DataError(f"X has {len(rows)} rows and y has {len(targets)}: they go together")
    rows = [row if isinstance(row, dict) else {_name_of(row, kind): row} for row in rows]
    if any("label" in row for row in rows):
        raise DataError("X has a column 'label', and y are the labels: leave it out of X")
    return records_table([{**row, "label": y} for row, y in zip(rows, targets, strict=True)], "(X, y)")


def _name_of(row: Any, kind: str) -> str:
    """Return what a column of such rows is called."""
    if isinstance(row, str | PurePath | None):
        return "image" if kind == "image" else "text"
    if isinstance(row, PILImage.Image):
        return "image"
    if isinstance(row, list) and all(isinstance(word, str) for word in row):
        return "tokens"
    raise DataError(f"X holds {row!r:.60}: texts, images (PIL, or uint8 pixels), lists of words or dicts are needed")


def _columns_table(columns: dict[str, list[Any]], name: str) -> Dataset:
    """Return columns of Python values as a Dataset, with the types that pyarrow infers."""
    arrays: dict[str, pa.Array] = {}
    features: dict[str, Any] = {}
    for key, values in columns.items():
        values = [_as_image(value) if isinstance(value, np.ndarray) else value for value in values]
        if isinstance(next((value for value in values if value is not None), None), PILImage.Image):
            values, features[key] = [_png(value) for value in values], Image(decode=False)
        values = [str(value) if isinstance(value, PurePath) else value for value in values]
        try:
            array = pa.array(values, type=Image.pa_type if key in features else None, from_pandas=True)
            features.setdefault(key, Features.from_arrow_schema(pa.schema({key: array.type}))[key])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: the column {key!r} holds {_trouble(values, error)}") from None
        arrays[key] = array.cast(features[key].pa_type) if isinstance(features[key], Value) else array
    return arrow_table(arrays, features)


def arrow_table(columns: dict[str, Any], features: dict[str, Any]) -> Dataset:
    """Return an in-memory Dataset of the arrow columns with these features."""
    return Dataset(InMemoryTable(pa.table(columns).replace_schema_metadata(Features(features).arrow_schema.metadata)))


def _trouble(values: list[Any], error: Exception) -> str:
    """Say why pyarrow makes no column of the values."""
    if isinstance(error, UnicodeEncodeError):
        row = next(i for i, value in enumerate(values) if re.search("[\ud800-\udfff]", str(value)))
        return f"half a character pair in row {row} (counted from 0): remove it, or save the file as UTF-8 again"
    kinds = sorted({type(value).__name__ for value in values if value is not None})
    if len(kinds) > 1:
        return f"values that do not go together ({', '.join(kinds)}): make them one kind"
    if kinds == ["int"]:
        return "a number beyond 64 bits: write such numbers as text, in quotes"
    return f"values that cannot be read ({' '.join(str(error).split())[:200]})"


def _png(image: Any) -> dict[str, Any] | None:
    """Return a PIL image as the bytes of a PNG file; of the modes that PNG lacks, or cuts to 16 bits, as those of a TIFF."""
    if not isinstance(image, PILImage.Image):
        return None
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF")
    return {"bytes": buffer.getvalue(), "path": None}


def is_usual_name(column: str) -> bool:
    """Is this a name that columns of texts, images or labels often have?"""
    return column.lower().strip() in {*LABEL_NAMES, *TEXT_NAMES, *WORD_NAMES, *IMAGE_NAMES}


def columns_line(table: Dataset) -> str:
    """Return "the columns are: text (string), label (int64)"."""
    first = [f"{name} ({kind_of(feature)})" for name, feature in list(table.features.items())[:12]]
    more = len(table.column_names) - len(first)
    return f"the columns are: {', '.join(first) or 'none'}{f' and {more} more' if more else ''}"


def kind_of(feature: Any) -> str:
    """Return what the column holds, as people call it."""
    if isinstance(feature, Value):
        return str(feature.dtype).removeprefix("large_")
    return type(feature).__name__.lower()


def column_named(table: Dataset, names: Sequence[str], *taken: str | None) -> str | None:
    """Return the first column with one of these names, whatever their case, that is not among those `taken`."""
    lower = {name.lower().strip(): name for name in reversed(table.column_names) if name not in taken}
    return next((lower[name] for name in names if name in lower), None)


def is_string(feature: Any) -> bool:
    """Tell texts; a column that is empty throughout counts: the check for missing values says so."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view", "null")


def is_list(feature: Any) -> bool:
    """Tell lists of values."""
    return isinstance(feature, List | LargeList | list)


def is_image(feature: Any) -> bool:
    """Tell images: the feature, its bare storage (a dict of bytes and path), or bytes."""
    storage = isinstance(feature, dict) and set(feature) == {"bytes", "path"}
    return isinstance(feature, Image) or storage or (isinstance(feature, Value) and "binary" in feature.dtype)


def numbers_of(table: Dataset, column: str) -> list[float | None] | None:
    """Return the numbers that a column holds, also where they are written as text; None where a cell has none, or no
    finite one. None for a column of anything else.
    """
    feature, values = table.features[column], table[column][:]
    if is_string(feature):
        cells = [value.strip() or None if value is not None else None for value in values]
        if not any(cells) or not all(cell is None or _NUMBER.fullmatch(cell) for cell in cells):
            return None
        values = [None if cell is None else float(cell) for cell in cells]
    elif not isinstance(feature, Value) or not feature.dtype.startswith(("int", "uint", "float")):
        return None
    return [None if value is None or not math.isfinite(value) else float(value) for value in values]


def written_numbers(cells: Sequence[str]) -> list[list[float]]:
    """Return each way to read all of the cells as numbers with a currency, a percent sign, marks between thousands or a
    comma before decimals: "$1,234.50" is 1234.5, "12 %" is 12. No way where some is no number, or they differ in that sign.
    """
    parts: list[re.Match[str]] = []
    for cell in cells:  # most columns are left at their first cell
        part = _WRITTEN.fullmatch(cell.strip())
        if part is None:
            return []
        parts.append(part)
    if len({(part["before"], part["after"]) for part in parts}) != 1:
        return []
    ways: list[list[float]] = []
    for form, between, comma in _WAYS:
        if all(form.fullmatch(part["digits"]) for part in parts):
            bare = str.maketrans(comma, ".", between)
            signs = (-1 if part["sign"] in ("-", "\u2212") else 1 for part in parts)
            numbers = [sign * float(part["digits"].translate(bare)) for sign, part in zip(signs, parts, strict=True)]
            ways += [] if numbers in ways else [numbers]
    return ways


def is_measured(values: Sequence[float | None]) -> bool:
    """Are these numbers something measured: with fractions, and more different ones than classes have?"""
    fractions = any(value is not None and not value.is_integer() for value in values)
    return fractions and len({*values} - {None}) > MOST_CLASSES


def rows_named(rows: Sequence[int]) -> str:
    """Return "3 rows (counted from 0: 1, 4, 7)" with the first few."""
    first = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
    return f"{len(rows)} row{'s' if len(rows) > 1 else ''} (counted from 0: {first})"


def quoted(names: Sequence[str]) -> str:
    """Return the first few names in quotes."""
    return ", ".join(shortened(name) for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def shortened(name: str) -> str:
    """Return the name of a class in quotes; one may be a whole text where the wrong column was named."""
    return repr(name) if len(name) <= _LONG else f"{name[:_LONG]!r}..."


def slice_values(table: Dataset, column: str | None, where: str) -> list[str] | None:
    """Return the values of the column by which the report scores rows apart, as text; None when none was named."""
    values = _cells(table, column, where, "slice_column")
    return None if values is None else ["(missing)" if value is None else str(value) for value in values]


def group_values(table: Dataset, column: str | None, where: str) -> list[str | None] | None:
    """Return the group of every row; None when no column was named. Of a column "file_name" it is the `name_stem`."""
    values = _cells(table, column, where, "group_column") or []
    group = name_stem if column == "file_name" else str
    return None if column is None else [None if value is None else group(value) for value in values]


def name_stem(name: str) -> str:
    """Return the name of a file without its ending and the counter before that: "a/obj12_003.jpg" is "a/obj12"."""
    path = PurePath(name)
    stem = re.sub(r"[\W_]*\d+\W*$", "", path.stem)
    return str(path.with_name(stem)) if stem else name


def _cells(table: Dataset, column: str | None, where: str, flag: str) -> list[Any] | None:
    if column is None:
        return None
    if column not in table.column_names:
        have = ", ".join(table.column_names)
        raise DataError(f"{where} has no column {column!r} for --{flag}; it has: {have}")
    return list(table[column][:])
