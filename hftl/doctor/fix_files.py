"""Writes cleaned data to a new folder that appears only when it is complete.

Rows keep the format of the source. Image files go to class folders, or beside a metadata.csv where a class's name cannot be
that of a folder.
"""

import csv
import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Value
from PIL import Image as PILImage

from hftl.atomic import new_folder, partial_of
from hftl.data.images import IMAGE_SUFFIXES, METADATA_NAMES
from hftl.data.sources import DATA_SUFFIXES
from hftl.data.splits import split_of
from hftl.doctor.findings import NO_LABEL, Records
from hftl.doctor.reading import Opened, image_values
from hftl.errors import RunError
from hftl.paths import typed_path
from hftl.surroundings import progress


LOG_NAME = "changes.log"
_SUFFIX_OF = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
_LONGEST_NAME = 200  # bytes; file systems take 255
_ROWS = "images"


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
    write = _write_images if _lie_in_files(opened) else _write_rows
    try:
        with new_folder(out) as folder:
            lines = [json.dumps(entry, ensure_ascii=False) for entry in log]
            (folder / LOG_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            for split, positions in order.items():
                write(opened, split, positions, label, folder)
            for name in set(opened.source.tables) - set(opened.named.values()):
                unused = folder / "unused" / re.sub(r"[^\w-]+", "_", name) / "rows.parquet"
                _write_table(opened.source.tables[name], unused)
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}. Give --fix another folder.") from None


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


def _write_images(opened: Opened, split: str, positions: np.ndarray, label: np.ndarray, folder: Path) -> None:
    """Copy the images of the split, in the order of `positions`, to folder/split/class/, bytes as they are.

    Where the source knows more of an image than its class, or a class has a name that no folder can have, they go to
    folder/split/images/ and a metadata.csv says the rest. Images of a split without labels lie loose in folder/split/.
    """
    records = opened.records
    table = opened.source.tables[opened.named[split]].select(records.row[positions])
    labels = [None if code == NO_LABEL else records.labels[code] for code in label[positions]]
    more = _more_columns(opened, table)
    values = image_values(table, opened.columns.input, opened.source.base_of(opened.named[split]))
    with_metadata = bool(more) or not all(_can_be_folder(name) for name in labels if name is not None)
    home = folder / split
    taken: set[Path] = set()
    names = []
    for row, value, name in progress(
        zip(records.row[positions], values, labels, strict=True), f"writing {split}", "image", total=len(labels)
    ):
        place = home / _ROWS if with_metadata else home / name if name is not None else home
        place.mkdir(parents=True, exist_ok=True)
        path = _free(place, _file_name(value, int(row)), int(row), taken)
        if value["bytes"] is None:
            shutil.copyfile(value["path"], path)
        else:
            path.write_bytes(value["bytes"])
        names.append(path.relative_to(home).as_posix())
    if with_metadata and names:
        _write_metadata(home / "metadata.csv", table, names, labels, more)


def _lie_in_files(opened: Opened) -> bool:
    """Tell whether the inputs are images in files of their own, beside the table that names them."""
    if opened.records.kind == "text":
        return False
    for split in opened.records.splits:
        table, name = opened.source.tables[opened.named[split]], opened.columns.input
        column = table.select_columns([name]).with_format("arrow")[:].column(name)
        if pa.types.is_struct(column.type):
            column = pc.if_else(pc.is_valid(pc.struct_field(column, "bytes")), None, pc.struct_field(column, "path"))
        if not any(kind in str(column.type) for kind in ("binary", "null")) and column.null_count < len(column):
            return True
    return False


def _more_columns(opened: Opened, table: Dataset) -> list[str]:
    """Return the columns of plain values that class folders could not keep."""
    known = {opened.columns.input, opened.columns.label, "file_name"}
    plain = (Value, ClassLabel)
    return [name for name, feature in table.features.items() if isinstance(feature, plain) and name not in known]


def _write_metadata(path: Path, table: Dataset, names: list[str], labels: list[Any], more: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", *(name for name in more if name != "label")])
        columns = [table[name][:] for name in more if name != "label"]
        writer.writerows(zip(names, labels, *columns, strict=True))


def _can_be_folder(name: str) -> bool:
    """Tell whether a folder of that name is read back as that class."""
    bad = name.startswith((".", "__")) or name != name.strip() or name.endswith(".")
    return not bad and not set(name) & set('/\\:*?"<>|\0\n\r') and len(name.encode()) <= _LONGEST_NAME


def _file_name(value: dict[str, Any], row: int) -> str:
    """Return the file's own name, or its row number with the suffix of its format."""
    path, content = Path(value["path"] or ""), value["bytes"]
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
        return path.name
    with PILImage.open(path if content is None else BytesIO(content)) as image:
        kind = str(image.format)
    suffix = _SUFFIX_OF.get(kind, f".{kind.lower()}")
    return f"{row}{suffix if suffix in IMAGE_SUFFIXES else '.png'}"


def _free(place: Path, name: str, row: int, taken: set[Path]) -> Path:
    """Return a path in `place` that no other image has, on file systems that fold case too."""
    path = place / name
    if Path(str(path).lower()) in taken:
        path = place / f"{row}-{name}"
    taken.add(Path(str(path).lower()))
    return path
