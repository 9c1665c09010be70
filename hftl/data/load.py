"""From a source of data to `Splits` to learn from, or to `Rows` to predict and evaluate.

Everything that can be wrong with the data is found here, before a model is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Value

from hftl.config import DataConfig
from hftl.data.columns import (
    IMAGE_NAMES,
    arrow_table,
    column_named,
    columns_line,
    quoted,
    refuse_missing,
    slice_values,
)
from hftl.data.sources import Source, data_errors, read_source
from hftl.data.splits import Rows, Splits, cut, pick_shots, recognise_splits, sample, together
from hftl.errors import DataError, did_you_mean
from hftl.tasks import CLASSES, INPUTS, TASKS
from hftl.tasks.task import Inputs, Output


_ROWS = 1024  # inputs in memory at a time


@dataclass(frozen=True)
class Columns:
    """The names of the columns that matter."""

    input: str
    label: str | None


@dataclass(frozen=True)
class _Part:
    """The rows of one split, before labels become targets."""

    inputs: Dataset  # the canonical input column alone
    values: list[Any]  # of the label column, by `Output.read`
    rows: np.ndarray
    slices: list[str] | None  # values of --slice_column


def find_columns(
    table: Dataset, inputs: Inputs | str, config: DataConfig, need_label: bool, output: Output = CLASSES
) -> Columns:
    """Find the input column and the label column: as the config says, else by name, else by type.

    Raises:
        DataError: a column is missing; the message names those that there are.
    """
    inputs = INPUTS[inputs] if isinstance(inputs, str) else inputs
    kind = inputs.kind
    named = getattr(config, f"{kind}_column")
    if named is not None:
        _check_named(table, named, f"{kind}_column")
    if config.label_column is not None and (need_label or config.label_column in table.column_names):
        _check_named(table, config.label_column, "label_column")
    label = config.label_column or column_named(table, output.usual, named)
    column = named or inputs.find(table, label)
    if column is None:
        others = [t.name for t in TASKS.values() if t.inputs.kind != kind and t.inputs.find(table, label)]
        other = f" If this is the data you mean, use the task {others[0]}" if others else ""
        raise DataError(
            f"no {kind} column found; {columns_line(table)}. Name it with {kind}_column (--{kind}-column).{other}"
        )
    if column == label:
        raise DataError(f"the column {column!r} cannot be both the {kind} and the label: {columns_line(table)}")
    if label is None:
        label = _label_by_type(table, column)
    if label is None and need_label:
        raise DataError(f"no label column found; {columns_line(table)}. Name it with label_column (--label-column)")
    return Columns(column, label)


def _check_named(table: Dataset, column: str, option: str) -> None:
    if column not in table.column_names:
        raise DataError(
            f"{option}: there is no column {column!r}; {columns_line(table)}.{did_you_mean(column, table.column_names)}"
        )


def _label_by_type(table: Dataset, column: str) -> str | None:
    """Return the only ClassLabel, else the only column that is left."""
    left = [name for name in table.column_names if name != column]
    classes = [name for name in left if isinstance(table.features[name], ClassLabel)]
    if len(classes) == 1:
        return classes[0]
    return left[0] if len(left) == 1 and left[0].lower() not in IMAGE_NAMES else None


def load_splits(
    inputs: Inputs | str, config: DataConfig, draw_seed: int | None = None, output: Output = CLASSES
) -> Splits:
    """Load labelled data as train, validation and test, cutting from train what the source lacks.

    Args:
        inputs: what the rows are, or its kind, such as "text".
        config: the data and how to read and split it.
        draw_seed: draws the rows of `--shots`; by default the seed that cuts the splits.
        output: what is to be learnt.

    Raises:
        DataError: the data cannot be found, read or learnt from; one line names the cause and the fix.
    """
    inputs = INPUTS[inputs] if isinstance(inputs, str) else inputs
    with data_errors(config.data):
        return _Loading(inputs, output, config).splits(config.seed if draw_seed is None else draw_seed)


def load_rows(
    inputs: Inputs | str, config: DataConfig, labels: Sequence[str] | None, output: Output = CLASSES
) -> Rows:
    """Load one table to predict (`labels` None) or to evaluate against `labels`.

    Of several splits it is test, else the first one.

    Raises:
        DataError: the data cannot be found or read, or holds a label that is not among `labels`.
    """
    inputs = INPUTS[inputs] if isinstance(inputs, str) else inputs
    with data_errors(config.data):
        return _Loading(inputs, output, config).rows(labels)


def train_of(source: Source) -> dict[str, str]:
    """Return the source's names for train, validation and test. Raises `DataError` without a train split with rows."""
    named = recognise_splits(list(source.tables))
    if "train" not in named:
        have = ", ".join(source.tables) or "none"
        raise DataError(f"{source.name} has no train split; its splits are: {have}. Call one 'train'")
    if not len(source.tables[named["train"]]):
        raise DataError(f"{source.name} is empty: {named['train']} has no rows")
    return named


