"""From a source, or from loaded splits, to the rows that the checks read. Faulty rows are kept: they are the findings."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Image, Value

from hftl.config import DataConfig
from hftl.data.images import IMAGE_SUFFIXES, METADATA_NAMES, has_images
from hftl.data.load import Columns, find_columns, train_of
from hftl.data.samples import SAMPLES
from hftl.data.sources import DATA_SUFFIXES, data_errors, read_source
from hftl.data.splits import Source, Splits, recognise_splits, split_of
from hftl.doctor.findings import Records, keys_of
from hftl.doctor.images import ImageFacts, add_thumbs, file_facts, image_facts, told_apart
from hftl.errors import DataError
from hftl.paths import typed_path
from hftl.tasks import get_task
from hftl.tasks.inputs.text import text_digest, texts_of
from hftl.tasks.outputs.classes import labels_of


SPLITS = ("train", "validation", "test")
# In `hftl train`, thumbs are made when all images together have at most so many pixels (about two seconds).
_QUICK_PIXELS = 150_000_000
_LOOKED_AT = 1000  # texts that tell whether a column of texts holds numbers


@dataclass(frozen=True, eq=False)
class Opened:
    """A source, where its columns are, and its rows."""

    data: Any  # as it was named
    source: Source
    named: dict[str, str]  # train, validation, test → the source's own names
    columns: Columns
    records: Records


def open_source(data: Any, task: str | None, config: DataConfig) -> Opened:
    """Read any data that hftl reads, faults and all; without a task, tell texts from images.

    Raises:
        DataError: there are no such data, no rows, no train split, or no column of texts, images or labels.
        ConfigError: there is no such task.
    """
    with data_errors(data):
        return _open_source(data, task, config)


def _open_source(data: Any, task: str | None, config: DataConfig) -> Opened:
    kind, source = _read(data, task, config)
    named = train_of(source)
    train = source.tables[named["train"]]
    columns = find_columns(train, kind, config, need_label=True)
    return Opened(data, source, named, columns, _records(kind, source, named, columns))


def _read(data: Any, task: str | None, config: DataConfig) -> tuple[str, Source]:
    """Return what the inputs are and the source that holds them."""
    sample = SAMPLES.get(str(data).removeprefix("sample:")) if str(data).startswith("sample:") else None
    named = sample.task if task is None and sample is not None else task
    if named is not None:
        kind = get_task(named).inputs.kind
        return kind, read_source(data, kind)
    path = typed_path(data) if isinstance(data, (str, Path)) and str(data) else Path()
    pictures = path != Path() and path.is_dir() and has_images(path)
    if path.suffix.lower() in IMAGE_SUFFIXES or (pictures and not _has_split_files(path)):
        return "image", read_source(data, "image")
    source = read_source(data, "text")
    kind = _kind_of(source, config)
    return kind, read_source(data, "image") if kind == "image" and pictures else source


def _has_split_files(folder: Path) -> bool:
    """Tell whether a file of rows is named for a split; beside images, others describe the data rather than hold them."""
    files = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() in DATA_SUFFIXES]
    return any(split_of(path.stem) for path in files if path.name not in METADATA_NAMES)


def _kind_of(source: Source, config: DataConfig) -> str:
    """Tell a table of texts from one of images by the columns that can be found in it."""
    if config.image_column is not None or config.text_column is not None or not source.tables:
        return "text" if config.image_column is None else "image"
    named = recognise_splits(list(source.tables))
    table = source.tables[named.get("train", next(iter(source.tables)))]
    for kind in ("text", "image"):
        with contextlib.suppress(DataError):
            find_columns(table, kind, config, need_label=False)
            return kind
    return "text"  # whose message is the one to show


def _records(kind: str, source: Source, named: dict[str, str], columns: Columns) -> Records:
    splits = tuple(split for split in SPLITS if split in named and len(source.tables[named[split]]))
    texts: list[str | None] = []
    images: list[ImageFacts] = []
    names: list[str | None] = []
    for split in splits:
        table, name = source.tables[named[split]], named[split]
        if columns.input not in table.column_names:
            have = ", ".join(table.column_names)
            raise DataError(f"{name} has no column {columns.input!r}, which the train split has; it has: {have}")
        has_labels = columns.label in table.column_names
        known = {label for label in names if label is not None} or None  # train comes first
        names += labels_of(table, str(columns.label), name, known) if has_labels else [None] * len(table)
        if kind == "text":
            texts += _texts(table, columns.input, name)
        else:
            values = image_values(table, columns.input, source.base_of(name))
            images += image_facts(values, len(table), f"images ({split})")
    sizes = [len(source.tables[named[split]]) for split in splits]
    codes, classes = pd.factorize(np.array(names, dtype=object), sort=True)  # NO_LABEL for None
    labels = tuple(str(name) for name in classes)
    train = source.tables[named["train"]]
    empty = tuple(source.empty_classes.get(named["train"], ()))
    return Records(
        kind=kind,
        name=source.name,
        splits=splits,
        split=np.repeat(np.arange(len(splits)), sizes),
        row=np.concatenate([np.arange(size) for size in sizes]),
        label=codes.astype(np.int64),
        labels=labels,
        key=keys_of([text_digest(text) for text in texts] if kind == "text" else [image.digest for image in images]),
        texts=texts,
        images=images,
        others=_others(train, columns),
        unused=empty or _unused(train, columns, labels),
        empty_folders=bool(empty),
        in_class_folders=kind == "image" and _in_folders(images, names),
    )


def _texts(table: Dataset, column: str, where: str) -> list[str | None]:
    """Return the texts, None where there is none; refuse a column that holds no texts."""
    values = table[column][:]
    present = [i for i, value in enumerate(values) if value is not None and str(value).strip()]
    if present:
        texts_of(table.select(present[:_LOOKED_AT]), column, where, refuse_numbers=True)
    return values


def image_values(table: Dataset, column: str, base: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the bytes and the path of each image, None where there is none; paths start from `base`."""
    feature = table.features[column]
    if isinstance(feature, Image):
        table = table.cast_column(column, Image(decode=False))
    elif isinstance(feature, Value) and not any(kind in feature.dtype for kind in ("binary", "string", "null")):
        raise DataError(f"the image column {column!r} holds {feature.dtype} values: images, bytes or paths are needed")
    for row in table.select_columns([column]):
        value = row[column]
        if isinstance(value, str):
            yield {"bytes": None, "path": str(base / value)} if value else None
        else:
            yield {"bytes": value, "path": None} if isinstance(value, bytes) else value


