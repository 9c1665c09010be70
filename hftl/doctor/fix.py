"""What `--fix` changes: decided on all rows first, written afterwards. Test loses only rows that cannot be scored.

Rows keep the format of the source. Image files go to class folders, or beside a metadata.csv where a class's name cannot be
that of a folder or the source has more columns.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Image, Value

from hftl.atomic import check_folder, disk_errors, new_folder
from hftl.data.columns import is_list
from hftl.data.copies import copy_of
from hftl.data.files import CONLL_SUFFIXES, IMAGE_SUFFIXES
from hftl.data.images import open_image
from hftl.data.masks import NAMES_FILES, Mask
from hftl.data.written import file_rows, with_labels
from hftl.doctor.findings import NO_KEY, NO_LABEL, Records
from hftl.doctor.input_checks import copies_of, repeats
from hftl.doctor.label_checks import is_sorted, merged_names, missing_labels
from hftl.doctor.reading import Opened, as_name
from hftl.errors import DataError, RunError
from hftl.paths import typed_path
from hftl.report.statements import counted
from hftl.tasks.outputs.names import declared_in
from hftl.terminal import progress


SEED = 42  # of the order that shuffled rows get
LOG_NAME = "changes.log"
_LONGEST_NAME = 200  # bytes; file systems take 255


def check_out(out: Path, data: Any) -> None:
    """Raise `RunError` when the cleaned data could not be written there, or would get mixed up with the source."""
    if isinstance(data, (str, Path)) and typed_path(data).is_dir() and out.name not in ("", ".."):
        source, target = typed_path(data).resolve(), out.absolute().resolve()
        if source == target or source in target.parents:
            raise RunError(f"{out} lies inside the data. Give --fix a folder outside of {data}.")
    kind = "cleaned data of hftl"
    check_folder(out, "--fix", "cleaned", kind=kind, proof=LOG_NAME, marks=(LOG_NAME,), overwrite=None)


@dataclass(eq=False)
class Changes:
    """The rows that stay, their labels, and the log of what was done; `fix` fills it step by step."""

    records: Records
    stays: np.ndarray  # [n] mask
    label: np.ndarray  # [n] index into the labels, as changed
    log: list[dict[str, Any]] = field(default_factory=list)
    corrected: dict[int, Any] = field(default_factory=dict)  # by position: another label, as `Output.read` gives it

    def drop(self, positions: np.ndarray, check: str, why: str) -> None:
        """Leave these rows out and write it down."""
        for position in positions[self.stays[positions]].tolist():
            self.note(position, check, f"removed: {why}")
        self.stays[positions] = False

    def note(self, position: int, check: str, change: str) -> None:
        """Write down a change of one row."""
        split = self.records.splits[self.records.split[position]]
        self.log.append({"split": split, "row": int(self.records.row[position]), "check": check, "change": change})


def fix(opened: Opened, out: Path) -> Records:
    """Write the cleaned data and `changes.log` to the new folder `out`; return the rows as they are now.

    Splits that hftl does not use go to `unused/` as they are.

    Raises:
        RunError: `out` cannot be written; it is then not there.
    """
    changes = decide(opened.records)
    order = _order(changes)
    _write(opened, changes, order, out)
    return opened.records.take(np.concatenate(list(order.values())), changes.label)


def count_changes(records: Records) -> int:
    """Return how many changes `fix` would make."""
    changes = decide(records)
    if len(changes.records) and changes.stays.any():
        _order(changes)
    return len(changes.log)


def relabel(opened: Opened, labels: Mapping[tuple[str, int], str], out: Path) -> None:
    """Write the data with other labels, by split and row, to the new folder `out`: all rows, in their order.

    A label is given as a person types it (`Output.typed`).

    Raises:
        DataError: there is no such row, or it cannot have such a label.
        RunError: `out` cannot be written; it is then not there.
    """
    records, output = opened.records, opened.task.output
    declared = declared_in(opened.source.tables[opened.named["train"]].features.get(str(opened.columns.label)))
    known: Any = dict.fromkeys([*opened.names, *(declared or () if output.single else ())])
    if records.masks:
        known = {i for mask in records.masks if mask is not None for i in mask.ids}
    changes = Changes(records, np.ones(len(records), dtype=bool), records.label.copy())
    places = zip(records.split.tolist(), records.row.tolist(), strict=True)
    position_of = {(records.splits[split], row): position for position, (split, row) in enumerate(places)}
    for (split, row), text in labels.items():
        position = position_of.get((split, row))
        if position is None:
            raise DataError(f"{records.name} has no row {row} (counted from 0) in {split}: has it changed since?")
        (content,) = opened.task.inputs.values(opened.inputs[split].select([row]))
        value = output.typed(text, known, content)
        before = f"label {records.labels[records.label[position]]!r} " if records.label[position] != NO_LABEL else ""
        changes.note(position, "corrected", f"{before}changed to {as_name(value, output)!r}")
        changes.corrected[position] = value
    order = {split: np.flatnonzero(records.within(split)) for split in records.splits}
    _write(opened, changes, order, out)


def _write(opened: Opened, changes: Changes, order: dict[str, np.ndarray], out: Path) -> None:
    """Write the rows of each split in `order`, and the log of the changes."""
    records, source = opened.records, opened.source
    merged = np.flatnonzero((changes.label != records.label) & (changes.label != NO_LABEL)).tolist()
    values = {position: records.labels[changes.label[position]] for position in merged} | changes.corrected
    with disk_errors(out, "Give --fix another folder."), new_folder(out) as folder:
        lines = [json.dumps(entry, ensure_ascii=False) for entry in changes.log]
        (folder / LOG_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pictures = any(one.own_file for one in records.facts)
        write = _write_masks if records.masks and pictures else _write_images if pictures else _write_rows
        for split, positions in order.items():
            new = {int(records.row[p]): values[p] for p in positions.tolist() if p in values}
            write(opened, split, new, records.row[positions], folder)
        for name in set(source.tables) - set(opened.named.values()):
            unused = folder / "unused" / re.sub(r"[^\w-]+", "_", name) / "rows.parquet"
            _write_table(source.tables[name], unused)


def decide(records: Records) -> Changes:
    """Return all changes but the order of the rows."""
    changes = Changes(records, np.ones(len(records), dtype=bool), records.label.copy())
    _drop_unusable(changes)
    if records.classes:
        _merge_names(changes)
    _settle_conflicts(changes)
    _drop_repeats(changes)
    _drop_leaks(changes)
    return changes


def _drop_unusable(changes: Changes) -> None:
    """Leave out of every split what hftl would refuse or skip: rows without label, text or pixels."""
    records = changes.records
    changes.drop(records.where(lambda one: one.missing), "missing_values", f"no {records.kind.name}")
    changes.drop(missing_labels(records), "missing_values", "no label")
    for position in records.where(lambda one: one.fault is not None):
        changes.drop(np.array([position]), records.kind.check_of_faults, records.facts[position].fault)
    for position, mask in enumerate(records.masks):
        if mask is not None and mask.fault is not None:
            changes.drop(np.array([position]), "broken_masks", mask.fault)


def _merge_names(changes: Changes) -> None:
    """Give every class one spelling, that of test; spellings that test has several of stay, or it could not be scored."""
    records = changes.records
    tested = records.counts("test")
    for rare, spelling in merged_names(records).items():
        if tested[rare]:
            continue
        rows = np.flatnonzero((records.label == rare) & changes.stays)
        for position in rows.tolist():
            change = f"label {records.labels[rare]!r} changed to {records.labels[spelling]!r}"
            changes.note(position, "similar_class_names", change)
        changes.label[records.label == rare] = spelling


def _settle_conflicts(changes: Changes) -> None:
    """Of an input under several labels in a split keep the rows of the label that more than half of them have."""
    records = changes.records
    usable = changes.stays & ~records.within("test") & (records.key != NO_KEY) & (changes.label != NO_LABEL)
    positions = np.flatnonzero(usable)
    labels = pd.Series(changes.label[positions], index=positions)
    places = pd.Series(records.key * len(records.splits) + records.split)[positions]  # one number per input and split
    several = labels.groupby(places).transform("nunique") > 1
    for _, group in labels[several].groupby(places[several]):
        best, votes = Counter(group.tolist()).most_common(1)[0]
        if 2 * votes > len(group):
            rows = group.index[group != best].to_numpy()
            changes.drop(rows, "conflicting_labels", f"{votes} of {len(group)} copies have the label of the rows kept")
        else:
            changes.drop(group.index.to_numpy(), "conflicting_labels", f"no label has most of the {len(group)} copies")


def _drop_repeats(changes: Changes) -> None:
    """Keep the first of the copies in a split."""
    records = changes.records
    for split in records.splits:
        if split != "test":
            again = repeats(records, records.within(split) & changes.stays)
            changes.drop(again, "exact_duplicates", f"a row before it in {split} is the same")


def _drop_leaks(changes: Changes) -> None:
    """Leave out of train what stands in validation or test, and out of validation what stands in test."""
    records = changes.records
    for code, split in enumerate(records.splits[:-1]):
        for later in reversed(records.splits[code + 1 :]):
            rows = copies_of(records, records.within(split) & changes.stays, records.within(later) & changes.stays)
            changes.drop(rows, "cross_split_duplicates", f"is in {later} as well")


def _order(changes: Changes) -> dict[str, np.ndarray]:
    """Return the positions of each split in the order in which they are written: train shuffled when it is sorted."""
    records = changes.records
    order = {split: np.flatnonzero(records.within(split) & changes.stays) for split in records.splits}
    rows = np.concatenate(list(order.values()))
    if records.classes and not records.in_class_folders and is_sorted(records.take(rows, changes.label)):
        order["train"] = np.random.default_rng(SEED).permutation(order["train"])
        change = f"{counted(len(order['train']), 'row', 'rows')} put in a random order (seed {SEED})"
        changes.log.append({"split": "train", "row": None, "check": "sorted_rows", "change": change})
    return order


def _write_rows(opened: Opened, split: str, new: Mapping[int, Any], rows: np.ndarray, folder: Path) -> None:
    """Write rows of a split, with these labels, in the format of the source: its file as it is but for them, where it is one."""
    source, name, label = opened.source, opened.named[split], str(opened.columns.label)
    table, numbers = with_labels(source, name, label, new, opened.config), file_rows(source, name, rows.tolist())
    files = source.files.get(name, ())
    written = source.written.get(name)
    old = source.tables[name] if written is None else written.table
    spans = None if written is None else written.spans
    columns = [one for one in opened.config.label_columns or (spans or label,) if one in table.column_names]
    copy = copy_of(files[0], old, table, columns, numbers) if len(files) == 1 else None
    path = folder / f"{split}{files[0].suffix.lower() if files else '.parquet'}"
    if copy is not None:
        path.write_bytes(copy)
        return
    _write_table(table.select(numbers), path, files)


def _write_table(table: Dataset, path: Path, files: Sequence[Path] = ()) -> None:
    """Write the rows as CSV, TSV, JSON, JSON lines, CoNLL or parquet, by the suffix; empty cells are missing values.

    What stands between the columns of CoNLL is that of `files`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(str(path))
    elif path.suffix in (".csv", ".tsv"):
        frame = table.to_pandas()
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")  # type: ignore[union-attr]
    elif path.suffix in CONLL_SUFFIXES:
        between = "\t" if any(b"\t" in file.read_bytes() for file in files) else " "
        sentences = ([between.join(cells) for cells in zip(*row.values(), strict=True)] for row in table)
        path.write_text("".join("\n".join([*lines, "", ""]) for lines in sentences), encoding="utf-8")
    else:
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in table]
        whole = f"[{','.join(lines)}]\n" if path.suffix == ".json" else "".join(f"{line}\n" for line in lines)
        path.write_text(whole, encoding="utf-8")


