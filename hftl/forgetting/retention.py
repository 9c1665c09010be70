"""The retention set: rows on which the base and the tuned model are compared."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset

from hftl.config import DataConfig
from hftl.data.load import find_columns, load_rows
from hftl.data.sources import read_source
from hftl.data.splits import sample
from hftl.errors import DataError
from hftl.paths import typed_path
from hftl.prepare import Prepared
from hftl.tasks import INPUTS
from hftl.tasks.outputs.classes import labels_of
from hftl.tasks.task import Encoded, Inputs
from hftl.training.world import from_every_process


ROWS = 400  # enough for a ridge regression of some hundred features; two passes cost a few percent of a small run
LEAST = 30  # below, the figures would be noise
TOKENS = 64  # of each text: more rows tell more than longer ones
SEED = 0
UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Retention:
    """Rows to compare on. `encoded.labels` index the retention set's own classes, -1 where a row has none."""

    name: str
    encoded: Encoded
    kind: str  # "own": the run's own data; "given": by --retain; "stand-in": the packaged sample
    notes: tuple[str, ...] = ()
    left_out: int = 0  # rows that the run trains on


def choose_retention(ready: Prepared) -> Retention | str:
    """Return at most 400 rows of `--retain` or of the packaged sample, stratified; or why there is no such sample.

    Of a set with splits it is the test split, else the first one. Rows that the run trains on are left out. All
    processes call this together and decide alike. Raises `DataError` for a `--retain` that cannot be used.
    """
    name = ready.config.retain or ready.task.inputs.sample
    retention: Retention | str
    try:
        retention = _choose(name, ready)
    except DataError as error:
        retention = _other_modality(name, ready) or str(error)
    problems = [p for p in from_every_process(retention if isinstance(retention, str) else None) if p]
    if not problems:
        return retention
    if ready.config.retain:
        raise DataError(f"--retain {_public_name(name)}: {problems[0]}")
    return f"There is no retention set: {problems[0]}"


def _other_modality(name: str, ready: Prepared) -> str | None:
    """What is wrong with images for a model of texts, or texts for one of images; None where it is something else.

    Reading the data says "use another task", which is right for --data: here it is the rows that are the wrong ones.
    """
    mine = ready.task.inputs
    others = [inputs.kind for inputs in INPUTS.values() if inputs is not mine and _holds(name, inputs, ready)]
    if _holds(name, mine, ready) or not others:
        return None
    return f"the model reads {mine.kind}s, so this must be {mine.kind}s too, but it holds {others[0]}s."


def _holds(name: str, inputs: Inputs, ready: Prepared) -> bool:
    """Has the first table of the data a column of that kind?"""
    try:
        config = _config(name, ready) if inputs is ready.task.inputs else DataConfig(data=name)
        table = next(iter(read_source(name, inputs.kind).tables.values()))
        return bool(find_columns(table, inputs, config, need_label=False))
    except (DataError, StopIteration):
        return False


def _choose(name: str, ready: Prepared) -> Retention:
    column = ready.task.input_column
    config = _config(name, ready)
    rows = load_rows(ready.task.inputs, config, None)
    notes = [f"{len(rows.skipped)} broken images of the retention set are left out."] if rows.skipped else []
    labels, label_notes = _labels(rows.table, ready.task.inputs, config)
    notes += label_notes
    table = rows.table.select_columns([column])
    trained = set(_keys(ready.splits.train, column))
    keys = list(_keys(table, column))
    fresh = np.array([i for i, key in enumerate(keys) if key not in trained], dtype=np.int64)
    sampled = fresh[_stratified(labels[fresh])]
    _check_enough(len(sampled), len(keys) - len(fresh))
    with _short_texts(ready.loaded.processor):
        encoded = replace(ready.task.encode(table.select(sampled), ready.loaded.processor), targets=labels[sampled])
    encoded, copies = _without_trained_pixels(encoded, ready.train)
    left_out = len(keys) - len(fresh) + copies
    _check_enough(len(encoded), left_out)
    data = ready.config.data.data
    own = (isinstance(data, str) and name == data) or 2 * len(trained & set(keys)) >= len(trained)
    if own:
        notes.append("The retention set is the run's own data: rows like those that were trained on.")
    if left_out:
        notes.append(f"{left_out} rows of the retention set that the run trains on are left out.")
    kind = "own" if own else "given" if ready.config.retain else "stand-in"
    return Retention(_public_name(name), encoded, kind, tuple(notes), left_out)


def _check_enough(rows: int, left_out: int) -> None:
    if rows < LEAST:
        trained_on = f", beside {left_out} that the run trains on" if left_out else ""
        raise DataError(f"it has {rows} rows to look at{trained_on}; at least {LEAST} are needed.")


def _public_name(name: str) -> str:
    """The name without the folders of this machine."""
    path = typed_path(name)
    return path.resolve().name if path.exists() else name


def _config(name: str, ready: Prepared) -> DataConfig:
    """The run's column flags hold where the retention set has such columns: it may be the same data, or other."""
    run = ready.config.data
    flags = {flag: getattr(run, flag) for flag in ("text_column", "image_column", "label_column")}
    named = {flag: column for flag, column in flags.items() if column is not None}
    if named:
        tables = read_source(name, ready.task.inputs.kind).tables.values()
        columns = {column for table in tables for column in table.column_names}
        named = {flag: column for flag, column in named.items() if column in columns}
    return DataConfig(data=name, strict=run.strict, **named)


def _labels(table: Dataset, inputs: Inputs, config: DataConfig) -> tuple[np.ndarray, list[str]]:
    """Return each row's class [n], -1 where it has none; without a label column that can be read, all have none."""
    none = np.full(len(table), UNLABELLED)
    given = config.label_column if config.label_column in table.column_names else None
    here = DataConfig(text_column="text", image_column="image", label_column=given)
    label = find_columns(table, inputs, here, need_label=False).label
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


def _keys(table: Dataset, column: str) -> Iterator[str]:
    """What makes a row the same row: its text but for case and spaces; its image file's path or bytes."""
    for value in table[column][:]:
        yield " ".join(value.split()).casefold() if isinstance(value, str) else _image_key(value)


def _image_key(value: dict[str, Any]) -> str:
    if value.get("bytes") is not None:
        return hashlib.sha256(value["bytes"]).hexdigest()
    return os.path.abspath(value["path"])  # noqa: PTH100  resolve() would ask the disk for every row


def _stratified(labels: np.ndarray) -> np.ndarray:
    codes = np.unique(labels, return_inverse=True)[1]
    return sample(codes, int(codes.max(initial=-1)) + 1, ROWS, SEED, every_class=False)


@contextmanager
def _short_texts(processor: Any) -> Iterator[None]:
    """Let a tokenizer cut texts at 64 tokens for a while; image processors have no such limit."""
    usual = getattr(processor, "model_max_length", None)
    if usual is None:
        yield
        return
    processor.model_max_length = min(usual, TOKENS)
    try:
        yield
    finally:
        processor.model_max_length = usual


def _without_trained_pixels(encoded: Encoded, train: Encoded) -> tuple[Encoded, int]:
    """Leave out images that the run trains on under other file names, as the model sees them."""
    if "pixels" not in encoded.arrays:
        return encoded, 0
    trained = set(_digests(train.arrays["pixels"]))
    fresh = [i for i, digest in enumerate(_digests(encoded.arrays["pixels"])) if digest not in trained]
    return encoded.take(np.array(fresh, dtype=np.int64)), len(encoded) - len(fresh)


def _digests(pixels: Iterable[np.ndarray]) -> Iterable[bytes]:
    return (hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in pixels)
