"""From a source of data to `Splits` to learn from, or to `Rows` to predict and evaluate.

Everything that can be wrong with the data is found here, before a model is downloaded.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Image, Value
from datasets.table import InMemoryTable

from hftl.config import DataConfig
from hftl.data.columns import Columns, find_columns, label_order, labels_of, rows_named, slice_values, texts_of
from hftl.data.images import check_images
from hftl.data.keys import row_keys
from hftl.data.sources import Source, data_errors, read_source
from hftl.data.splits import Rows, Splits, cut, pick_shots, recognise_splits, sample, together
from hftl.errors import DataError, did_you_mean


InputColumn = Literal["text", "image"]
_SHOWN, _LONG = 5, 60  # names of classes in a line, characters of one


@dataclass(frozen=True)
class _Part:
    """The rows of one split, before labels become indices."""

    inputs: Dataset  # the canonical input column alone
    names: list[str]
    rows: np.ndarray
    slices: list[str] | None = None  # values of --slice_column


def load_splits(input_column: InputColumn, config: DataConfig, draw_seed: int | None = None) -> Splits:
    """Load labelled data as train, validation and test, cutting from train what the source lacks.

    Args:
        input_column: "text" or "image", by the task.
        config: the data and how to read and split it.
        draw_seed: draws the rows of `--shots`; by default the seed that cuts the splits.

    Raises:
        DataError: the data cannot be found, read or learnt from; one line names the cause and the fix.
    """
    with data_errors(config.data):
        return _load_splits(input_column, config, draw_seed)


def _load_splits(input_column: InputColumn, config: DataConfig, draw_seed: int | None) -> Splits:
    source = read_source(config.data, input_column)
    named = _splits_of(source)
    columns = find_columns(source.tables[named["train"]], input_column, config, need_label=True)
    _check_class_folders(source, named["train"])
    skipped: list[str] = []
    notes = list(source.warnings)
    parts: dict[str, _Part] = {}
    for split, name in sorted(named.items(), key=lambda item: item[0] != "train"):  # train says what labels are called
        known = set(parts["train"].names) if "train" in parts else None
        part = _read_part(source, name, input_column, columns, config, skipped, notes, known)
        if part is not None:
            parts[split] = part
        elif split == "train":
            raise DataError(f"{source.name}: {name} has no labelled rows")
    if skipped:
        notes.append(f"{len(skipped)} broken images are left out; the first: {skipped[0]}")
    labels = _classes(source, named["train"], columns, parts, notes)
    tables, origins = _cut_and_sample(parts, named, labels, config, config.seed if draw_seed is None else draw_seed)
    return Splits(
        **tables, labels=labels, name=source.name, origins=origins, skipped=tuple(skipped), warnings=tuple(notes)
    )


def _splits_of(source: Source) -> dict[str, str]:
    """Return the source's names for train, validation and test, and check that there is a train split with rows."""
    named = recognise_splits(list(source.tables))
    if "train" not in named:
        have = ", ".join(source.tables) or "none"
        raise DataError(f"{source.name} has no train split; its splits are: {have}. Call one 'train'")
    if not len(source.tables[named["train"]]):
        raise DataError(f"{source.name} is empty: {named['train']} has no rows")
    return named


def _check_class_folders(source: Source, train: str) -> None:
    empty = source.empty_classes.get(train)
    if empty:
        raise DataError(
            f"{source.name}: no images in the class folder{'s' if len(empty) > 1 else ''} "
            f"{_quoted(empty)} of {train}: fill or remove"
        )


def _read_part(
    source: Source,
    name: str,
    input_column: InputColumn,
    columns: Columns,
    config: DataConfig,
    skipped: list[str],
    notes: list[str],
    known: Collection[str] | None,
) -> _Part | None:
    """Read one split; None, with a note, when it has no labels at all (as test splits on the Hub often have)."""
    table, label = source.tables[name], str(columns.label)
    if columns.input not in table.column_names:
        have = ", ".join(table.column_names)
        raise DataError(f"{name} has no column {columns.input!r}, which the train split has; it has: {have}")
    names = labels_of(table, label, name, known) if label in table.column_names else []
    if not any(value is not None for value in names):
        notes.append(f"the split {name!r} has no labels and is left out")
        return None
    _refuse_missing(names, label, name)
    inputs, kept, broken = _inputs(table, columns.input, input_column, source.base_of(name), name, config, True)
    skipped += broken
    lost = sorted({str(value) for value in names} - {str(names[row]) for row in kept})
    if lost:
        raise DataError(
            f"{name}: all images of the class {_quoted(lost[:1])} are broken, such as {_first_of(lost[0], names, kept, broken)}. "
            "Replace them, or remove the class"
        )
    slices = slice_values(table, config.slice_column, name)
    chosen = None if slices is None else [slices[row] for row in kept]
    return _Part(inputs, [str(names[row]) for row in kept], kept, chosen)


