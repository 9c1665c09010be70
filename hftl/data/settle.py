"""What the columns of data speak for: which task, with which inputs and which kind of answer."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from hftl.config import COLUMN_FLAGS, DataConfig
from hftl.data.columns import (
    IMAGE_NAMES,
    TEXT_NAMES,
    WORD_NAMES,
    column_named,
    columns_line,
    is_image,
    is_list,
    is_measured,
    is_string,
    numbers_of,
    rows_named,
    shortened,
    written_numbers,
)
from hftl.data.files import (
    CONLL_SUFFIXES,
    DATA_SUFFIXES,
    IMAGE_SUFFIXES,
    METADATA_NAMES,
    NO_DATA,
    csv_form,
    csv_records,
    data_errors,
    has_images,
    images_beside,
    split_of,
)
from hftl.data.lists import list_separator, with_lists
from hftl.data.samples import SAMPLES
from hftl.data.sources import read_source
from hftl.data.splits import Source, recognise_splits
from hftl.data.tagged import lists_as_text, single_words
from hftl.errors import DataError, did_you_mean
from hftl.paths import typed_path
from hftl.tasks import CLASSES, INPUTS, TASKS, combinations, get_task
from hftl.tasks.task import Inputs, Output, Task


_FIRST = 50  # records of a CSV file in which one names an image, where they do
_GATHERED = "labels"  # the column that stands for `--label_columns`
_TICKS: dict[Any, bool] = {  # True and False are 1 and 0
    **dict.fromkeys((0, "0", "0.0", "false", "False", "FALSE"), False),
    **dict.fromkeys((1, "1", "1.0", "true", "True", "TRUE"), True),
}
_log = logging.getLogger("hftl")


@dataclass(frozen=True)
class Columns:
    """The names of the columns that matter."""

    inputs: tuple[str, ...]  # in the order of `Inputs.columns`
    label: str | None


def train_of(source: Source) -> dict[str, str]:
    """Return the source's names for train, validation and test. Raises `DataError` without a train split with rows."""
    named = recognise_splits(list(source.tables))
    if "train" not in named:
        have = ", ".join(source.tables) or "none"
        raise DataError(f"{source.name} has no train split; its splits are: {have}. Call one 'train'")
    if source.unfit:
        raise DataError(source.unfit)
    if not len(source.tables[named["train"]]):
        have = columns_line(source.tables[named["train"]])
        raise DataError(f"{source.name} is empty: {named['train']} has no rows; {have}")
    return named


def find_columns(
    table: Dataset, inputs: Inputs | str, config: DataConfig, need_label: bool, output: Output = CLASSES
) -> Columns:
    """Find the input columns and the label column: as the config says, else by name, else by type.

    Raises `DataError` when a column is missing, naming those that there are.
    """
    inputs = INPUTS[inputs] if isinstance(inputs, str) else inputs
    kind, have = inputs.kind, columns_line(table)
    named = [getattr(config, flag) for flag in inputs.flags]
    if kind == "image" and {"image", "file_name"} <= {*table.column_names} and named[0] not in table.column_names:
        named[0] = None  # a column of names, which became these two
    label = _GATHERED if config.label_columns and _GATHERED in table.column_names else config.label_column
    asked = [*zip(inputs.flags, named, strict=True), ("label_column", label if need_label else None)]
    for option, column in asked:
        if column is not None and column not in table.column_names:
            hint = did_you_mean(column, table.column_names)
            raise DataError(f"{option}: there is no column {column!r}; {have}.{hint}")
    label = label or column_named(table, output.usual, *named)
    columns = inputs.find(table, label, named)
    if columns is None:
        others = [t.name for t in TASKS.values() if t.inputs.find(table, label)]
        others = [name for name in others if kind not in {t.inputs.kind for t in combinations(name)}]
        other = f" If this is the data you mean, use the task {others[0]}" if others else ""
        flags = " and ".join(f"{flag} (--{flag.replace('_', '-')})" for flag in inputs.flags)
        raise DataError(f"no {kind} column found; {have}. Name it with {flags}.{other}")
    if len({*columns}) < len(columns):
        raise DataError(f"the column {columns[0]!r} cannot be both texts of a pair: {have}")
    if label in columns:
        raise DataError(f"the column {label!r} cannot be both the {kind} and the label: {have}")
    if label is None:  # the only ClassLabel, else the only column that is left
        left = [name for name in table.column_names if name not in columns and name.lower() not in IMAGE_NAMES]
        classes = [name for name in left if isinstance(table.features[name], ClassLabel)]
        masks = [name for name in left if is_image(table.features[name])] if output.keep is not None else []
        rest = left if len(left) == 1 else masks if len(masks) == 1 else []
        label = next(iter(classes if len(classes) == 1 else rest), None)
    if label is None and need_label:
        name = ". Name it with label_column (--label-column); several columns of 0 and 1 with label_columns"
        raise DataError(
            f"no label column found; {have}{f'; {wanted}' if (wanted := output.words.get('wanted')) else name}"
        )
    return Columns(columns, label)


