"""Reads any source of data into tables in memory, by split, under the source's own split names.

Local files are read by pandas, pyarrow and json rather than by `datasets`: no cache on disk that outlives a change to
the file, no "NA" read as missing, and errors that name the line.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, concatenate_datasets, load_from_disk
from datasets.table import InMemoryTable

from hftl.data.annotated import plain_records
from hftl.data.coco import boxes_line, read_coco_tree
from hftl.data.columns import columns_table, frame_table, is_columns, is_usual_name, labelled_table, records_table
from hftl.data.conll import read_conll
from hftl.data.files import (
    CONLL_SUFFIXES,
    IMAGE_SUFFIXES,
    INSTEAD,
    check_file,
    csv_form,
    csv_records,
    data_files,
    existing_path,
    has_images,
    hub_parts,
    is_saved,
    json_content,
    no_hub_line,
    one_line,
    similar_file,
    text_encoding,
    text_errors,
)
from hftl.data.image_tables import read_image_tables, with_images_beside
from hftl.data.images import image_table, read_image_tree
from hftl.data.mask_trees import read_mask_tree, with_mask_files
from hftl.data.samples import load_sample
from hftl.data.splits import Source
from hftl.data.tagged import as_words
from hftl.errors import DataError
from hftl.hub_errors import access_line
from hftl.surroundings import hub_reachable


_CELLS: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)
_SENTENCE = 3  # words: the name of a column seldom has so many


def read_source(data: Any, kind: str) -> Source:
    """Read a path, "sample:x", a Hub id, or an object that holds data.

    Raises `DataError` when there is no such data or it cannot be read, naming the cause and the fix.
    """
    source = _read_source(data, kind)
    if kind == "image":
        path = existing_path(data) if isinstance(data, str) else None
        return with_mask_files(source, path if path is None or path.is_dir() else path.parent)
    return as_words(source) if kind == "sentence" else source


def _read_source(data: Any, kind: str) -> Source:
    if isinstance(data, (IterableDataset, IterableDatasetDict)):
        raise DataError("the data set is a stream: load it without streaming=True")
    if isinstance(data, Mapping) and not is_columns(data):
        parts = {str(name): _read_source(part, kind) for name, part in data.items()}
        several = [name for name, part in parts.items() if len(part.tables) != 1]
        if several:
            raise DataError(f"the split {several[0]!r} has splits of its own: name one table for it")
        tables = {name: next(iter(part.tables.values())) for name, part in parts.items()}
        return Source(tables, "a DatasetDict", bases={name: part.base for name, part in parts.items()})
    if not isinstance(data, (str, Path)) or not str(data):
        return Source({"train": _as_table(data, kind)}, f"a {type(data).__name__}")
    name = str(data)
    if name.startswith("sample:"):
        return Source(dict(load_sample(name)), name)
    path = existing_path(name)
    if path is None:
        return Source(_load_hub(name), name)
    if path.is_dir():
        return _read_folder(path, kind)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Source({"train": image_table([path], [path.name], None)}, path.name)
    home = path.parent.parent if path.parent.name == "annotations" else path.parent
    outlines = read_coco_tree(home, path) if kind == "image" and path.suffix.lower() == ".json" else None
    if outlines is not None:
        return outlines
    table = read_file(path, kind)
    table = with_images_beside(table, path) if kind == "image" else table
    return Source({"train": table}, path.name, path.parent, files={"train": (path,)})


def _as_table(data: Any, kind: str) -> Dataset:
    """Return a table in memory as a plain Dataset. Raises `DataError` for what is none."""
    if isinstance(data, Dataset):
        return data.with_format(None)
    if isinstance(data, pd.DataFrame):
        return frame_table(data, "the DataFrame")
    if isinstance(data, Mapping):
        return columns_table(data, "the dict")
    if isinstance(data, list):
        return records_table(plain_records(data), "the list")
    if isinstance(data, tuple) and len(data) == 2:
        return labelled_table(*data, kind)
    if hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):  # a table of pyarrow, polars or DuckDB
        return records_table(pa.table(data).to_pylist(), f"the {type(data).__name__}")
    raise DataError(
        f"the data is {' '.join(repr(data).split()):.60}, of the type {type(data).__name__}: give a path, a 'sample:' name, a Hub id, a Dataset, a "
        "DatasetDict, a DataFrame, a list of dicts, a dict of columns, (X, y), or a dict of these by split"
    )


def _load_hub(name: str) -> dict[str, Dataset]:
    """Load "name[:config][@revision]" from the Hub, or from its cache when the Hub is out of reach."""
    parts = hub_parts(name)
    online = hub_reachable()
    try:
        with ExitStack() as stack:
            if not online:  # the Hub client would try again and again for half a minute before it asks its cache
                stack.enter_context(_switched(datasets.config, "HF_HUB_OFFLINE"))
                stack.enter_context(_switched(huggingface_hub.constants, "HF_HUB_OFFLINE"))
            loaded = datasets.load_dataset(str(parts["id"]), parts["config"], revision=parts["revision"])
    except Exception as error:  # a wrong config, no network, no cache, broken files: each has a type of its own
        line = access_line(error, name, "data set") or f"the data set {name!r} cannot be loaded: {one_line(error)}"
        if not online:
            line = no_hub_line(name)
        raise DataError(f"{line.rstrip('.')}; {INSTEAD}.{similar_file(Path(name))}") from None
    return {str(split): table for split, table in loaded.items()}


@contextmanager
def _switched(module: Any, name: str) -> Iterator[None]:
    """Set a switch of a module for a while; the libraries read them from the environment at import only."""
    before = getattr(module, name)
    setattr(module, name, True)
    try:
        yield
    finally:
        setattr(module, name, before)


def _read_folder(folder: Path, kind: str) -> Source:
    """Read a folder: saved by `save_to_disk`, of images, or of files by split."""
    name = folder.resolve().name
    if is_saved(folder):
        saved = _load_saved(folder, name)
        return Source(dict(saved) if isinstance(saved, DatasetDict) else {"train": saved}, name)
    if kind == "image" and (has_images(folder) or read_coco_tree(folder)):
        special = read_mask_tree(folder) or read_coco_tree(folder) or read_image_tables(folder, read_file)
        tree = special or read_image_tree(folder, read_file)
        labelled = any({*table.column_names} - {"image", "file_name"} for table in tree.tables.values())
        return tree if labelled else replace(tree, unfit=boxes_line(folder))
    files = data_files(folder, kind)
    tables = {split: _join([read_file(path, kind) for path in paths], split) for split, paths in files.items()}
    return Source(tables, name, base=folder, files={split: tuple(paths) for split, paths in files.items()})


def _load_saved(folder: Path, name: str) -> Dataset | DatasetDict:
    try:
        return load_from_disk(str(folder))
    except PermissionError:
        raise
    except Exception as error:  # a damaged folder makes `datasets` raise whatever it stumbles over
        raise DataError(
            f"the folder {name!r} was written by save_to_disk of `datasets`, and a file in it is damaged or missing "
            f"({type(error).__name__}: {one_line(error)}): save it again"
        ) from None


def _join(tables: list[Dataset], split: str) -> Dataset:
    if len(tables) == 1:
        return tables[0]
    try:
        return concatenate_datasets(tables)
    except Exception as error:  # datasets and pyarrow raise several kinds when shards do not agree
        raise DataError(f"the {len(tables)} files of {split} have different columns: {one_line(error)}") from None


def read_file(path: Path, kind: str = "") -> Dataset:
    """Read one file into memory; the cells of a CSV file stay as they are written.

    Raises `DataError` when the file is empty, cannot be parsed, or is of another kind.
    """
    check_file(path, kind)
    suffix = path.suffix.lower()
    with text_errors(path.name):
        try:
            if suffix == ".parquet":  # the features are where Hugging Face wrote them; pandas adds its index
                table = pq.read_table(path, partitioning=None)
                index = [name for name in table.column_names if name.startswith("__index_level_")]
                return Dataset(InMemoryTable(table.drop_columns(index)))
            if suffix in CONLL_SUFFIXES:
                return read_conll(path, path.read_text(encoding=text_encoding(path)))
            return _read_csv(path, kind) if suffix in (".csv", ".tsv") else _read_json(path)
        except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, pa.ArrowException) as error:
            raise DataError(f"{path.name} cannot be parsed: {one_line(error)}") from None


def _read_csv(path: Path, kind: str) -> Dataset:
    """Read every cell as written: only the empty cell is missing, "007" keeps its zeros and "NA" is a text.

    A blank line is none, but where it may stand between sentences, or is an empty cell of the only column.
    """
    form = csv_form(path)
    records = enumerate(csv_records(path, form))
    above, header = next(((i, row) for i, row in records if any(map(str.strip, row))), (0, ()))
    alone = len(header) == 1
    cells = {**_CELLS, **form, "skip_blank_lines": kind != "sentence" and not alone, "skiprows": above * alone}
    with warnings.catch_warnings():
        # Rows longer than the header would otherwise be cut short, with no more than a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(path, **cells)
    if alone:
        filled = frame.iloc[:, 0].notna().to_numpy().nonzero()[0]
        frame = frame.iloc[: filled[-1] + 1 if len(filled) else 0]
    _check_header(frame, path.name)
    return frame_table(frame, path.name)


def _check_header(frame: pd.DataFrame, name: str) -> None:
    """Raise `DataError` for a first row that is data.

    None of its cells is then a usual name; all are sentences, numbers, or values that stand in their column again, of
    which there is one at least. Columns that are called 0, 1, ... were numbered, and a header may come again as a row.
    """
    columns = [str(column) for column in frame.columns]
    if len(columns) < 2 or any(is_usual_name(column) for column in columns):
        return
    rows = frame[~frame.eq(columns).all(axis=1)]
    again = [column for column in columns if (rows[column] == column).any()]
    if again and all(
        column in again or len(column.split()) >= _SENTENCE or (_NUMBER.fullmatch(column) and column != str(position))
        for position, column in enumerate(columns)
    ):
        raise DataError(
            f"{name} has no header: its first row looks like data ({again[0][:40]!r} occurs again in that column). Add "
            "a first line with the names of the columns, such as text,label"
        )


def _read_json(path: Path) -> Dataset:
    content = json_content(path, path.read_text(encoding=text_encoding(path)))
    return records_table(plain_records(records_of(content)[0]), path.name)


def records_of(content: Any) -> tuple[Any, str | None]:
    """Return the records of a JSON file, and the key of a dict that holds them as a list.

    Read are a list of records, a dict of columns, and what `DataFrame.to_json` writes.
    """
    if not isinstance(content, dict):
        return content, None
    lists = {key: value for key, value in content.items() if isinstance(value, list)}
    values = [*lists.values()]
    if {"columns", "data"} <= content.keys() and len(lists) > 1:  # orient="split"
        return [dict(zip(map(str, content["columns"]), row, strict=True)) for row in content["data"]], None
    if "annotations" in lists and "classes" in content:  # of an annotator for spaCy
        return [record for record in content["annotations"] if record is not None], "annotations"
    if len(lists) == 1 and values[0] and isinstance(values[0][0], dict):
        return values[0], next(iter(lists))  # {"data": [records]}
    if lists and len(lists) == len(content) and len({*map(len, values)}) == 1:
        return [dict(zip(content, row, strict=True)) for row in zip(*values, strict=True)], None
    if content and all(isinstance(value, dict) for value in content.values()):
        return _by_index(content), None
    return [content], None


def _by_index(content: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of {column: {index: value}}, or of {index: {column: value}}."""
    inner = {key: None for values in content.values() for key in values}
    usual = [any(map(is_usual_name, keys)) for keys in (content, inner)]
    rows_outside = usual[1] if usual[0] != usual[1] else len(content) > len(inner)
    if rows_outside:
        return [*content.values()]
    return [{column: values.get(key) for column, values in content.items()} for key in inner]
