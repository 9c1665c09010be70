"""Reads any source of data into tables in memory, by split, under the source's own split names.

Local files are read by pandas, pyarrow and json rather than by `datasets`: no cache on disk that outlives a change to
the file, no "NA" read as missing, and errors that name the line.
"""

import codecs
import json
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

from hftl.data.columns import frame_table, is_usual_name, labelled_table, records_table
from hftl.data.images import IMAGE_SUFFIXES, METADATA_NAMES, has_images, image_table, read_image_tree
from hftl.data.splits import Source, split_of
from hftl.data.tagged import CONLL_SUFFIXES, as_words, read_conll, with_spans
from hftl.errors import DataError, HftlError, did_you_mean
from hftl.hub_errors import access_line
from hftl.paths import typed_path
from hftl.surroundings import hub_reachable


# What the libraries that read raise.
_TROUBLE = (
    MemoryError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    pa.ArrowException,
)
_FILE_KINDS = "CSV, TSV, JSON, JSONL or parquet"
_MARKS = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
_CELLS: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
_HEAD = 4096  # bytes that tell UTF-16 without a mark: nearly all ASCII, every second byte is zero
_FEW, _MANY = 0.1, 0.4  # shares of zero bytes
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)
_SENTENCE = 3  # words: the name of a column seldom has so many
_JSON_LINES = (".jsonl", ".ndjson")
DATA_SUFFIXES = (".csv", ".tsv", ".json", *_JSON_LINES, ".parquet")


@contextmanager
def data_errors(data: Any) -> Iterator[None]:
    """Turn whatever is raised while somebody's data is read into one `DataError` that names the data and the cause."""
    try:
        yield
    except HftlError:
        raise
    except _TROUBLE as error:
        name = repr(data)[:80] if isinstance(data, (str, Path)) else f"the {type(data).__name__}"
        cause = f"{type(error).__name__}: {_line(error)}"
        if isinstance(error, PermissionError):
            cause = f"you have no permission for {error.filename or 'it'}."
        if isinstance(error, UnicodeEncodeError):
            cause = f"a name or text is not valid UTF-8 ({error.object[-100:]!a}). Rename or fix it."
        if isinstance(error, RecursionError):
            cause = "its values are nested too deeply."
        raise DataError(f"{name} cannot be read: {cause}") from error


def read_source(data: Any, kind: str) -> Source:
    """Read a path, "sample:x", a Hub id, or an object that holds data.

    Raises `DataError` when there is no such data or it cannot be read, naming the cause and the fix.
    """
    source = _read_source(data, kind)
    if kind != "sentence":
        return source
    return replace(source, tables={name: as_words(table, name) for name, table in source.tables.items()})


def _read_source(data: Any, kind: str) -> Source:
    if isinstance(data, (IterableDataset, IterableDatasetDict)):
        raise DataError("the data set is a stream: load it without streaming=True")
    if isinstance(data, Mapping):
        parts = {str(name): _read_source(part, kind) for name, part in data.items()}
        several = [name for name, part in parts.items() if len(part.tables) != 1]
        if several:
            raise DataError(f"the split {several[0]!r} has splits of its own: name one table for it")
        tables = {name: next(iter(part.tables.values())) for name, part in parts.items()}
        return Source(tables, "a DatasetDict", bases={name: part.base for name, part in parts.items()})
    if not isinstance(data, (str, Path)) or not str(data):
        return Source({"train": _as_table(data, kind)}, f"a {type(data).__name__}")
    name, path = str(data), typed_path(data)
    if name.startswith("sample:"):
        from hftl.data.samples import load_sample  # late: nothing else needs the sample data

        return Source(dict(load_sample(name.removeprefix("sample:"))), name)
    if path.is_dir():
        return _read_folder(path, kind)
    if path.exists() and path.suffix.lower() in IMAGE_SUFFIXES:
        return Source({"train": image_table([path], [path.name], None)}, path.name)
    if path.exists():
        suffixes = {"train": path.suffix.lower()}
        return Source({"train": read_file(path, kind)}, path.name, base=path.parent, suffixes=suffixes)
    siblings = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    if re.search(r"^[./~\\]|/$|\\|/.*/|\.[A-Za-z][A-Za-z0-9]{1,7}$", name.partition("@")[0]):  # looks like a path
        where = "" if path.parent.is_dir() else f" (there is no folder {str(path.parent)!r} either)"
        raise DataError(f"no such file or folder: {name!r}{where}.{hint}")
    return Source(_load_hub(name, hint), name)