@dataclass(frozen=True)
class _Loading:
    """What every step of loading needs to know."""

    inputs: Inputs
    output: Output
    config: DataConfig

    def splits(self, draw_seed: int) -> Splits:
        source = read_source(self.config.data, self.inputs.kind)
        named = train_of(source)
        train = source.tables[named["train"]]
        columns = find_columns(train, self.inputs, self.config, need_label=True, output=self.output)
        empty = source.empty_classes.get(named["train"])
        if empty:
            raise DataError(
                f"{source.name}: no images in the class folder{'s' if len(empty) > 1 else ''} "
                f"{quoted(empty)} of {named['train']}: fill or remove"
            )
        skipped: list[str] = []
        notes = list(source.warnings)
        parts: dict[str, _Part] = {}
        for split, name in sorted(
            named.items(), key=lambda item: item[0] != "train"
        ):  # train says what labels are called
            known = set(parts["train"].values) if "train" in parts else None
            part = self._part(source, name, columns, known, skipped)
            if part is not None:
                parts[split] = part
            elif split == "train":
                raise DataError(f"{source.name}: {name} has no labelled rows")
            else:
                notes.append(f"the split {name!r} has no labels and is left out")
        if skipped:
            notes.append(f"{len(skipped)} broken images are left out; the first: {skipped[0]}")
        label = str(columns.label)
        values = {split: part.values for split, part in parts.items()}
        labels, remarks = self.output.names(values, train.features[label], label)
        tables, origins = self._cut_and_sample(parts, named, labels, draw_seed)
        return Splits(
            **tables,
            labels=labels,
            name=source.name,
            origins=origins,
            skipped=tuple(skipped),
            warnings=(*notes, *remarks),
            whole={split: named[split] for split, part in parts.items() if len(tables[split]) == len(part.rows)},
        )

    def _part(
        self, source: Source, name: str, columns: Columns, known: set[Any] | None, skipped: list[str]
    ) -> _Part | None:
        """Read one split; None when it has no labels at all (as test splits on the Hub often have)."""
        table, label = source.tables[name], str(columns.label)
        if columns.input not in table.column_names:
            have = ", ".join(table.column_names)
            raise DataError(f"{name} has no column {columns.input!r}, which the train split has; it has: {have}")
        values = self.output.read(table, label, name, known) if label in table.column_names else []
        if not any(value is not None for value in values):
            return None
        refuse_missing(values, label, name)
        inputs, rows, broken = self._read(source, name, columns.input, True)
        skipped += broken
        usable = [values[row] for row in rows]
        lost = sorted({*values} - {*usable}) if self.output.strata else []
        if lost:
            left_out = np.setdiff1d(np.arange(len(values)), rows).tolist()  # `broken` has a line for each
            first = next(line for row, line in zip(left_out, broken, strict=True) if values[row] == lost[0])
            raise DataError(
                f"{name}: all images of the class {quoted(lost[:1])} are broken, such as {first}. "
                "Replace them, or remove the class"
            )
        slices = slice_values(table, self.config.slice_column, name)
        return _Part(inputs, usable, rows, None if slices is None else [slices[row] for row in rows])

    def _read(
        self, source: Source, name: str, column: str, refuse_numbers: bool
    ) -> tuple[Dataset, np.ndarray, list[str]]:
        """Return the canonical input column of the rows that can be used, their row numbers, and what was left out."""
        table, base = source.tables[name], source.base_of(name)
        inputs, rows, skipped = self.inputs.read(table, column, base, name, self.config, refuse_numbers)
        return inputs, rows, skipped

    def _cut_and_sample(
        self, parts: dict[str, _Part], named: dict[str, str], labels: tuple[str, ...], draw_seed: int
    ) -> tuple[dict[str, Dataset], dict[str, str]]:
        """Cut test, then validation, off train where they are missing; then sample down to the limits."""
        config = self.config
        targets = {split: self.output.encode(part.values, labels) for split, part in parts.items()}
        strata = {split: self._strata(values, labels)[0] for split, values in targets.items()}
        classes = self._strata(targets["train"], labels)[1]
        rows = {split: np.arange(len(values)) for split, values in targets.items()}
        origins = {split: f"the source's {named[split]} split" for split in parts}
        home = {split: split for split in parts}
        keys = self._keys(parts["train"].inputs) if not {"test", "validation"} <= parts.keys() else []
        for stage, (split, share) in enumerate((("test", config.test_size), ("validation", config.validation_size))):
            if split in parts:
                continue
            here = rows["train"]
            left, taken = cut(strata["train"][here], classes, share, config.seed + stage)
            rows["train"], rows[split] = together(here[left], here[taken], keys)
            home[split] = "train"
            origins[split] = f"cut from train: {share:.0%}, stratified, seed {config.seed}"
            origins["train"] = f"the source's {named['train']} split, less what was cut off"
        tables = {}
        for split in ("train", "validation", "test"):
            here, ids = rows[split], strata[home[split]][rows[split]]
            limit = config.max_train_samples if split == "train" else config.max_eval_samples
            sampled = sample(ids, classes, limit, config.seed + 2, every_class=split == "train")
            if len(sampled) < len(here):
                origins[split] += f"; {len(sampled)} of {len(here)} rows, stratified, seed {config.seed}"
            if split == "train" and config.shots is not None:
                if self.output.strata is None:
                    raise DataError(f"shots are rows of every class, and a {self.output.kind} has none: leave it out")
                sampled = sampled[pick_shots(ids[sampled], labels, config.shots, draw_seed)]
                origins[split] += f"; {config.shots} rows of every class, seed {draw_seed}"
            tables[split] = _labelled(parts[home[split]], targets[home[split]], here[sampled])
        return tables, origins

    def _strata(self, targets: Any, labels: Sequence[str]) -> tuple[np.ndarray, int]:
        """Return the stratum of every row, and how many there are."""
        return (
            self.output.strata(targets, labels) if self.output.strata else (np.zeros(len(targets), dtype=np.int64), 1)
        )

    def _keys(self, inputs: Dataset) -> list[bytes | None]:
        """Return what is equal for rows that hold the same input, so that copies are kept together."""
        (column,) = inputs.column_names
        batches = (inputs[start : start + _ROWS][column] for start in range(0, len(inputs), _ROWS))
        return [self.inputs.key(row) for batch in batches for row in batch]

    def rows(self, labels: Sequence[str] | None) -> Rows:
        source = read_source(self.config.data, self.inputs.kind)
        named = recognise_splits(list(source.tables))
        name = named.get("test") or next(iter(source.tables), None)
        if name is None or not len(source.tables[name]):
            raise DataError(f"{source.name} is empty: it has no rows")
        table = source.tables[name]
        columns = find_columns(table, self.inputs, self.config, need_label=labels is not None, output=self.output)
        targets = None
        if labels is not None:
            label = str(columns.label)
            targets = self.output.recognise(self.output.read(table, label, name, labels), labels, name, label)
        inputs, rows, skipped = self._read(source, name, columns.input, False)
        if targets is not None and labels is not None and self.config.max_eval_samples is not None:
            limit, seed = self.config.max_eval_samples, self.config.seed + 2
            sampled = sample(*self._strata(targets[rows], labels), limit, seed, every_class=False)
            inputs, rows = inputs.select(sampled), rows[sampled]
        joined = _beside(table.select(rows), columns.input, inputs)
        return Rows(joined, None if targets is None else targets[rows].tolist(), tuple(skipped))