def _first_of(label: str, names: Sequence[str | None], kept: np.ndarray, broken: list[str]) -> str:
    """Return the first of the `broken` ("path: reason" for each row that is not in `kept`) that has this label."""
    rows = np.setdiff1d(np.arange(len(names)), kept).tolist()
    return next(said for row, said in zip(rows, broken, strict=True) if names[row] == label)


def _refuse_missing(names: Sequence[str | None], column: str, where: str) -> None:
    missing = [row for row, value in enumerate(names) if value is None]
    if missing:
        raise DataError(
            f"{where}: the label ({column!r}) is missing in {rows_named(missing)} of {len(names)}: "
            "fill in or remove these rows"
        )


def _inputs(
    table: Dataset,
    column: str,
    input_column: InputColumn,
    base: Path,
    where: str,
    config: DataConfig,
    refuse_numbers: bool,
) -> tuple[Dataset, np.ndarray, list[str]]:
    """Return the canonical input column of the rows that can be used, their row numbers, and what was left out."""
    if input_column == "text":
        array = pa.array(texts_of(table, column, where, refuse_numbers), type=pa.string())
        return _dataset({"text": array}, {"text": Value("string")}), np.arange(len(table)), []
    array = _image_array(table, column, base)
    images = _dataset({"image": array}, {"image": Image(decode=False)})
    good, broken = check_images((row["image"] for row in images), len(images), where, config.strict)
    return images.select(good), np.asarray(good, dtype=np.int64), broken


def _image_array(table: Dataset, column: str, base: Path) -> pa.ChunkedArray:
    """Return the column as storage of an Image feature; paths are taken relative to where the table lies."""
    feature = table.features[column]
    arrow = table.select_columns([column]).with_format("arrow")[:].column(column)
    if isinstance(feature, Image) or pa.types.is_struct(arrow.type):
        return arrow.cast(Image.pa_type)
    if isinstance(feature, Value) and "binary" in feature.dtype:
        return pa.chunked_array([pa.array([{"bytes": v, "path": None} for v in arrow.to_pylist()], Image.pa_type)])
    if not isinstance(feature, Value) or "string" not in feature.dtype:
        kind = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise DataError(f"the image column {column!r} holds {kind} values: images, bytes or paths of files are needed")
    stored = [None if path is None else {"bytes": None, "path": str(base / path)} for path in arrow.to_pylist()]
    return pa.chunked_array([pa.array(stored, Image.pa_type)])


def _dataset(columns: dict[str, Any], features: dict[str, Any]) -> Dataset:
    """Return an in-memory Dataset of the arrow columns with these features."""
    table = pa.table(columns).replace_schema_metadata(Features(features).arrow_schema.metadata)
    return Dataset(InMemoryTable(table))


def _classes(
    source: Source, train: str, columns: Columns, parts: dict[str, _Part], notes: list[str]
) -> tuple[str, ...]:
    """Return the classes of train, after checking that they can be learnt and cover the other splits."""
    counts = Counter(parts["train"].names)
    labels = label_order(source.tables[train], str(columns.label), set(counts))
    which = f"the label column {columns.label!r}"
    if len(labels) < 2:
        raise DataError(
            f"all {sum(counts.values())} rows of train are of one class ({_short(labels[0])}) in {which}: two are "
            "needed"
        )
    single = [name for name in labels if counts[name] == 1]
    if single:
        wrong_column = len(single) * 2 > len(labels) > 2
        mend = "is this the right column (--label-column)?" if wrong_column else "add rows of them or remove them"
        raise DataError(
            f"{len(single)} of {len(labels)} classes {'have' if len(single) > 1 else 'has'} a single row in train: "
            f"{_quoted(single)}, in {which}: {mend}"
        )
    declared = getattr(source.tables[train].features[str(columns.label)], "names", None) or ()
    unused = [name for name in declared if name not in counts]
    for split, part in parts.items():
        strange = Counter(part.names)
        unknown = sorted(name for name in strange if name not in counts)
        if unknown:
            raise DataError(_unknown_class(split, unknown, sum(strange[name] for name in unknown), labels))
    if unused:
        notes.append(f"{len(unused)} declared classes have no rows and are left out: {_quoted(unused)}")
    return labels


