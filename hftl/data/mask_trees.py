"""Folders of images and masks as tables, and tables with paths of masks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image
from PIL import Image as Pixels

from hftl.data.columns import IMAGE_NAMES, is_image, is_string
from hftl.data.files import IMAGE_SUFFIXES
from hftl.data.images import image_table, in_threads
from hftl.data.mask_folders import mask_pairs
from hftl.data.masks import colours_in, mask_ids, names_in, painted_ids, upright_size
from hftl.data.splits import Source


def read_mask_tree(folder: Path) -> Source | None:
    """Read a folder of images and masks, as `mask_pairs` finds them; None for any other one. Raises `DataError` as it does."""
    found = mask_pairs(folder)
    if found is None:
        return None
    home, splits = found
    classes = names_in(home) or names_in(next(iter(splits.values())).below)
    source, colours = Source({}, home.resolve().name, home, classes=classes), [*colours_in(home).values()]
    for split, pairs in splits.items():
        names = [image.relative_to(pairs.top).as_posix() for image in pairs.images]
        mixed = pairs.top == pairs.below and all(
            "/" in name for name in names
        )  # in folders, which may be classes, too
        inner = [name.partition("/")[0] for name in names] if mixed else None
        files = zip(pairs.images, pairs.masks, strict=True)
        masks = list(in_threads(partial(_mask_file, colours), files, len(names), f"reading masks ({split})"))
        source.tables[split] = image_table(pairs.images, names, inner, masks)
    return source


def _mask_file(colours: Sequence[tuple[int, ...]], pair: tuple[Path, list[Path]]) -> dict[str, Any] | None:
    """Return the mask of an image as it is stored; made of several, the larger id on top, or of colours, it is in memory.

    One that cannot be made so is returned as it is: what is wrong with it is told later.
    """
    image, masks = pair
    if len(masks) < 2 and not colours:
        return _stored(masks[0] if masks else None)
    ids, painted = [], False
    for mask in masks:
        try:
            of_colours = painted_ids(str(mask), colours)
            painted = painted or of_colours is not None
            ids.append(mask_ids(str(mask)) if of_colours is None else of_colours)
            fits = ids[-1].shape == upright_size(str(image))[::-1]
        except OSError:
            fits = False
        if not fits or (len(masks) < 2 and not painted):
            return _stored(mask)
    if not ids:
        return None
    content, picture = BytesIO(), Pixels.fromarray(np.maximum.reduce(ids))
    if painted and picture.mode == "L":
        picture.putpalette([*chain(*colours)])
    kind = "TIFF" if picture.mode == "I" else "PNG"  # which has no negative ids
    picture.save(content, kind)
    return {"bytes": content.getvalue(), "path": masks[0].with_suffix(f".{kind.lower()}").name}


def _stored(mask: Path | None) -> dict[str, Any] | None:
    return None if mask is None else {"bytes": None, "path": str(mask)}


def with_mask_files(source: Source, folder: Path | None) -> Source:
    """Return the source with columns of paths to masks as images, and the classes that a file in the folder names."""
    tables = {name: _with_files(table, source.base_of(name)) for name, table in source.tables.items()}
    pairs = any(sum(map(is_image, table.features.values())) > 1 for table in tables.values())
    pairs = pairs or any(tables[name] is not table for name, table in source.tables.items())
    return replace(source, tables=tables, classes=source.classes or (names_in(folder) if pairs and folder else ()))


def _with_files(table: Dataset, base: Path) -> Dataset:
    """Return the table with columns that name a file of an image in every cell, beside one of the images, as images.

    The column of the images is one then, too: its name may be as unusual as that of the masks.
    """
    paths = {name: table[name][:] for name, feature in table.features.items() if is_string(feature)}
    named = {name: cells for name, cells in paths.items() if _are_files(cells, base)}
    usual = [name for name in table.column_names if name.lower() in IMAGE_NAMES]
    if not usual or not named.keys() - {*usual}:
        return table
    pictures = any(is_image(feature) for feature in table.features.values())
    for name, cells in named.items():
        if name in usual and pictures:
            continue  # the names of images that are there
        files = [_stored(base / cell if cell else None) for cell in cells]
        images = Dataset.from_dict({name: files}, features=Features({name: Image(decode=False)}))
        table = table.remove_columns([name]).add_column(name, images[name][:], feature=Image(decode=False))
    return table


def _are_files(cells: Sequence[str | None], base: Path) -> bool:
    told = [cell for cell in cells if cell]
    pictures = bool(told) and all(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in told)
    return pictures and any((base / cell).is_file() for cell in told)