def _write_images(opened: Opened, split: str, new: Mapping[int, Any], rows: np.ndarray, folder: Path) -> None:
    """Give the images of these rows, some with other labels, a place in folder/split/class/, bytes as they are.

    Where the source knows more of an image than its class, or a class has a name that no folder can have, they go to
    folder/split/images/ and a metadata file says the rest. Images of a split without labels lie loose in folder/split/.
    """
    home, label, source = folder / split, str(opened.columns.label), opened.named[split]
    table = with_labels(opened.source, source, label, new, opened.config).select(rows)
    inputs = opened.inputs[split].select(rows)
    written = [n for n, one in table.features.items() if isinstance(one, Value | ClassLabel) or is_list(one)]
    facts = {n: table[n][:] for n in written if n not in (*opened.columns.inputs, "file_name")}
    names = [None] * len(rows) if label not in facts else facts[label]
    if isinstance(table.features.get(label), ClassLabel):
        names = [None if code is None else table.features[label].int2str(code) for code in names]
    loose = not {*facts} - {label} and opened.config.label_column in (None, "label") and opened.task.output.single
    in_folders = loose and all(_can_be_folder(str(name)) for name in names if name is not None)
    (column,) = inputs.column_names
    paths: dict[str, Path] = {}  # in lower case, since some file systems fold case
    for row, name, image in zip(rows.tolist(), names, progress(inputs, f"writing {split}", "image"), strict=True):
        value = image[column]
        file_name = _file_name(value, row)
        path = home / (("" if name is None else str(name)) if in_folders else "images") / file_name
        if str(path).lower() in paths:
            path = path.with_name(f"{row}-{file_name}")
        paths[str(path).lower()] = path
        _copy(value, path)
    if not in_folders and paths:
        facts |= {label: names} if label in facts else {}
        cells = {"file_name": [path.relative_to(home).as_posix() for path in paths.values()], **facts}
        if any(is_list(table.features[n]) for n in facts):
            _write_table(Dataset.from_dict(cells), home / "metadata.jsonl")
        else:
            pd.DataFrame(cells, dtype=object).to_csv(home / "metadata.csv", index=False)