def _unknown_class(split: str, unknown: list[str], rows: int, labels: Sequence[str]) -> str:
    classes = f"the class{'es' if len(unknown) > 1 else ''} {_quoted(unknown)} ({rows} row{'s' if rows > 1 else ''})"
    return (
        f"{split} holds {classes}, which train lacks: add such rows to train or remove them from {split}."
        f"{did_you_mean(unknown[0], labels)}"
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(_short(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _short(name: str) -> str:
    """Return the name of a class in quotes; one may be a whole text where the wrong column was named."""
    return repr(name) if len(name) <= _LONG else f"{name[:_LONG]!r}..."


def _cut_and_sample(
    parts: dict[str, _Part], named: dict[str, str], labels: tuple[str, ...], config: DataConfig, draw_seed: int
) -> tuple[dict[str, Dataset], dict[str, str]]:
    """Cut test, then validation, off train where they are missing; then sample down to the limits."""
    index = {name: position for position, name in enumerate(labels)}
    ids = {split: np.asarray([index[name] for name in part.names], dtype=np.int64) for split, part in parts.items()}
    positions = {split: np.arange(len(values)) for split, values in ids.items()}
    origins = {split: f"the source's {named[split]} split" for split in parts}
    home = {split: split for split in parts}
    keys = row_keys(parts["train"].inputs) if not {"test", "validation"} <= parts.keys() else []
    for stage, (split, share) in enumerate((("test", config.test_size), ("validation", config.validation_size))):
        if split in parts:
            continue
        kept, taken = cut(ids["train"][positions["train"]], len(labels), share, config.seed + stage)
        here = positions["train"]
        positions["train"], positions[split] = together(here[kept], here[taken], keys)
        home[split] = "train"
        origins[split] = f"cut from train: {share:.0%}, stratified, seed {config.seed}"
        origins["train"] = f"the source's {named['train']} split, less what was cut off"
    tables = {}
    for split in ("train", "validation", "test"):
        part, here = parts[home[split]], positions[split]
        limit = config.max_train_samples if split == "train" else config.max_eval_samples
        chosen = sample(ids[home[split]][here], len(labels), limit, config.seed + 2, every_class=split == "train")
        if len(chosen) < len(here):
            origins[split] += f"; {len(chosen)} of {len(here)} rows, stratified, seed {config.seed}"
        if split == "train" and config.shots is not None:
            chosen = chosen[pick_shots(ids[home[split]][here][chosen], labels, config.shots, draw_seed)]
            origins[split] += f"; {config.shots} rows of every class, seed {draw_seed}"
        tables[split] = _labelled(part, ids[home[split]], here[chosen])
    return tables, origins


def _labelled(part: _Part, ids: np.ndarray, chosen: np.ndarray) -> Dataset:
    """Return the chosen rows with their inputs, labels and row numbers."""
    inputs = part.inputs.select(chosen)
    column = inputs.column_names[0]
    array = inputs.with_format("arrow")[:].column(column)
    features = {column: inputs.features[column], "label": Value("int64"), "row": Value("int64")}
    columns = {column: array, "label": ids[chosen], "row": part.rows[chosen]}
    if part.slices is not None:
        features["slice"] = Value("string")
        columns["slice"] = pa.array([part.slices[row] for row in chosen], pa.string())
    return _dataset(columns, features)


def load_rows(input_column: InputColumn, config: DataConfig, labels: Sequence[str] | None) -> Rows:
    """Load one table to predict (`labels` None) or to evaluate against `labels`.

    Of several splits it is test, else the first one.

    Raises:
        DataError: the data cannot be found or read, or holds a label that is not among `labels`.
    """
    with data_errors(config.data):
        return _load_rows(input_column, config, labels)


def _load_rows(input_column: InputColumn, config: DataConfig, labels: Sequence[str] | None) -> Rows:
    source = read_source(config.data, input_column)
    named = recognise_splits(list(source.tables))
    name = named.get("test") or next(iter(source.tables), None)
    if name is None or not len(source.tables[name]):
        raise DataError(f"{source.name} is empty: it has no rows")
    table = source.tables[name]
    columns = find_columns(table, input_column, config, need_label=labels is not None)
    ids = None if labels is None else _known_labels(table, str(columns.label), name, labels)
    inputs, kept, skipped = _inputs(table, columns.input, input_column, source.base_of(name), name, config, False)
    if ids is not None and labels is not None and config.max_eval_samples is not None:
        chosen = sample(ids[kept], len(labels), config.max_eval_samples, config.seed + 2, every_class=False)
        inputs, kept = inputs.select(chosen), kept[chosen]
    others = table.select(kept)
    if columns.input == input_column:
        others = others.remove_columns([input_column])
    elif input_column in others.column_names:
        others = others.rename_column(input_column, f"original_{input_column}")
    arrow = others.with_format("arrow")[:] if others.column_names else None
    arrays = {key: arrow.column(key) for key in others.column_names} if arrow is not None else {}
    arrays[input_column] = inputs.with_format("arrow")[:].column(input_column)
    order = table.column_names if columns.input == input_column else list(arrays)
    joined = _dataset({key: arrays[key] for key in order}, {**others.features, **inputs.features})
    return Rows(joined, None if ids is None else ids[kept].tolist(), tuple(skipped))


def _known_labels(table: Dataset, column: str, where: str, labels: Sequence[str]) -> np.ndarray:
    """Return the index of each row's label among those of the model."""
    names = labels_of(table, column, where, labels)
    _refuse_missing(names, column, where)
    index = {name: position for position, name in enumerate(labels)}
    unknown = sorted({str(name) for name in names if name not in index})
    if unknown:
        rows = sum(name not in index for name in names)
        raise DataError(
            f"{where}: the column {column!r} holds labels that the model does not know: {_quoted(unknown)} "
            f"({rows} row{'s' if rows > 1 else ''}); it knows {_quoted(labels)}.{did_you_mean(unknown[0], labels)}"
        )
    return np.asarray([index[str(name)] for name in names], dtype=np.int64)