def _as_table(data: Any, kind: str) -> Dataset:
    """Return a table in memory as a plain Dataset. Raises `DataError` for what is none."""
    if isinstance(data, Dataset):
        return data.with_format(None)
    if isinstance(data, pd.DataFrame):
        return frame_table(data, "the DataFrame")
    if isinstance(data, list):
        return records_table(with_spans(data) if kind == "sentence" else data, "the list")
    if isinstance(data, tuple) and len(data) == 2:
        return labelled_table(*data, kind)
    raise DataError(
        f"the data is {data!r:.60}, of the type {type(data).__name__}: give a path, a 'sample:' name, a Hub id, a Dataset, a "
        "DatasetDict, a DataFrame, a list of dicts, (X, y), or a dict of these by split"
    )


def _load_hub(name: str, hint: str) -> dict[str, Dataset]:
    """Load "name[:config][@revision]" from the Hub, or from its cache when the Hub is out of reach."""
    parts = re.fullmatch(r"(?P<id>[\w.-]+(/[\w.-]+)?)(:(?P<config>[^@]+))?(@(?P<revision>.+))?", name)
    instead = f"use a file ({_FILE_KINDS}), a folder or a 'sample:' name instead.{hint}"
    if parts is None:
        raise DataError(f"no such file, and not a Hub id either: {name!r}; {instead}")
    online = hub_reachable()
    try:
        with ExitStack() as stack:
            if not online:  # the Hub client would try again and again for half a minute before it asks its cache
                stack.enter_context(_switched(datasets.config, "HF_HUB_OFFLINE"))
                stack.enter_context(_switched(huggingface_hub.constants, "HF_HUB_OFFLINE"))
            loaded = datasets.load_dataset(parts["id"], parts["config"], revision=parts["revision"])
    except Exception as error:  # a wrong config, no network, no cache, broken files: each has a type of its own
        line = access_line(error, name, "data set") or f"the data set {name!r} cannot be loaded: {_line(error)}"
        if not online:
            line = f"no such file {name!r}, and the Hub cannot be reached and has not been used for it before"
        raise DataError(f"{line.rstrip('.')}; {instead}") from None
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
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        saved = _load_saved(folder, name)
        return Source(dict(saved) if isinstance(saved, DatasetDict) else {"train": saved}, name)
    pictures = has_images(folder)
    if kind == "image" and pictures:
        return read_image_tree(folder, read_file)
    files = _data_files(folder, kind)
    if not files and pictures:
        raise DataError(f"the folder {name!r} holds images, not text: use the task image-classification")
    if not files:
        needed = "images, and no files of data" if kind == "image" else f"files of data ({_FILE_KINDS})"
        raise DataError(f"the folder {name!r} holds no {needed}")
    tables = {split: _join([read_file(path, kind) for path in paths], split) for split, paths in files.items()}
    suffixes = {split: paths[0].suffix.lower() for split, paths in files.items()}
    return Source(tables, name, base=folder, suffixes=suffixes)


def _load_saved(folder: Path, name: str) -> Dataset | DatasetDict:
    try:
        return load_from_disk(str(folder))
    except PermissionError:
        raise
    except Exception as error:  # a damaged folder makes `datasets` raise whatever it stumbles over
        raise DataError(
            f"the folder {name!r} was written by save_to_disk of `datasets`, and a file in it is damaged or missing "
            f"({type(error).__name__}: {_line(error)}): save it again"
        ) from None


def _data_files(folder: Path, kind: str) -> dict[str, list[Path]]:
    """Return the data files of a folder by split: named for it (also in shards), or in a folder named for it.

    Raises `DataError` when there are several files and none is called train, or a split is there in two formats.
    """
    candidates = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if _is_data_file(path, kind))
    files: dict[str, list[Path]] = {}
    for path in candidates:
        split = split_of(path.stem) or (split_of(path.parent.name) if path.parent != folder else None)
        if split is not None:
            files.setdefault(split, []).append(path)
    if not files and len(candidates) == 1:
        return {"train": candidates}
    if candidates and not files:
        names = ", ".join(path.name for path in candidates[:6])
        raise DataError(f"which of the files in {folder.name!r} is the training data ({names})? Name one 'train'")
    for split, paths in files.items():
        if len({path.suffix.lower() for path in paths}) > 1:
            names = ", ".join(path.name for path in paths[:6])
            raise DataError(f"the folder {folder.name!r} holds {split} in two formats ({names}): keep one")
    return files


