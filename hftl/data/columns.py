"""Columns: which one holds the text, the image and the label, and what their values mean."""

import io
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.table import InMemoryTable
from PIL import Image as PILImage

from hftl.config import DataConfig
from hftl.data.cells import as_it_was
from hftl.errors import DataError, did_you_mean


# fmt: off
_TEXT_NAMES = (
    "text", "sentence", "content", "review", "body", "document", "utterance", "query", "question", "comment",
    "message", "tweet", "post", "article", "abstract", "summary", "description", "sms", "email", "headline",
    "title", "input", "inputs", "sentence1", "premise",
)
_LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "tag", "tags",
    "classification", "class_name", "class_label", "label_name", "label_text", "category_name", "label_id",
    "fine_label", "coarse_label", "labels_id", "emotion", "star", "stars", "rating", "y", "output",
)
_IMAGE_NAMES = (
    "image", "images", "img", "picture", "photo", "pixels", "image_path", "img_path", "filepath", "path",
    "file_name", "filename", "file",
)
# fmt: on
_OTHER_TASK = {"text": "image-classification", "image": "text-classification"}
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_SHOWN = 5


@dataclass(frozen=True)
class Columns:
    """The names of the columns that matter."""

    input: str
    label: str | None


def frame_table(frame: pd.DataFrame, name: str) -> Dataset:
    """Return a DataFrame as a Dataset without its index; missing cells become None.

    Raises:
        DataError: a column mixes kinds of values, or two columns share a name.
    """
    columns: dict[str, list[Any]] = {}
    for position, key in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if str(key) in columns:
            raise DataError(f"{name} has two columns called {str(key)!r}: rename one")
        columns[str(key)] = column.astype(object).where(column.notna(), None).tolist()
    return columns_table(columns, name)


def records_table(records: Any, name: str) -> Dataset:
    """Return a list of records as a Dataset; a key that a record lacks is None there.

    Raises:
        DataError: these are no records, or a column mixes kinds of values.
    """
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{name} cannot be parsed: a list of records such as {{'text': ..., 'label': ...}} is needed")
    keys = dict.fromkeys(key for record in records for key in record)
    return columns_table({key: [record.get(key) for record in records] for key in keys}, name)


def columns_table(columns: dict[str, list[Any]], name: str) -> Dataset:
    """Return columns of Python values as a Dataset, with the types that pyarrow infers.

    Raises:
        DataError: a column mixes kinds of values.
    """
    arrays: dict[str, pa.Array] = {}
    features: dict[str, Any] = {}
    for key, values in columns.items():
        if isinstance(next((value for value in values if value is not None), None), PILImage.Image):
            values, features[key] = [_png(value) for value in values], Image(decode=False)
        try:
            arrays[key] = pa.array(values, type=Image.pa_type if key in features else None, from_pandas=True)
            features.setdefault(key, Features.from_arrow_schema(pa.schema({key: arrays[key].type}))[key])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: the column {key!r} holds {_trouble(values, error)}") from None
    plain = {
        key: array.cast(features[key].pa_type) if isinstance(features[key], Value) else array
        for key, array in arrays.items()
    }
    return Dataset(InMemoryTable(pa.table(plain).replace_schema_metadata(Features(features).arrow_schema.metadata)))


def _trouble(values: list[Any], error: Exception) -> str:
    """Say why pyarrow makes no column of the values."""
    if isinstance(error, UnicodeEncodeError):
        row = next(i for i, value in enumerate(values) if isinstance(value, str) and _is_half(value))
        return f"half a character pair in row {row} (counted from 0): remove it, or save the file as UTF-8 again"
    kinds = sorted({type(value).__name__ for value in values if value is not None})
    if len(kinds) > 1:
        return f"values that do not go together ({', '.join(kinds)}): make them one kind"
    if kinds == ["int"]:
        return "a number beyond 64 bits: write such numbers as text, in quotes"
    return f"values that cannot be read ({' '.join(str(error).split())[:200]})"


