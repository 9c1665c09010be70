"""Folders of images beside tables that say their labels, as competitions and medical archives lay them out."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from hftl.data.columns import IMAGE_NAMES, LABEL_NAMES, is_image, is_string
from hftl.data.files import DATA_SUFFIXES, METADATA_NAMES, exact_split, images_beside, images_in
from hftl.data.images import image_table
from hftl.data.splits import Source
from hftl.errors import DataError


_MATCHED = 0.5  # share of a column's values that name images of the folder, for it to be the one that names them


def read_image_tables(folder: Path, read_file: Callable[[Path], Dataset]) -> Source | None:
    """Read tables that name the images of a folder, with or without their endings: train.csv, else the only one.

    None where the folders are classes, unless the table names masks beside the images; where there is a metadata file, and
    where no table names the images. Raises `DataError` where several do and none is called train.
    """
    images = images_in(folder)
    homes = {image.parent.name for image in images if image.parent != folder}
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in DATA_SUFFIXES and path.is_file())
    classes = len({home for home in homes if exact_split(home) is None}) > 1
    if not files or any(path.name in METADATA_NAMES for path in files):
        return None
    source = Source({}, folder.resolve().name, folder)
    named = [path for path in files if exact_split(path.stem)]
    for path in named or files:
        try:
            table, known = read_file(path), by_name(_own(images, path), folder)
        except DataError:  # a file that is no table says nothing of the images
            continue
        table = None if classes and not _names_pairs(table, known) else _with_images(table, known, folder)
        if table is not None:
            source.tables[path.stem] = table
    if named or len(source.tables) < 2:
        return source if source.tables else None
    raise DataError(f"{' and '.join(source.tables)} both name the images of {folder}: keep one, or call one train")


def _names_pairs(table: Dataset, known: dict[str, Path]) -> bool:
    """Tell whether two columns of a table name images in every filled cell: images and their masks."""
    strings = [name for name in table.column_names if is_string(table.features[name])]
    cells = [[as_named(value, known) for value in table[name][:] if value] for name in strings]
    return sum(bool(values) and all(value in known for value in values) for values in cells) > 1


def with_images_beside(table: Dataset, path: Path) -> Dataset:
    """Return the table of a file with the images of its folder, a few folders deep, in place of the column that names them.

    It is returned as it is where it holds images, or where a column of a usual name has their paths from that folder.
    """
    folder = path.parent
    if any(map(is_image, table.features.values())):
        return table
    for name in (name for name in table.column_names if is_string(table.features[name])):
        values = table[name][:]
        if _is_file(folder, next((value for value in values if value), "")):
            known = {value: folder / value for value in values if value and _is_file(folder, value)}
            return table if name.lower().strip() in IMAGE_NAMES else _with_images(table, known, folder) or table
    return _with_images(table, by_name(_own([*images_beside(path)], path), folder), folder) or table


def _own(images: Sequence[Path], path: Path) -> Sequence[Path]:
    """Return the images of a table called train.csv in the folder `train` beside it, else all."""
    split = exact_split(path.stem)
    return [one for one in images if split and exact_split(one.relative_to(path.parent).parts[0]) == split] or images


def _is_file(folder: Path, name: str) -> bool:
    try:
        return bool(name) and (folder / name).is_file()
    except (OSError, ValueError):  # a text that is no name of a file
        return False


def by_name(images: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return the images by their paths in the folder, their names, and their names without ending, where these are of one."""
    known: dict[str, set[Path]] = {}
    for image in images:
        for name in {image.relative_to(folder).as_posix(), image.name, image.stem}:
            known.setdefault(name, set()).add(image)
    return {name: next(iter(files)) for name, files in known.items() if len(files) == 1}


def as_named(value: Any, known: dict[str, Path]) -> str:
    """Return the name of an image as it is known: without the folders of another machine before it."""
    name = str(value)
    return name if name in known else re.split(r"[/\\]", name)[-1]


def _with_images(table: Dataset, known: dict[str, Path], folder: Path) -> Dataset | None:
    """Return the table with images in place of the column that names most of them; None without such a column."""
    best, most = "", 1
    for column in (name for name in table.column_names if name.lower().strip() not in LABEL_NAMES):
        values = [as_named(value, known) for value in table[column][:]]
        matched = {value for value in values if value in known}
        if len(matched) > most and sum(value in matched for value in values) >= _MATCHED * len(values):
            best, most = column, len(matched)
    if not best:
        return None
    names = [as_named(value, known) for value in table[best][:]]
    whole = image_table([known.get(name, folder / name) for name in names], names, None)
    for column in table.column_names:
        if column != best and column not in whole.column_names:
            whole = whole.add_column(column, table.with_format(None)[column][:], feature=table.features[column])
    return whole