def find_task(config: DataConfig) -> str:
    """Return the name of the task that the columns of the data speak for.

    Raises `DataError` when they speak for none, or for several.
    """
    if config.data is None:
        raise DataError(NO_DATA)
    trouble: list[DataError] = []
    tasks: list[str] = []
    name = str(config.data).removeprefix("sample:")
    if str(config.data).startswith("sample:") and name in SAMPLES:
        return SAMPLES[name].task
    with data_errors(config.data):
        for kind in likely_kinds(config.data, config):
            try:
                source = as_lists(read_source(config.data, kind), config)
                table = source.tables[train_of(source)["train"]]
                name = named_by(table, kind, config)
                task = settle_task(name, table, config)
                columns = find_columns(table, task.inputs, config, need_label=True, output=task.output)
            except DataError as error:
                trouble.append(error)
                continue
            paths = is_string(table.features[columns.inputs[0]]) or (
                source.files and "file_name" in table.column_names
            )
            if not tasks or not paths:  # paths beside a text are no input
                tasks.append(name)
        if not tasks:
            raise trouble[0]
    if len(tasks) > 1:
        raise DataError(f"the columns of the data speak for {' and '.join(tasks)}: name one of them")
    _log.warning("Task: %s, found from the data.", tasks[0])
    return tasks[0]


def named_by(table: Dataset, kind: str, config: DataConfig) -> str:
    """Return the task of such inputs: that of masks where a column of images, beside that of the inputs, is the target.

    Raises `DataError` for texts that are the single words of numbered sentences.
    """
    columns = single_words(table) if kind == "text" and config.text_column is None else None
    if columns is not None and columns[2] is not None:
        raise DataError(
            f"every row holds one word ({columns[0]}) of a sentence ({columns[2]}): use token-classification"
        )
    lists = lists_as_text(table) if kind == "text" and config.text_column is None else None
    if lists is not None:
        raise DataError(
            f"every row holds a list of words ({lists[0]}) and one of tags ({lists[1]}): use token-classification"
        )
    for task in (task for task in TASKS.values() if task.inputs.kind == kind and task.output.keep is not None):
        label = config.label_column or column_named(table, task.output.usual)
        others = {name for name, feature in table.features.items() if is_image(feature)}
        others -= {*(task.inputs.find(table, label, [config.image_column]) or ())}
        label = label or (others.pop() if len(others) == 1 else None)
        image = label is not None and label in table.column_names and is_image(table.features[label])
        if image:
            return task.name
    return next(task.name for task in TASKS.values() if task.inputs.kind == kind)


def likely_kinds(data: Any, config: DataConfig) -> tuple[str, ...]:
    """Return what the inputs may be, the likelier first."""
    if config.image_column is not None or config.text_column is not None:
        return ("text", "sentence") if config.image_column is None else ("image",)
    path = typed_path(data) if isinstance(data, (str, Path)) and str(data) else Path()
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ("image",)
    if path.suffix.lower() in set(CONLL_SUFFIXES) - {".txt"}:
        return ("sentence",)
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file() and (images := [*images_beside(path)]):
        header, *rows = [*islice(csv_records(path, csv_form(path)), _FIRST)] or [[]]
        names = {part for image in images for part in (image.name, image.stem)}
        named = any(re.split(r"[/\\]", cell)[-1] in names for row in rows for cell in row)
        if named and not any(name.lower().strip() in TEXT_NAMES for name in header):
            return ("image", "text", "sentence")
    pictures = path != Path() and path.is_dir() and has_images(path)
    return ("image",) if pictures and not _has_split_files(path) else ("text", "image", "sentence")


def _has_split_files(folder: Path) -> bool:
    """Tell whether a file of rows is named for a split; beside images, others describe the data rather than hold them."""
    files = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() in DATA_SUFFIXES]
    return any(split_of(path.stem) for path in files if path.name not in METADATA_NAMES)


