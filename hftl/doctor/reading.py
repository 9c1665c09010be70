"""From a source, or from loaded splits, to the rows that the checks read. Faulty rows stay: the findings are about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Value

from hftl.config import DataConfig
from hftl.data.files import data_errors
from hftl.data.load import read_values
from hftl.data.masks import Mask
from hftl.data.samples import SAMPLES
from hftl.data.settle import Columns, as_lists, find_columns, likely_kinds, named_by, settle_task, train_of
from hftl.data.sources import read_source
from hftl.data.splits import Source, Splits
from hftl.doctor.findings import NO_LABEL, Facts, Kind, Records
from hftl.doctor.images import IMAGES
from hftl.doctor.masks import with_masks
from hftl.doctor.texts import TEXTS
from hftl.errors import DataError
from hftl.tasks import get_task
from hftl.tasks.task import Output, Task


KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (TEXTS, replace(TEXTS, name="pair"), replace(TEXTS, name="sentence"), IMAGES)
}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Opened:
    """A source, where its columns are, and its rows."""

    source: Source
    named: dict[str, str]  # train, validation, test → the source's own names
    columns: Columns
    inputs: dict[str, Dataset]  # by split: one column with the inputs of all rows, as a task reads them
    records: Records
    task: Task  # what the columns speak for
    config: DataConfig  # by which they were found
    names: tuple[str, ...] = ()  # of all classes, labels or tags that the rows have; () for numbers


def open_source(data: Any, task: str | None, config: DataConfig) -> Opened:
    """Read any data that hftl reads, faults and all; without a task, tell texts from images.

    Raises:
        DataError: there are no such data, no rows, no train split, or no column of texts, images or labels.
        ConfigError: there is no such task.
    """
    if task is not None:
        get_task(task)
    with data_errors(data):
        sample = SAMPLES.get(str(data).removeprefix("sample:")) if str(data).startswith("sample:") else None
        task = sample.task if task is None and sample is not None else task
        kinds = likely_kinds(data, config) if task is None else (get_task(task).inputs.kind,)
        trouble = []
        for kind in kinds:
            try:
                source = read_source(data, kind)
                read = as_lists(source, config)
                train = read.tables[train_of(read)["train"]]
                name = named_by(train, kind, config)
                settled = settle_task(name, train, config)
                columns = find_columns(train, settled.inputs, config, need_label=True, output=settled.output)
            except DataError as error:
                trouble.append(error)
            else:
                if settled.output.asked is not None:
                    settled = replace(settled, output=settled.output.asked(config, source.classes))
                opened = _opened(settled, read, columns, config)
                return replace(opened, source=replace(source, warnings=read.warnings))
        raise trouble[0]


def _opened(task: Task, source: Source, columns: Columns, config: DataConfig) -> Opened:
    inputs, output, named = task.inputs, task.output, train_of(source)
    tables = {s: source.tables[named[s]] for s in SPLITS if s in named and len(source.tables[named[s]])}
    values: list[Any] = []
    masks: list[Any] = []
    contents = {}
    for split, table in tables.items():
        name = named[split]
        contents[split], _, _ = inputs.read(table, columns.inputs, source.base_of(name), name, "keep", True)
        if output.examine is not None:
            images = contents[split][inputs.columns[0]][:]
            there = str(columns.label) in table.column_names
            masks += output.examine(table, columns.label, images, name) if there else [None] * len(table)
            continue
        known = {value for value in values if value is not None} or None  # train comes first
        values += read_values(source, name, columns, known, output) or [None] * len(table)
    values = values if output.examine is None else _digests(masks)
    label, labels = _codes([value if value is None else as_name(value, output) for value in values])
    facts = KINDS[inputs.kind].look([*contents.values()], inputs, False)
    feature = tables["train"].features[str(columns.label)]
    declared = feature.names if isinstance(feature, ClassLabel) else ()
    empty = tuple(source.empty_classes.get(named["train"], ()))
    records = _records(
        task,
        {split: np.arange(len(table)) for split, table in tables.items()},
        facts,
        name=source.name,
        label=label,
        labels=labels,
        others=_others(tables["train"], columns),
        unused=empty or tuple(name for name in declared if name not in labels),
        empty_folders=bool(empty),
        masks=masks,
        labels_beside=source.classes,
    )
    parts = [part for value in values if isinstance(value, tuple) for part in value]
    parts += [part for mask in masks if mask is not None for part in mask.ids]
    names = source.classes or tuple(dict.fromkeys(map(str, parts))) or (labels if output.single else ())
    return Opened(source, named, columns, contents, records, task, config, names)


def _digests(masks: Sequence[Any]) -> list[str | None]:
    """Return a name for each mask, equal for the same one: images with several are in conflict."""
    return [None if one is None else (one.digest or b"").hex() for one in masks]


def _codes(names: list[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the number of each name, NO_LABEL for None, and the names in their order."""
    label, classes = pd.factorize(np.array(names, dtype=object), sort=True)
    return label.astype(np.int64), tuple(map(str, classes))