def _labelled(part: _Part, targets: np.ndarray, rows: np.ndarray) -> Dataset:
    """Return the rows numbered `rows` with their inputs, targets and row numbers."""
    inputs = part.inputs.select(rows)
    (column,) = inputs.column_names
    table = inputs.with_format("arrow")[:]  # a chunk for every row
    if pa.types.is_string(table.schema.field(column).type):  # pictures are not copied
        table = table.combine_chunks()
    array, labels = table.column(column), pa.array(list(targets[rows]))
    label = Features.from_arrow_schema(pa.schema({"label": labels.type}))["label"]
    features = {column: inputs.features[column], "label": label, "row": Value("int64")}
    columns = {column: array, "label": labels, "row": part.rows[rows]}
    if part.slices is not None:
        features["slice"] = Value("string")
        columns["slice"] = pa.array([part.slices[row] for row in rows], pa.string())
    return arrow_table(columns, features)


def _beside(others: Dataset, column: str, inputs: Dataset) -> Dataset:
    """Return the columns of the source with the canonical input column in the place of `column`, its name."""
    (name,) = inputs.column_names
    order = others.column_names
    if column == name:
        others = others.remove_columns([name])
    else:
        if name in order:
            others = others.rename_column(name, f"original_{name}")
        order = [*others.column_names, name]
    arrow = others.with_format("arrow")[:] if others.column_names else None
    arrays = {key: arrow.column(key) for key in others.column_names} if arrow is not None else {}
    arrays[name] = inputs.with_format("arrow")[:].column(name)
    return arrow_table({key: arrays[key] for key in order}, {**others.features, **inputs.features})