def _write_masks(opened: Opened, split: str, new: Mapping[int, Mask], numbers: np.ndarray, folder: Path) -> None:
    """Write the images of these rows and their masks to folder/split/images and folder/split/masks, bytes as they are.

    `new` are other masks, by row.
    A file beside the source that names the classes comes along; where it named none, the ids stay what they are.
    """
    rows, column = numbers.tolist(), str(opened.columns.label)
    table, classes = opened.source.tables[opened.named[split]], opened.source.classes
    if classes:
        (folder / NAMES_FILES[0]).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    masks = table.cast_column(column, Image(decode=False))[column] if column in table.column_names else None
    images = opened.inputs[split][opened.inputs[split].column_names[0]]
    stems: set[str] = set()
    for row in rows:
        name = Path(_file_name(images[row], row))
        stem = name.stem if name.stem.lower() not in stems else f"{row}-{name.stem}"
        stems.add(stem.lower())
        _copy(images[row], folder / split / "images" / f"{stem}{name.suffix}")
        if masks is not None:
            mask = new[row].file if row in new else masks[row]
            _copy(mask, folder / split / "masks" / f"{stem}{Path(mask['path'] or '').suffix or '.png'}")


def _copy(value: dict[str, Any], path: Path) -> None:
    """Write an image to `path`: another name of its file, or its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if value["bytes"] is None:
        _link(Path(value["path"]), path)
    else:
        path.write_bytes(value["bytes"])


def _link(source: Path, path: Path) -> None:
    """Make `path` another name of the file `source`, or a copy of it where the disk gives no second name."""
    try:
        os.link(source.resolve(), path)
    except OSError:
        path.write_bytes(source.read_bytes())


def _can_be_folder(name: str) -> bool:
    """Tell whether a folder of that name is read back as that class."""
    bad = name.startswith((".", "__")) or name != name.strip() or name.endswith(".")
    return not bad and not set(name) & set('/\\:*?"<>|\0\n\r') and len(name.encode()) <= _LONGEST_NAME


def _file_name(value: dict[str, Any], row: int) -> str:
    """Return the file's own name, or its row number with the suffix of its format."""
    path = Path(value["path"] or "")
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
        return path.name
    suffix = f".{open_image(value).format}".lower()
    return f"{row}{suffix if suffix in IMAGE_SUFFIXES else '.png'}"