def _is_half(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _png(image: Any) -> dict[str, Any] | None:
    """Return a PIL image as the bytes of a PNG file, which loses nothing but the modes that PNG lacks."""
    if not isinstance(image, PILImage.Image):
        return None
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16") else "TIFF")
    return {"bytes": buffer.getvalue(), "path": None}


def is_usual_name(column: str) -> bool:
    """Is this a name that columns of texts, images or labels often have?"""
    return column.lower().strip() in {*_LABEL_NAMES, *_TEXT_NAMES, *_IMAGE_NAMES}


def find_columns(table: Dataset, input_column: str, config: DataConfig, need_label: bool) -> Columns:
    """Find the input column and the label column: as told, else by name, else by type.

    Raises:
        DataError: a column is missing; the message names those that there are.
    """
    told = config.text_column if input_column == "text" else config.image_column
    if told is not None:
        _check_told(table, told, f"{input_column}_column")
    if config.label_column is not None and (need_label or config.label_column in table.column_names):
        _check_told(table, config.label_column, "label_column")
    label = config.label_column or _by_name(table, _LABEL_NAMES, told)
    found = told or (_find_text(table, label) if input_column == "text" else _find_image(table, label))
    if found == label:
        raise DataError(f"the column {found!r} cannot be both the {input_column} and the label: {_columns(table)}")
    if label is None:
        label = _label_by_type(table, found)
    if label is None and need_label:
        raise DataError(f"no label column found; {_columns(table)}. Name it with label_column (--label-column)")
    return Columns(found, label)


def _columns(table: Dataset) -> str:
    """Return "the columns are: text (string), label (int64)"."""
    shown = [f"{name} ({_kind(feature)})" for name, feature in list(table.features.items())[:12]]
    more = len(table.column_names) - len(shown)
    return f"the columns are: {', '.join(shown) or 'none'}{f' and {more} more' if more else ''}"


def _kind(feature: Any) -> str:
    if isinstance(feature, Value):
        return str(feature.dtype).removeprefix("large_")
    return type(feature).__name__.lower()


def _check_told(table: Dataset, column: str, option: str) -> None:
    if column not in table.column_names:
        raise DataError(
            f"{option}: there is no column {column!r}; {_columns(table)}.{did_you_mean(column, table.column_names)}"
        )


def _by_name(table: Dataset, names: Sequence[str], *taken: str | None) -> str | None:
    lower = {name.lower().strip(): name for name in reversed(table.column_names) if name not in taken}
    return next((lower[name] for name in names if name in lower), None)


def _is_string(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in (
        "string",
        "large_string",
        "string_view",
        "null",  # a column that is empty throughout: the check for missing values says so
    )


def _is_image(feature: Any) -> bool:
    """Tell images: the feature, its bare storage (a dict of bytes and path), or bytes."""
    storage = isinstance(feature, dict) and set(feature) == {"bytes", "path"}
    return isinstance(feature, Image) or storage or (isinstance(feature, Value) and "binary" in feature.dtype)


def _find_text(table: Dataset, label: str | None) -> str:
    """Return the text column by name, else the string column with the longest values."""
    strings = [name for name, feature in table.features.items() if _is_string(feature) and name != label]
    named = _by_name(table.select_columns(strings), _TEXT_NAMES) or _by_name(table, _TEXT_NAMES, label)
    if named is not None:
        return named
    images = [name for name, feature in table.features.items() if _is_image(feature)]
    lengths = {}
    head = table.select_columns(strings).select(range(min(1000, len(table)))).to_dict() if strings else {}
    for name in strings:
        values = [value for value in head[name] if value]
        if name.lower() not in _IMAGE_NAMES and not all(_NUMBER.fullmatch(value) for value in values):
            lengths[name] = sum(map(len, values)) / len(values)
    if lengths and not images:
        return max(lengths, key=lambda name: lengths[name])
    raise DataError(_no_column("text", table, bool(images or _by_name(table, _IMAGE_NAMES))))


def _find_image(table: Dataset, label: str | None) -> str:
    """Return the only image column, one with a usual name, or a column of paths with a usual name."""
    images = [name for name, feature in table.features.items() if _is_image(feature)]
    if images:
        return _by_name(table.select_columns(images), _IMAGE_NAMES) or images[0]
    strings = [name for name, feature in table.features.items() if _is_string(feature) and name != label]
    found = _by_name(table.select_columns(strings), _IMAGE_NAMES)
    if found is None:
        raise DataError(_no_column("image", table, bool(strings)))
    return found


def _no_column(kind: str, table: Dataset, is_other: bool) -> str:
    other = f" If this is the data you mean, use the task {_OTHER_TASK[kind]}" if is_other else ""
    return f"no {kind} column found; {_columns(table)}. Name it with {kind}_column (--{kind}-column).{other}"


def _label_by_type(table: Dataset, found: str) -> str | None:
    """Return the only ClassLabel, else the only column that is left."""
    left = [name for name in table.column_names if name != found]
    classes = [name for name in left if isinstance(table.features[name], ClassLabel)]
    if len(classes) == 1:
        return classes[0]
    return left[0] if len(left) == 1 and left[0].lower() not in _IMAGE_NAMES else None


def rows_named(rows: Sequence[int]) -> str:
    """Return "3 rows (counted from 0: 1, 4, 7)" with the first few."""
    shown = ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
    return f"{len(rows)} row{'s' if len(rows) > 1 else ''} (counted from 0: {shown})"


def texts_of(table: Dataset, column: str, where: str, refuse_numbers: bool) -> list[str]:
    """Return the texts, verbatim.

    Raises:
        DataError: the column holds no strings, or texts are missing or empty; the message names rows.
    """
    feature = table.features[column]
    if not _is_string(feature):
        raise DataError(
            f"the text column {column!r} holds {_kind(feature)} values, not text; {_columns(table)}. "
            "Name the right one with text_column (--text-column)"
        )
    texts = table[column][:]
    missing = [row for row, text in enumerate(texts) if text is None or not text.strip()]
    if missing:
        raise DataError(
            f"{where}: the text is missing or empty in {rows_named(missing)}: fill in or remove these rows"
        )
    if refuse_numbers and texts and all(_NUMBER.fullmatch(text) for text in texts):
        raise DataError(
            f"the text column {column!r} holds numbers, not text; {_columns(table)}. "
            "Name the right one with text_column (--text-column)"
        )
    return texts


def labels_of(table: Dataset, column: str, where: str, known: Collection[str] | None = None) -> list[str | None]:
    """Return the names of the labels; None where a row has none (null, "", or -1 in a ClassLabel).

    Without `known`, "1.0" is the name "1" where all labels are whole numbers. With the names that are `known` already,
    those of train or of a model, a number takes the name that is the same number there, and "true" that of "True". A
    quote that `no_formula` put before a name is taken off again.

    Raises:
        DataError: the labels are lists, numbers with fractions, or of another kind that names no class.
    """
    names = _raw_names(table, column, where, known is None)
    if known is None:
        whole = all(name is None or re.fullmatch(r"-?\d+\.0+", name) for name in names)
        return [name and (name.split(".")[0] if whole else as_it_was(name)) for name in names]
    alike = {_value_of(name): name for name in reversed([*known])} | {name: name for name in known}
    known_as = {name: _known_as(name, alike) for name in {*names} if name is not None}
    return [None if name is None else known_as[name] for name in names]


_PLAIN_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")  # "007" is a name


def _value_of(name: str) -> float | str:
    """Return what other spellings of the name have in common with it: the number, or the truth value."""
    if _PLAIN_NUMBER.fullmatch(name):
        return float(name)
    return name.lower() if name.lower() in ("true", "false") else name


def _known_as(name: str, alike: dict[float | str, str]) -> str:
    plain = as_it_was(name)
    return alike.get(name) or alike.get(plain) or alike.get(_value_of(plain)) or plain


def _raw_names(table: Dataset, column: str, where: str, refuse_fractions: bool) -> list[str | None]:
    """Return the labels as text; a number with fractions may still be the name of a class that is known."""
    feature, values = table.features[column], table[column][:]
    if isinstance(feature, ClassLabel):
        return [None if value is None or value < 0 else feature.names[value] for value in values]
    if _is_string(feature):
        return [value if value and value.strip() else None for value in values]
    if not isinstance(feature, Value) or not re.match(r"u?int|bool|float", feature.dtype):
        several = (
            "several labels per row are not supported, one per row is needed" if _is_list(values) else "need names"
        )
        raise DataError(f"{where}: the label column {column!r} holds {_kind(feature)} values: {several}")
    values = [
        None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value for value in values
    ]
    fractions = [row for row, value in enumerate(values) if isinstance(value, float) and not value.is_integer()]
    if fractions and refuse_fractions:
        raise DataError(
            f"{where}: the label column {column!r} holds numbers with fractions in {rows_named(fractions)}, such as "
            f"{values[fractions[0]]}: classes are needed, regression is not supported"
        )
    return [None if v is None else str(int(v) if isinstance(v, float) and v.is_integer() else v) for v in values]


def _is_list(values: list[Any]) -> bool:
    return any(isinstance(value, list) for value in values[:100])


def label_order(table: Dataset, column: str, names: set[str]) -> tuple[str, ...]:
    """Return the names in the order of the ClassLabel, else sorted: numbers by value."""
    feature = table.features[column]
    if isinstance(feature, ClassLabel):
        return tuple(name for name in feature.names if name in names)
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def slice_values(table: Dataset, column: str | None, where: str) -> list[str] | None:
    """Return the values of the column by which the report scores rows apart, as text; None when none was named."""
    if column is None:
        return None
    if column not in table.column_names:
        have = ", ".join(table.column_names)
        raise DataError(f"{where} has no column {column!r} for --slice_column; it has: {have}")
    return ["(missing)" if value is None else str(value) for value in table[column][:]]