def settle_task(name: str, table: Dataset, config: DataConfig) -> Task:
    """Return the task called `name` with the inputs and the output that the columns of a table speak for.

    Two usual columns of texts, or `--text_pair_column`, are a pair. Lists are several labels, many different numbers
    with fractions are a number, everything else is a class; `--problem_type` decides otherwise. Raises `DataError`.
    """
    inputs = TASKS[name].inputs
    for other in (task.inputs for task in combinations(name) if len(task.inputs.columns) > 1):
        if other.find(table, config.label_column, [getattr(config, flag) for flag in other.flags]):
            inputs = other
    if len({task.output.problem_type for task in combinations(name)}) == 1:
        return get_task(name, inputs=inputs.kind)
    label = find_columns(table, inputs, config, need_label=True).label
    feature = table.features[str(label)]
    if config.problem_type is not None:
        problem = config.problem_type
    elif is_list(feature):
        if isinstance(getattr(feature, "feature", None), dict):
            raise DataError(f"the column {label!r} holds marked spans: they are for the task token-classification")
        problem = "multi_label_classification"
    elif not isinstance(feature, ClassLabel) and is_measured(numbers_of(table, str(label)) or []):
        problem = "regression"
    else:
        problem = "single_label_classification"
    return get_task(name, problem, inputs.kind)


def as_usual(config: DataConfig, usual: DataConfig, source: Source) -> DataConfig:
    """Return the config with what `usual` says of the columns, as far as it says nothing itself and the source has them."""
    have = {name for table in source.tables.values() for name in table.column_names}
    said = {flag for flag in COLUMN_FLAGS if getattr(config, flag) is not None}
    said |= {"label_column", "label_columns"} if said & {"label_column", "label_columns"} else set()
    more = {flag: getattr(usual, flag) for flag in COLUMN_FLAGS if flag not in said}
    named = {
        flag: value if isinstance(value, tuple) else (value,) for flag, value in more.items() if "_column" in flag
    }
    return replace(config, **{k: v for k, v in more.items() if v is not None and have.issuperset(named.get(k, ()))})


def as_lists(source: Source, config: DataConfig, *, cut: bool = True) -> Source:
    """Return the source with `--label_columns` and `--label_separator` turned into a column of lists of labels, and lists
    that are written as text, or as one 0 or 1 for each label, into lists of names; and numbers that are written as people
    write them into numbers.

    Raises `DataError` for a column that is not there or holds other than 0 and 1, and for a separator that never occurs
    where rows are `cut` into splits to learn from.
    """
    if config.label_columns:
        tables = {name: _one_column(table, config.label_columns, name) for name, table in source.tables.items()}
        return replace(source, tables=tables)
    if config.label_separator is None:
        source = replace(source, tables={name: _as_told(table, config) for name, table in source.tables.items()})
        return _as_numbers(_hinted(source, config), config)
    parts = {name: _split_labels(table, config) for name, table in source.tables.items()}
    if cut and not any(occurs for _, occurs in parts.values()):
        raise DataError(
            f"--label_separator {config.label_separator!r} occurs in no label: leave it out, or name the right one "
            "(--label_column names the column)"
        )
    return replace(source, tables={name: table for name, (table, _) in parts.items()})


def _as_told(table: Dataset, config: DataConfig) -> Dataset:
    column = config.label_column or column_named(table, CLASSES.usual, config.text_column, config.image_column)
    words = column_named(table, WORD_NAMES)
    tagged = words is not None and is_list(table.features[words])  # whose labels are tags
    return table if column not in table.column_names or tagged else with_lists(table, str(column))


def _label(source: Source, config: DataConfig) -> list[str]:
    """Return the column of labels, or those that may be it: of text, and without a name that inputs often have."""
    table = next(iter(source.tables.values()), None)
    inputs = (config.text_column, config.text_pair_column, config.image_column)
    if table is None:
        return []
    label = config.label_column or column_named(table, CLASSES.usual, *inputs)
    others = [
        n for n in table.column_names if n not in inputs and n.lower().strip() not in (*TEXT_NAMES, *IMAGE_NAMES)
    ]
    return [
        name
        for name in ([label] if label else others)
        if name in table.column_names and is_string(table.features[name])
    ]


