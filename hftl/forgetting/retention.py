"""The retention set: rows on which the base and the tuned model are compared."""

import copy
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset

from hftl.config import DataConfig
from hftl.data.load import load_rows
from hftl.data.settle import find_columns
from hftl.data.sources import read_source
from hftl.data.splits import sample
from hftl.errors import DataError
from hftl.paths import bare_name
from hftl.prepare import Prepared
from hftl.tasks import INPUTS, TASKS
from hftl.tasks.outputs.classes import labels_of
from hftl.tasks.ragged import first_windows
from hftl.tasks.task import Encoded, Inputs
from hftl.training.world import from_every_process


ROWS = 400  # enough for a ridge regression of some hundred features; two passes cost a few percent of a small run
LEAST = 30  # below, the figures would be noise
TOKENS = 64  # of each text: more rows tell more than longer ones
SEED = 0
UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Retention:
    """Rows to compare on. `encoded.targets` index the retention set's own classes, -1 where a row has none."""

    name: str
    encoded: Encoded
    kind: str  # "own": the run's own data; "given": by --retain; "stand-in": the packaged sample
    notes: tuple[str, ...] = ()
    left_out: int = 0  # rows that the run trains on


def choose_retention(ready: Prepared) -> Retention | str:
    """Return at most 400 rows of `--retain` or of the packaged sample, stratified; or why there is no such sample.

    With `--evidence quick` only a `--retain` is read. Of a set with splits it is the test split, else the first one. Rows that the run trains on are left out. All
    processes call this together and decide alike. Raises `DataError` for a `--retain` that cannot be used.
    """
    if ready.config.evidence == "quick" and ready.config.retain is None:
        return "--evidence quick does not measure it."
    name = ready.config.retain or ready.task.inputs.sample
    retention: Retention | str
    try:
        retention = _choose(name, ready)
    except DataError as error:
        kinds, mine, retention = _kinds(name), ready.task.inputs.kind, str(error)
        if kinds and mine not in kinds:  # the error says "use another task", but it is the rows that are wrong
            retention = f"the model reads {mine}s, so this must be {mine}s too, but it holds {kinds[0]}s."
    problems = [p for p in from_every_process(retention if isinstance(retention, str) else None) if p]
    if not problems:
        return retention
    if ready.config.retain:
        raise DataError(f"--retain {bare_name(name)}: {problems[0]}")
    return f"There is no retention set: {problems[0]}"


def _kinds(name: str) -> list[str]:
    """The kinds of inputs that the first table of the data holds."""
    kinds = []
    for kind, inputs in INPUTS.items():
        with suppress(DataError, StopIteration):
            if inputs.find(next(iter(read_source(name, kind).tables.values())), None):
                kinds.append(kind)
    return kinds


def _choose(name: str, ready: Prepared) -> Retention:
    # of pairs, too, it is texts by themselves that the base should still read
    inputs, config = TASKS[ready.task.name].inputs, _config(name, ready)
    rows = load_rows(inputs, config, None)
    notes = [f"Rows of the retention set that cannot be used: {len(rows.skipped)}."] if rows.skipped else []
    labels, label_notes = _labels(rows.table.select(rows.numbers), inputs, config)
    notes += label_notes
    table = rows.inputs.select_columns([*inputs.columns])
    trained, keys = set(_keys(ready.splits.train, ready.task.inputs)), _keys(table, inputs)
    fresh = np.array([i for i, key in enumerate(keys) if key is None or key not in trained], dtype=np.int64)
    left_out = len(keys) - len(fresh)
    if len(fresh) < LEAST:
        trained_on = f", beside {left_out} that the run trains on" if left_out else ""
        raise DataError(f"it has {len(fresh)} rows to look at{trained_on}; at least {LEAST} are needed.")
    codes = np.unique(labels[fresh], return_inverse=True)[1]
    sampled = fresh[sample(codes, int(codes.max()) + 1, ROWS, SEED, every_class=False)]
    processor = copy.copy(ready.loaded.processor)
    if inputs.padded:
        processor.model_max_length = min(processor.model_max_length, TOKENS)
    encoded = Encoded(first_windows(inputs.encode(table.select(sampled), processor)), labels[sampled])
    data = ready.config.data.data
    own = (isinstance(data, str) and name == data) or 2 * len(trained.intersection(keys)) >= len(trained)
    if own:
        notes.append("The retention set is the run's own data: rows like those that were trained on.")
    if left_out:
        notes.append(f"{left_out} rows of the retention set that the run trains on are left out.")
    kind = "own" if own else "given" if ready.config.retain else "stand-in"
    return Retention(bare_name(name), encoded, kind, tuple(notes), left_out)


def _keys(table: Dataset, inputs: Inputs) -> list[bytes | None]:
    return [inputs.key(value) for value in inputs.values(table)]


def _config(name: str, ready: Prepared) -> DataConfig:
    """The run's column flags hold where the retention set has such columns: it may be the same data, or other."""
    run = ready.config.data
    flags = {flag: getattr(run, flag) for flag in ("text_column", "image_column", "label_column")}
    tables = read_source(name, ready.task.inputs.kind).tables.values() if any(flags.values()) else ()
    columns = {column for table in tables for column in table.column_names}
    return DataConfig(data=name, strict=run.strict, **{k: v for k, v in flags.items() if v in columns})


def _labels(table: Dataset, inputs: Inputs, config: DataConfig) -> tuple[np.ndarray, list[str]]:
    """Return each row's class [n], -1 where it has none; without a label column that can be read, all have none."""
    none = np.full(len(table), UNLABELLED)
    given = config.label_column if config.label_column in table.column_names else None
    label = find_columns(table, inputs, replace(config, label_column=given), need_label=False).label
    if label is None:
        return none, []
    try:
        names = labels_of(table, label, "the retention set")
    except DataError as error:  # a column that was only guessed need not hold classes
        if given:
            raise
        return none, [f"No labels to probe: {error}."]
    classes = {name: i for i, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.array([UNLABELLED if name is None else classes[name] for name in names], dtype=np.int64), []
