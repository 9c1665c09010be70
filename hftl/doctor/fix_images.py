"""Writes images into class folders, or beside a metadata.csv where a class's name cannot be that of a folder."""

import csv
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Value
from PIL import Image as PILImage

from hftl.data.images import IMAGE_SUFFIXES
from hftl.doctor.reading import Opened, image_values
from hftl.doctor.records import NO_LABEL
from hftl.surroundings import progress


_SUFFIX_OF = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
_LONGEST_NAME = 200  # bytes; file systems take 255
_ROWS = "images"


def write_images(opened: Opened, split: str, positions: np.ndarray, label: np.ndarray, folder: Path) -> None:
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
        _copy(value, path)
        names.append(path.relative_to(home).as_posix())
    if with_metadata and names:
        _write_metadata(home / "metadata.csv", table, names, labels, more)


def lie_in_files(opened: Opened) -> bool:
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


def _file_name(value: Any, row: int) -> str:
    """Return the file's own name, or its row number with the suffix of its format."""
    path = Path(value.get("path") or "") if isinstance(value, dict) else Path()
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
        return path.name
    content = value["bytes"] if isinstance(value, dict) else value
    with PILImage.open(BytesIO(content) if content is not None else path) as image:
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


def _copy(value: Any, path: Path) -> None:
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        shutil.copyfile(value["path"], path)
    else:
        path.write_bytes(content)