def _cells(source: Source, column: str) -> list[str]:
    """Return the filled cells of a column of texts, over all splits; none where a split holds other values there."""
    tables = [table for table in source.tables.values() if column in table.column_names]
    if not all(is_string(table.features[column]) for table in tables):
        return []
    return [cell for table in tables for cell in table[column][:] if cell is not None and cell.strip()]


def _hinted(source: Source, config: DataConfig) -> Source:
    """Return the source, with a note where its labels look like lists."""
    labels = _label(source, config)
    cells = _cells(source, labels[0]) if len(labels) == 1 and config.problem_type is None else []
    separator = list_separator(Counter(cells))
    if separator is None:
        return source
    example = next(cell for cell in cells if separator in cell)
    note = f"Labels look like lists ({shortened(example)}): with --label_separator {separator!r} a row has several."
    return replace(source, warnings=[*source.warnings, note])


def _as_numbers(source: Source, config: DataConfig) -> Source:
    """Return the source with a column of numbers in place of labels such as "$1,234.50", where these can be read in one
    way only. Raises `DataError` where a number is asked for, and they can be read in two.
    """
    asked = config.problem_type == "regression"
    for column in _label(source, config) if asked or config.problem_type is None else ():
        cells = _cells(source, column)
        plain = any(numbers_of(table, column) for table in source.tables.values() if column in table.column_names)
        ways = [] if plain or not cells else written_numbers(cells)
        if len(ways) > 1 and asked:
            first = next(i for i, values in enumerate(zip(*ways, strict=True)) if len({*values}) > 1)
            raise DataError(
                f"the numbers of {column!r} can be read in two ways: {cells[first]!r} is {ways[0][first]:g} or {ways[1][first]:g}. "
                "Write a point before decimals, and nothing between thousands"
            )
        sure = ways and (asked or any(re.search(r"[^\d,]", cell) for cell in cells))  # "1,2" may be a list
        if len(ways) != 1 or not sure or not (asked or is_measured(ways[0])):
            continue
        known = dict(zip(cells, ways[0], strict=True))
        tables = {}
        for name, table in source.tables.items():
            numbers = [known.get(cell) for cell in table[column][:]] if column in table.column_names else None
            order, kind = table.column_names, Value("float64")
            tables[name] = (
                table if numbers is None else table.remove_columns([column]).add_column(column, numbers, feature=kind)
            )
            tables[name] = tables[name].select_columns(order)
        example = max(cells, key=len)
        note = f"Numbers were read from text ({column}): {example!r} as {known[example]:,.10g}."
        return replace(source, tables=tables, warnings=[*source.warnings, note])
    return source


def _one_column(table: Dataset, names: Sequence[str], where: str) -> Dataset:
    """Return the table with the names of the columns that hold 1 as a column of lists, instead of the columns."""
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        hint = did_you_mean(lacking[0], table.column_names)
        raise DataError(f"label_columns: {where} has no column {lacking[0]!r}; {columns_line(table)}.{hint}")
    if len(names) < 2:
        raise DataError(f"label_columns names one column, {names[0]!r}: one for each label is needed, or label_column")
    columns = {name: table[name][:] for name in names}
    for name, values in columns.items():
        wrong = [row for row, value in enumerate(values) if value not in _TICKS]
        if wrong:
            found = f"{values[wrong[0]]!r} in {rows_named(wrong)}"
            raise DataError(f"{where}: the column {name!r} holds {found}: label_columns hold 0 or 1, or true or false")
    lists = [[name for name in names if _TICKS[columns[name][row]]] for row in range(len(table))]
    return _with_lists(table.remove_columns(list(names)), _GATHERED, lists)


def _with_lists(table: Dataset, column: str, lists: list[list[str]]) -> Dataset:
    table = table.remove_columns([column]) if column in table.column_names else table
    return table.add_column(column, lists, feature=List(Value("string")))


def _split_labels(table: Dataset, config: DataConfig) -> tuple[Dataset, bool]:
    """Return the table with its labels split at the separator, and whether that occurs."""
    separator = str(config.label_separator)
    column = config.label_column or column_named(table, CLASSES.usual, config.text_column, config.image_column)
    if column is None or column not in table.column_names or not is_string(table.features[column]):
        return table, False
    values = [value or "" for value in table[column][:]]
    lists = [[part.strip() for part in value.split(separator) if part.strip()] for value in values]
    order = table.column_names
    return _with_lists(table, str(column), lists).select_columns(order), any(separator in value for value in values)