def _is_data_file(path: Path, kind: str) -> bool:
    """Tell a file of rows from others; macOS leaves "._train.csv" beside every file that it archives."""
    known = path.suffix.lower() in suffixes_of(kind) and path.name not in METADATA_NAMES
    return known and not path.name.startswith(".") and path.is_file()


def _join(tables: list[Dataset], split: str) -> Dataset:
    if len(tables) == 1:
        return tables[0]
    try:
        return concatenate_datasets(tables)
    except Exception as error:  # datasets and pyarrow raise several kinds when shards do not agree
        raise DataError(f"the {len(tables)} files of {split} have different columns: {_line(error)}") from None


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Return the suffixes of files that hold rows of a kind of inputs."""
    return (*DATA_SUFFIXES, *CONLL_SUFFIXES) if kind == "sentence" else DATA_SUFFIXES


def read_file(path: Path, kind: str = "") -> Dataset:
    """Read one file into memory; the cells of a CSV file stay as they are written.

    Raises `DataError` when the file is empty, cannot be parsed, or is of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes_of(kind):
        what, more = suffix or "without a suffix", " (.conll and .txt hold words: token-classification)"
        hint = more if suffix in CONLL_SUFFIXES else ""
        raise DataError(f"{path.name}: cannot read files of the kind {what}: use {_FILE_KINDS}{hint}")
    if not path.stat().st_size:
        raise DataError(f"{path.name} is empty")
    try:
        if suffix == ".parquet":  # the features are where Hugging Face wrote them; pandas adds its index
            table = pq.read_table(path, partitioning=None)
            index = [name for name in table.column_names if name.startswith("__index_level_")]
            return Dataset(InMemoryTable(table.drop_columns(index)))
        if suffix in CONLL_SUFFIXES:
            return read_conll(path, path.read_text(encoding=_encoding(path)))
        return _read_csv(path) if suffix in (".csv", ".tsv") else _read_json(path, kind)
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not in UTF-8: save it in that encoding") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, pa.ArrowException) as error:
        raise DataError(f"{path.name} cannot be parsed: {_line(error)}") from None


def _encoding(path: Path) -> str:
    """Return the encoding of a text file: by its mark, by where zero bytes stand, else UTF-8.

    Raises `DataError` for zero bytes that no text has.
    """
    data = path.read_bytes()
    for name, marks in _MARKS.items():
        if data.startswith(marks):
            return name
    if b"\0" not in data:
        return "utf-8-sig"
    head = data[:_HEAD]
    even, odd = (head[i::2].count(0) / max(1, len(head[i::2])) for i in (0, 1))
    if min(even, odd) < _FEW < _MANY < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    raise DataError(f"{path.name} holds zero bytes: it is damaged, or no text file. Save it as UTF-8 text.")


def _read_csv(path: Path) -> Dataset:
    """Read every cell as written: only the empty cell is missing, "007" keeps its zeros and "NA" is a text."""
    encoding = _encoding(path)
    with path.open(encoding=encoding) as file:
        header = file.readline()
    comma = ";" if ";" in header and "," not in header else ","
    cells = {**_CELLS, "sep": "\t" if path.suffix.lower() == ".tsv" else comma, "encoding": encoding}
    names = pd.read_csv(path, header=None, nrows=1, **cells).iloc[0].dropna().tolist()
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(f"{path.name} has two columns called {double[0]!r}: rename one of them")
    with warnings.catch_warnings():
        # Rows longer than the header would otherwise be cut short, with no more than a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(path, **cells)
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


def _read_json(path: Path, kind: str) -> Dataset:
    """Read a list of records, records line by line, or a dict of columns."""
    text = path.read_text(encoding=_encoding(path))
    content: Any = None
    try:
        content = None if path.suffix.lower() in _JSON_LINES else json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise DataError(f"{path.name} cannot be parsed: {error}") from None
    if content is None:
        content = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                content += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                where = f"line {number}: {error.msg}: {line.strip():.60}"
                raise DataError(f"{path.name} cannot be parsed: {where}") from None
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) == 1 and lists[0] and isinstance(lists[0][0], dict):
            content = lists[0]  # {"data": [records]}
        elif lists and len(lists) == len(content) and len({len(value) for value in lists}) == 1:
            content = [dict(zip(content, row, strict=True)) for row in zip(*lists, strict=True)]
        else:
            content = [content]
    return records_table(with_spans(content) if kind == "sentence" else content, path.name)


def _line(error: BaseException) -> str:
    """Return the first 200 characters of the error on one line."""
    return " ".join(str(error).split())[:200]