def as_name(value: Any, output: Output) -> str:
    """Return a label as one name: of several labels, of the tags of words, or a number, too."""
    if not isinstance(value, tuple):
        return value.name if isinstance(value, Mask) else str(value)
    names = sorted({*value})
    return str(output.say(output.encode([value], names)[0], names))


def _records(task: Task, rows: dict[str, np.ndarray], facts: Sequence[Facts], **more: Any) -> Records:
    """Return the records of splits whose row numbers are `rows`; `more` are the other fields of `Records`."""
    named = zip(facts, more["label"].tolist(), strict=True)
    kind = KINDS[task.inputs.kind]
    return Records(
        kind=kind if task.output.examine is None else with_masks(kind),
        classes=task.output.single,
        splits=tuple(rows),
        split=np.repeat(np.arange(len(rows)), [len(numbers) for numbers in rows.values()]),
        row=np.concatenate([*rows.values()]),
        key=pd.factorize(np.array([one.digest for one in facts], dtype=object))[0].astype(np.int64),  # NO_KEY for None
        facts=[*facts],
        default_method=task.default_method,
        in_class_folders=all(
            more["labels"][code] in Path(one.path).parts[:-1] for one, code in named if code != NO_LABEL
        ),
        **more,
    )


def _others(train: Dataset, columns: Columns) -> dict[str, Sequence[Any]]:
    """Return the columns of plain values beside the input and the label."""
    # A folder of images comes with its file names, class folder first; these are examined without it.
    plain = [
        name
        for name, feature in train.features.items()
        if (isinstance(feature, ClassLabel) or (isinstance(feature, Value) and "binary" not in feature.dtype))
        and name not in (*columns.inputs, columns.label, "file_name")
    ]
    arrow = train.select_columns(plain).with_format("arrow")[:] if plain else None  # at once: see predict_file
    return {name: arrow.column(name).to_pylist() for name in plain} if arrow is not None else {}


def splits_records(splits: Splits, task: Task) -> Records:
    """Return the rows of loaded splits, for a quick look."""
    tables = {split: getattr(splits, split) for split in SPLITS if len(getattr(splits, split))}
    rows = {split: np.asarray(table["row"][:], dtype=np.int64) for split, table in tables.items()}
    stored = [target for table in tables.values() for target in table["label"][:]]
    targets, masks = task.output.gather(stored), []
    if task.output.known_facts is not None:
        masks = task.output.known_facts(stored)
        label, labels = _codes(_digests(masks))
    elif not task.output.single:
        label, labels = _codes([task.output.say(target, splits.labels) for target in targets])
    else:
        label, labels = targets, splits.labels
    return _records(
        task,
        rows,
        KINDS[task.inputs.kind].look([*tables.values()], task.inputs, True),
        name=splits.name,
        label=label,
        labels=labels,
        quick=True,
        masks=masks,
        labels_beside=() if not masks else splits.labels,
        skipped=len(splits.skipped),
    )