def _in_folders(images: Sequence[ImageFacts], labels: Sequence[str | None]) -> bool:
    """Tell whether every image lies in a folder that bears its label."""
    return all(label in Path(image.path).parts[:-1] for image, label in zip(images, labels, strict=True) if label)


def _others(train: Dataset, columns: Columns) -> dict[str, Sequence[Any]]:
    """Return the columns of plain values beside the input and the label."""
    # A folder of images comes with its file names, class folder first; these are examined without it.
    plain = [
        name
        for name, feature in train.features.items()
        if (isinstance(feature, ClassLabel) or (isinstance(feature, Value) and "binary" not in feature.dtype))
        and name not in (columns.input, columns.label, "file_name")
    ]
    arrow = train.select_columns(plain).with_format("arrow")[:] if plain else None  # at once: see predict_file
    return {name: arrow.column(name).to_pylist() for name in plain} if arrow is not None else {}


def _unused(train: Dataset, columns: Columns, labels: Sequence[str]) -> tuple[str, ...]:
    feature = train.features[str(columns.label)]
    return tuple(name for name in feature.names if name not in labels) if isinstance(feature, ClassLabel) else ()


def splits_records(splits: Splits, input_column: str) -> Records:
    """Return the rows of loaded splits, for a quick look: no image is decoded but small copies of small sets.

    Images are the same here when their files are, byte for byte.
    """
    tables = {split: getattr(splits, split) for split in SPLITS if len(getattr(splits, split))}
    label = np.concatenate([np.asarray(table["label"][:], dtype=np.int64) for table in tables.values()])
    texts: list[str | None] = []
    images: list[ImageFacts] = []
    if input_column == "text":
        texts = [text for table in tables.values() for text in table["text"][:]]
    else:
        images = told_apart(file_facts(_images_of(tables), len(label), "files of the images"), _images_of(tables))
        if sum(image.width * image.height for image in images) <= _QUICK_PIXELS:
            images = add_thumbs(images, _images_of(tables), "small copies of the images")
    return Records(
        kind=input_column,
        name=splits.name,
        splits=tuple(tables),
        split=np.repeat(np.arange(len(tables)), [len(table) for table in tables.values()]),
        row=np.concatenate([np.asarray(table["row"][:], dtype=np.int64) for table in tables.values()]),
        label=label,
        labels=splits.labels,
        key=keys_of([text_digest(text) for text in texts] if texts else [image.digest for image in images]),
        texts=texts,
        images=images,
        in_class_folders=bool(images) and _in_folders(images, [splits.labels[code] for code in label]),
        quick=True,
    )


def _images_of(tables: dict[str, Dataset]) -> Iterator[Any]:
    return (row["image"] for table in tables.values() for row in table)
