"""Writes cleaned data to a new folder, whole or absent: rows in the format of the source, image files in folders."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Value

from hftl.data.images import METADATA_NAMES
from hftl.data.sources import DATA_SUFFIXES
from hftl.data.splits import split_of
from hftl.doctor.fix_images import lie_in_files, write_images
from hftl.doctor.reading import Opened
from hftl.doctor.records import NO_LABEL, Records
from hftl.errors import RunError
from hftl.paths import typed_path


LOG_NAME = "changes.log"


def partial_of(out: Path) -> Path:
    """Return the folder in which the cleaned data are being written."""
    return out.with_name(out.name + ".partial")


def check_out(out: Path, data: Any) -> None:
    """Raise `RunError` when the cleaned data could not be written there, or would get mixed up with the source."""
    for name in (out, partial_of(out)) if out.name else (out,):
        typed_path(name)  # a name may be too long for the second alone
    if out.name in ("", ".."):
        raise RunError(f"{out} is no folder to make. Give --fix a name, such as cleaned.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already. Give --fix the name of a new folder.")
    if isinstance(data, (str, Path)) and typed_path(data).is_dir():
        source, target = typed_path(data).resolve(), out.absolute().resolve()
        if source == target or source in target.parents:
            raise RunError(f"{out} lies inside the data. Give --fix a folder outside of {data}.")
    unfinished = partial_of(out)
    if unfinished.exists() and not (unfinished / LOG_NAME).is_file():
        raise RunError(f"{unfinished} is in the way. Give --fix another name, or remove that folder.")


def write_fixed(
    opened: Opened, label: np.ndarray, order: dict[str, np.ndarray], log: list[dict[str, Any]], out: Path
) -> None:
    """Write each split's rows in the given order with the labels [n], and the log, to `out`.

    Splits that hftl does not use go to `unused/` as they are. Raises `RunError` when it cannot be written.
    """
    folder = partial_of(out)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        lines = [json.dumps(entry, ensure_ascii=False) for entry in log]
        (folder / LOG_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        write = write_images if lie_in_files(opened) else _write_rows
        for split, positions in order.items():
            write(opened, split, positions, label, folder)
        for name in set(opened.source.tables) - set(opened.named.values()):
            _write_table(
                opened.source.tables[name], folder / "unused" / re.sub(r"[^\w-]+", "_", name) / "rows.parquet"
            )
        if out.exists():
            out.rmdir()
        folder.rename(out)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunError(f"{out} cannot be written: {error.strerror or error}. Give --fix another folder.") from None
    except BaseException:  # Ctrl-C, no memory: nothing half done stays behind
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_rows(opened: Opened, split: str, positions: np.ndarray, label: np.ndarray, folder: Path) -> None:
    records = opened.records
    table = opened.source.tables[opened.named[split]].select(records.row[positions])
    column = str(opened.columns.label)
    if column in table.column_names and split != "test":
        table = _relabelled(table, column, records, positions, label)
    _write_table(table, folder / f"{split}{_suffix(opened, split)}")


def _relabelled(table: Dataset, column: str, records: Records, positions: np.ndarray, label: np.ndarray) -> Dataset:
    """Return the table with its labels as changed; where none did, as it is.

    A ClassLabel loses the spellings that are gone, unless there is a test split, whose feature it has to agree with.
    """
    feature = table.features[column]
    is_name = isinstance(feature, ClassLabel) or (isinstance(feature, Value) and "string" in feature.dtype)
    if np.array_equal(label, records.label) or not is_name:  # numbers and bools have one spelling
        return table
    values: list[Any] = [None if code == NO_LABEL else records.labels[code] for code in label[positions]]
    if isinstance(feature, ClassLabel):
        gone = (
            set()
            if "test" in records.splits
            else {records.labels[code] for code in set(records.label.tolist()) - set(label.tolist())}
        )
        feature = ClassLabel(names=[name for name in feature.names if name not in gone])
        values = [None if name is None else feature.str2int(name) for name in values]
    changed = table.remove_columns(column).add_column(column, values, feature=feature)  # type: ignore[arg-type]
    return changed.select_columns(table.column_names)


def _suffix(opened: Opened, split: str) -> str:
    """Return the suffix of the file that the split came from; parquet for what was no such file."""
    path = typed_path(opened.data) if isinstance(opened.data, (str, Path)) else Path()
    if path.is_file():
        return path.suffix.lower()
    if (
        not path.is_dir()
        or path == Path()
        or (path / "dataset_dict.json").is_file()
        or (path / "state.json").is_file()
    ):
        return ".parquet"
    files = [file for pattern in ("*", "*/*") for file in sorted(path.glob(pattern)) if not file.name.startswith(".")]
    rows = [file for file in files if file.suffix.lower() in DATA_SUFFIXES and file.name not in METADATA_NAMES]
    named = [file for file in rows if split in (split_of(file.stem), split_of(file.parent.name))]
    return (named or rows)[0].suffix.lower() if rows else ".parquet"


def _write_table(table: Dataset, path: Path) -> None:
    """Write the rows as CSV, TSV, JSON, JSON lines or parquet, by the suffix; empty cells are missing values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(str(path))
    elif path.suffix in (".csv", ".tsv"):
        frame = table.to_pandas()
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")  # type: ignore[union-attr]
    else:
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in table]
        whole = f"[{','.join(lines)}]\n" if path.suffix == ".json" else "".join(f"{line}\n" for line in lines)
        path.write_text(whole, encoding="utf-8")
