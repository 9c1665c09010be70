"""From a source of data to `Splits` to learn from, or to `Rows` to predict and evaluate.

Everything that can be wrong with the data is found here, before a model is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets

from hftl.config import DataConfig
from hftl.data.bad_rows import NO_LABEL, counted_rows, refusal
from hftl.data.columns import arrow_table, group_values, quoted, slice_values
from hftl.data.files import data_errors
from hftl.data.settle import Columns, as_lists, as_usual, find_columns, settle_task, train_of
from hftl.data.sources import read_source
from hftl.data.splits import Rows, Source, Splits, cut, joined, pick_shots, recognise_splits, sample, together
from hftl.errors import DataError
from hftl.tasks import CLASSES, INPUTS, TASKS
from hftl.tasks.task import Inputs, Output, Task


_ROWS = 1024  # inputs in memory at a time


@dataclass(frozen=True)
class _Part:
    """The rows of one split, before labels become targets."""

    inputs: Dataset  # the canonical input columns alone
    values: list[Any]  # of the label column, by `Output.read`
    rows: np.ndarray
    slices: list[str] | None  # values of --slice_column, of all rows of the source
    groups: list[str | None] | None  # values of --group_column


def load_task(name: str, config: DataConfig, draw_seed: int | None = None) -> tuple[Task, Splits]:
    """Load labelled data for the task called `name`, with the inputs and the output that its columns speak for.

    The other arguments, and what it raises, are those of `load_splits`.
    """
    with data_errors(config.data):
        source = as_lists(read_source(config.data, TASKS[name].inputs.kind), config)
        task = settle_task(name, source.tables[train_of(source)["train"]], config)
        output = _asked(task.output, config, source)
        return replace(task, output=output), _Loading(task.inputs, output, config).splits(source, draw_seed)


def load_splits(
    inputs: Inputs | str, config: DataConfig, draw_seed: int | None = None, output: Output = CLASSES
) -> Splits:
    """Load labelled data as train, validation and test, cutting from train what the source lacks.

    `inputs` says what the rows are, also by its kind, such as "text"; `output` what is to be learnt. `draw_seed` draws
    the rows of `--shots`: by default the seed that cuts the splits. Raises `DataError` when the data cannot be found,
    read or learnt from; one line names the cause and the fix.
    """
    inputs = INPUTS[inputs] if isinstance(inputs, str) else inputs
    with data_errors(config.data):
        source = as_lists(read_source(config.data, inputs.kind), config)
        return _Loading(inputs, _asked(output, config, source), config).splits(source, draw_seed)


def _asked(output: Output, config: DataConfig, source: Source) -> Output:
    """Return the output as the flags and the source have it."""
    return output if output.asked is None else output.asked(config, source.classes)  # type: ignore[no-any-return]


def load_rows(
    inputs: Inputs | str,
    config: DataConfig,
    labels: Sequence[str] | None,
    output: Output = CLASSES,
    usual: DataConfig | None = None,
) -> Rows:
    """Load one table to predict (`labels` None) or to evaluate against `labels`.

    Of several splits it is test, else the first one. `usual` names the columns that the model was trained on: they
    count where `config` says nothing else and the table has them. Raises `DataError` when the data cannot be found or
    read, or hold a label that is not among `labels`.
    """
    inputs = INPUTS[inputs] if isinstance(inputs, str) else inputs
    with data_errors(config.data):
        source = read_source(config.data, inputs.kind)
        config = config if usual is None else as_usual(config, usual, source)
        return _Loading(inputs, output, config).rows(source, labels)


def read_values(
    source: Source, name: str, columns: Columns, known: set[Any] | None, output: Output = CLASSES
) -> list[Any]:
    """Return the label column of one split, a value or None for every row; an empty list where it has no such column.

    `known` are the values of train, None for train itself. Raises `DataError` for a split without inputs.
    """
    table, label = source.tables[name], str(columns.label)
    for column in columns.inputs:
        if column not in table.column_names:
            have = ", ".join(table.column_names)
            raise DataError(f"{name} has no column {column!r}, which the train split has; it has: {have}")
    return list(output.read(table, label, name, known)) if label in table.column_names else []


@dataclass(frozen=True)
class _Loading:
    """What every step of loading needs to know."""

    inputs: Inputs
    output: Output
    config: DataConfig

    def splits(self, source: Source, draw_seed: int | None) -> Splits:
        named = train_of(source)
        train = source.tables[named["train"]]
        columns = find_columns(train, self.inputs, self.config, need_label=True, output=self.output)
        empty = source.empty_classes.get(named["train"]) if self.output.keep is None else None
        if empty:
            folders = f"class folder{'s' if len(empty) > 1 else ''} {quoted(empty)} of {named['train']}"
            raise DataError(f"{source.name}: no images in the {folders}: fill or remove")
        skipped: list[str] = []
        bad: dict[str, dict[int, str]] = {}
        notes = list(source.warnings)
        parts: dict[str, _Part] = {}
        for split in sorted(named, key=lambda split: split != "train"):  # train says what labels are called
            known = set(parts["train"].values) if parts else None
            part = self._part(source, named[split], columns, known, skipped, bad)
            if part is not None:
                parts[split] = part
            elif split == "train":
                why = next((f": row {row} is {why}" for row, why in source.faults.get(named[split], {}).items()), "")
                raise DataError(f"{source.name}: {named[split]} has no labelled rows{why}")
            else:
                notes.append(f"the split {named[split]!r} has no labels and is left out")
        notes += self._judge(source, bad, [part.rows for part in parts.values()])
        if skipped:
            notes.append(f"{len(skipped)} broken images are left out; the first: {skipped[0]}")
        label = str(columns.label)
        values = {split: part.values for split, part in parts.items()}
        labels, remarks = self.output.names(values, train.features[label], label)
        tables, origins = self._cut_and_sample(parts, named, labels, draw_seed)
        remarks = [*remarks, *self._shared_groups(parts, named)]
        facts = {"labels": labels, "name": source.name, "origins": origins}
        whole = {split: named[split] for split, part in parts.items() if len(tables[split]) == len(part.rows)}
        said: dict[str, Any] = {
            "skipped": tuple(skipped),
            "warnings": (*notes, *remarks),
            "readings": tuple(source.warnings),
        }
        return Splits(**tables, **facts, **said, whole=whole)

    def _part(
        self,
        source: Source,
        name: str,
        columns: Columns,
        known: set[Any] | None,
        skipped: list[str],
        bad: dict[str, dict[int, str]],
    ) -> _Part | None:
        """Read the rows of one split that can be used; None when it has no labels at all, as test splits of the Hub."""
        table = source.tables[name]
        values = read_values(source, name, columns, known, self.output)
        if not any(value is not None for value in values):
            return None
        inputs, rows, bad[name], broken = self._usable(source, name, columns, values, refuse_numbers=True)
        skipped += broken.values()
        usable = [values[row] for row in rows]
        lost = sorted({*values} - {*usable, None}) if self.output.single else []
        if usable and lost and (not bad[name] or self.config.skip_bad_rows):
            row, why = next((row, why) for row, why in (broken | bad[name]).items() if values[row] == lost[0])
            raise DataError(
                f"{name}: no row of the class {quoted(lost[:1])} can be used, such as row {row}, counted from 0: {why}. "
                "Replace them, or remove the class"
            )
        slices = slice_values(table, self.config.slice_column, name)
        groups = group_values(table, self.config.group_column, name)
        return _Part(inputs, usable, rows, slices, groups and [groups[row] for row in rows])

    def _usable(
        self,
        source: Source,
        name: str,
        columns: Columns,
        values: Sequence[Any] | None,
        *,
        refuse_numbers: bool = False,
    ) -> tuple[Dataset, np.ndarray, dict[int, str], dict[int, str]]:
        """Return the canonical inputs of the rows that can be used, and their numbers.

        And why the others cannot, by number: those that have to be seen to, and broken images, which are left out. `values`
        are the labels, None where there are none to heed.
        """
        table, base = source.tables[name], source.base_of(name)
        faults = "refuse" if self.config.strict else "skip"
        inputs, rows, why = self.inputs.read(table, columns.inputs, base, name, faults, refuse_numbers)
        bad, broken = ({}, why) if self.inputs.lenient else (dict(why), {})
        if values is not None and broken and not len(rows):
            first = next(iter(broken.values()))
            raise DataError(f"none of the {len(table)} {self.inputs.kind}s of {name} can be read; the first: {first}")
        if values is not None:
            lacks = self.output.words.get("lacks", NO_LABEL)
            names = table["file_name"][:] if "file_name" in table.column_names else []
            lacking = [row for row, value in enumerate(values) if value is None]
            bad |= {row: f"{lacks}: {names[row]}" if names else lacks for row in lacking} | source.faults.get(name, {})
            if self.output.fits is not None:
                unfit = self.output.fits(inputs, [values[row] or () for row in rows])
                bad = {int(rows[at]): reason for at, reason in unfit.items()} | bad
        good = np.flatnonzero([row not in bad for row in rows.tolist()])
        return inputs if len(good) == len(rows) else inputs.select(good), rows[good], dict(sorted(bad.items())), broken

    def _judge(self, source: Source, bad: dict[str, dict[int, str]], rows: Sequence[np.ndarray]) -> list[str]:
        """Return a note of the bad rows that are left out. Raises `DataError` when they are not to be, or no other is there."""
        if not any(bad.values()):
            return []
        if not self.config.skip_bad_rows or not all(map(len, rows)):
            raise DataError(refusal(source, bad, self.config))
        total = sum(len(source.tables[name]) for name in bad)
        return [f"Left out by --skip_bad_rows: {counted_rows(bad, total)}."]

    def _cut_and_sample(
        self, parts: dict[str, _Part], named: dict[str, str], labels: tuple[str, ...], draw_seed: int | None
    ) -> tuple[dict[str, Dataset], dict[str, str]]:
        """Cut test, then validation, off train where they are missing; then sample down to the limits."""
        config = self.config
        draw_seed = config.seed if draw_seed is None else draw_seed
        targets = {split: self.output.encode(part.values, labels) for split, part in parts.items()}
        strata = {split: self._strata(values, labels)[0] for split, values in targets.items()}
        classes = self._strata(targets["train"], labels)[1]
        rows = {split: np.arange(len(values)) for split, values in targets.items()}
        origins = {split: f"the source's {named[split]} split" for split in parts}
        home = {split: split for split in parts}
        keys: list[Any] = []  # equal for rows that hold the same input, so that copies are kept together
        if not {"test", "validation"} <= parts.keys():
            inputs = parts["train"].inputs
            batches = (inputs.select(range(i, min(i + _ROWS, len(inputs)))) for i in range(0, len(inputs), _ROWS))
            keys = [self.inputs.key(row) for batch in batches for row in self.inputs.values(batch)]
        groups = parts["train"].groups
        keys = joined(groups, keys).tolist() if groups is not None and keys else keys
        for stage, (split, share) in enumerate((("test", config.test_size), ("validation", config.validation_size))):
            if split in parts:
                continue
            here = rows["train"]
            units = None if groups is None else np.array(keys)[here]
            left, taken = cut(strata["train"][here], classes, share, config.seed + stage, units)
            rows["train"], rows[split] = together(here[left], here[taken], keys)
            home[split] = "train"
            what = f"{share:.0%}" if groups is None else f"{share:.0%} of its groups"
            origins[split] = f"cut from train: {what}, stratified, seed {config.seed}"
            origins["train"] = f"the source's {named['train']} split, less what was cut off"
        tables = {}
        for split in ("train", "validation", "test"):
            here, ids = rows[split], strata[home[split]][rows[split]]
            limit = config.max_train_samples if split == "train" else config.max_eval_samples
            seed = config.seed if split != "train" or config.draw_seed is None else config.draw_seed
            sampled = sample(ids, classes, limit, seed + 2, every_class=split == "train")
            if len(sampled) < len(here):
                origins[split] += f"; {len(sampled)} of {len(here)} rows, stratified, seed {seed}"
            if split == "train" and config.shots is not None:
                if not self.output.single:
                    raise DataError(
                        f"shots are so many rows of every class, and here a row has {self.output.words['names']} and not one "
                        "class: use --max_train_samples, which keeps a row of every one"
                    )
                sampled = sampled[pick_shots(ids[sampled], labels, config.shots, draw_seed)]
                origins[split] += f"; {config.shots} rows of every class, seed {draw_seed}"
            tables[split] = _labelled(parts[home[split]], targets[home[split]], here[sampled])
        return tables, origins

    def _shared_groups(self, parts: dict[str, _Part], named: dict[str, str]) -> list[str]:
        """Return a note for each split of the source that holds rows of groups which one before it has too."""
        notes, before = [], set[str | None]()
        for split, part in parts.items():
            again = [group for group in part.groups or () if group is not None and group in before]
            before.update(part.groups or ())
            count = f"{len(again)} rows of {named[split]!r} are of {len({*again})} groups"
            notes += (
                [f"{count} that a split before it has too (--group_column): expect less of new ones"] if again else []
            )
        return notes

    def _strata(self, targets: Any, labels: Sequence[str]) -> tuple[np.ndarray, int]:
        """Return the stratum of every row, and how many there are."""
        if self.output.strata is None:
            return np.zeros(len(targets), dtype=np.int64), 1
        return self.output.strata(targets, labels)  # type: ignore[no-any-return]

    def rows(self, source: Source, labels: Sequence[str] | None) -> Rows:
        source = as_lists(source, self.config, cut=False) if labels is not None else source
        named = recognise_splits(list(source.tables))
        name = named.get("test") or next(iter(source.tables), None)
        if name is None or not len(source.tables[name]):
            raise DataError(f"{source.name} is empty: it has no rows")
        if labels is None and name in source.loose:
            whole = concatenate_datasets([source.tables[name], source.loose[name]])
            source = replace(source, tables={**source.tables, name: whole})
        table = source.tables[name]
        columns = find_columns(table, self.inputs, self.config, need_label=labels is not None, output=self.output)
        label, output = str(columns.label), _asked(self.output, self.config, source)
        where = name if len(source.tables) > 1 else source.name
        values = None if labels is None else output.read(table, label, where, labels)
        inputs, rows, bad, broken = self._usable(source, name, columns, values)
        targets = None
        if values is not None and labels is not None:
            self._judge(source, {name: bad}, [rows])
            targets = output.recognise([values[row] for row in rows], labels, where, label)
            if self.config.max_eval_samples is not None:
                limit, seed = self.config.max_eval_samples, self.config.seed + 2
                sampled = sample(*self._strata(targets, labels), limit, seed, every_class=False)
                inputs, rows, targets = inputs.select(sampled), rows[sampled], targets[sampled]
        lines = [*broken.values(), *(f"row {row}: {why}" for row, why in bad.items())]
        return Rows(table, inputs, rows, targets, tuple(lines))


def _labelled(part: _Part, targets: Any, rows: np.ndarray) -> Dataset:
    """Return the rows numbered `rows` with their inputs, targets and row numbers."""
    inputs = part.inputs.select(rows)
    table = inputs.with_format("arrow")[:]  # a chunk for every row
    labels = pa.array(list(targets[rows]))
    columns: dict[str, Any] = {}
    for column in inputs.column_names:
        values = table.column(column)
        columns[column] = values.combine_chunks() if pa.types.is_string(values.type) else values  # no copy of pictures
    label = Features.from_arrow_schema(pa.schema({"label": labels.type}))["label"]
    features = {**inputs.features, "label": label, "row": Value("int64")}
    columns |= {"label": labels, "row": part.rows[rows]}
    if part.slices is not None:
        features["slice"] = Value("string")
        columns["slice"] = pa.array([part.slices[row] for row in part.rows[rows]], pa.string())
    return arrow_table(columns, features)
