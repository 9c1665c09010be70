"""Files of data before they become tables: which there are, whether they are what their names say, and how they are coded.

Only the standard library is imported: what is wrong with a path or a file is said before anything heavy is loaded.
"""

import codecs
import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from hftl.errors import DataError, HftlError, did_you_mean
from hftl.paths import typed_path
from hftl.surroundings import hub_reachable


# fmt: off
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif", ".ico",
)
# fmt: on
CONLL_SUFFIXES = (".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".txt")
JSON_LINES = (".jsonl", ".ndjson")
DATA_SUFFIXES = (".csv", ".tsv", ".json", *JSON_LINES, ".parquet")
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_KINDS = "CSV, TSV, JSON, JSONL or parquet"
NO_DATA = "No data was given: --data takes a file, a folder, sample:<name> or a Hub id."
INSTEAD = f"use a file ({FILE_KINDS}), a folder or a 'sample:' name instead"  # of a data set of the Hub
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
NAMED_COLUMNS = [
    "text_column",
    "text_pair_column",
    "image_column",
    "label_column",
    "label_columns",
    "slice_column",
    "group_column",
]
_MARKS = {"utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
_OTHERS = {"zip or Excel": b"PK\3\4", "gzip": b"\x1f\x8b", "PDF": b"%PDF", "PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff"}
_OTHERS |= {"parquet": b"PAR1", "Excel": b"\xd0\xcf\x11\xe0", "pickle": b"\x80\4\x95", "SQLite": b"SQLite format"}
_CONTROL = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x1b"})
_DEPTH, _FOLDERS = 4, 2000  # in which images of a table are looked for
_HEAD = 4096  # bytes that tell UTF-16 without a mark: nearly all ASCII, every second byte is zero
_FEW, _MANY = 0.1, 0.4  # shares of zero bytes
_SEPARATORS = (",", ";", "\t", "|")  # of a CSV file, by its header: the first one that stands there
_LONGEST_CELL = 2**31 - 1  # characters: the most that Python's reader takes on every system
_QUICK = 32 * 2**20  # bytes of a file that is looked through before all else: a larger one is read once

# What the libraries that read raise, and pyarrow's own.
_TROUBLE = (MemoryError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def split_of(name: str) -> str | None:
    """Return "train", "validation" or "test" for a usual name of one ("val", "reviews_dev"), else None."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((split for split, names in SPLIT_NAMES.items() if words & {*names}), None)


def exact_split(name: str) -> str | None:
    """Return the split that the whole name stands for: "train" is one, "train_station" is a class folder."""
    return split_of(name) if name.isalpha() else None


def existing_path(name: str) -> Path | None:
    """Return the file or folder of that name; None for what may be a Hub id. Raises `DataError` for a path to nothing."""
    path = typed_path(name)
    if path.exists():
        return path
    if re.search(r"^[./~\\]|/$|\\|/.*/|\.[A-Za-z][A-Za-z0-9]{1,7}$", name.partition("@")[0]):  # looks like a path
        where = "" if path.parent.is_dir() else f" (there is no folder {str(path.parent)!r} either)"
        raise DataError(f"no such file or folder: {name!r}{where}.{similar_file(path)}")
    return None


def similar_file(path: Path) -> str:
    """Return " Did you mean 'x'?" for a file beside the path."""
    return did_you_mean(path.name, [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else [])


def is_saved(folder: Path) -> bool:
    """Was the folder written by `save_to_disk` of `datasets`?"""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def has_images(folder: Path) -> bool:
    """Tell whether any image lies in the folder, at any depth."""
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for _, _, names in os.walk(folder) for name in names)


def images_in(folder: Path, pattern: str = "**/*") -> list[Path]:
    """Return the images, by default at any depth, sorted; hidden files (macOS leaves "._x.jpg") are none."""
    files = (path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if not path.name.startswith(".") and path.is_file())


def images_beside(path: Path) -> Iterator[Path]:
    """Yield the images of a table's folder, a few folders deep, none of them hidden: a home folder holds much else."""
    folder = path.resolve().parent
    for home, inner, names in islice(os.walk(folder), _FOLDERS):
        deep = len(Path(home).relative_to(folder).parts) >= _DEPTH
        inner[:] = [] if deep else sorted(name for name in inner if not name.startswith((".", "__")))
        pictures = (name for name in sorted(names) if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        yield from (
            path.parent / Path(home).relative_to(folder) / name for name in pictures if not name.startswith(".")
        )


def data_files(folder: Path, kind: str) -> dict[str, list[Path]]:
    """Return the data files of a folder by split: named for it (also in shards), or in a folder named for it.

    Raises `DataError` when there are none, when there are several and none is called train, or a split is there in two
    formats.
    """
    name = folder.resolve().name
    candidates = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if _is_data_file(path, kind))
    files: dict[str, list[Path]] = {}
    for path in candidates:
        split = split_of(path.stem) or (split_of(path.parent.name) if path.parent != folder else None)
        if split is not None:
            files.setdefault(split, []).append(path)
    if not candidates:
        if kind != "image" and has_images(folder):
            raise DataError(f"the folder {name!r} holds images, not text: use the task image-classification")
        needed = "images, and no files of data" if kind == "image" else f"files of data ({FILE_KINDS})"
        raise DataError(f"the folder {name!r} holds no {needed}")
    if not files and len(candidates) == 1:
        return {"train": candidates}
    if not files:
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


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Return the suffixes of files that hold rows of a kind of inputs."""
    return (*DATA_SUFFIXES, *CONLL_SUFFIXES) if kind == "sentence" else DATA_SUFFIXES


def check_file(path: Path, kind: str) -> None:
    """Raise `DataError` for a file of another kind, or an empty one."""
    suffix = path.suffix.lower()
    if suffix not in suffixes_of(kind):
        what, more = suffix or "without a suffix", " (.conll and .txt hold words: token-classification)"
        hint = more if suffix in CONLL_SUFFIXES else ""
        raise DataError(f"{path.name}: cannot read files of the kind {what}: use {FILE_KINDS}{hint}")
    if not path.stat().st_size:
        raise DataError(f"{path.name} is empty")


def check_content(path: Path, kind: str) -> None:
    """Raise `DataError` for a file that `read_file` could not read, as far as its text tells it; large ones are left."""
    check_file(path, kind)
    if path.stat().st_size > _QUICK or path.suffix.lower() == ".parquet":
        return
    with text_errors(path.name):
        if path.suffix.lower() in (".csv", ".tsv"):
            _check_width(path, csv_form(path))
        text = path.read_text(encoding=text_encoding(path))
        if path.suffix.lower() in (".json", *JSON_LINES):
            json_content(path, text)


def check_data(data: Any, kind: str | None) -> None:
    """Raise `DataError` for a path, a sample or a file that cannot be data of this kind, as far as it shows at once.

    What may be on the Hub, and what is in memory, is left to `read_source`. `kind` is None where it is not known yet.
    """
    if not isinstance(data, str) or not data:
        return
    with data_errors(data):
        if data.startswith("sample:"):
            from hftl.data.samples import sample_named  # late: the help needs no samples

            sample_named(data)
            return
        path, known = existing_path(data), kind or "sentence"
        if path is None:
            _check_hub_name(data, str(hub_parts(data)["id"]))
        elif path.is_dir():
            if not is_saved(path) and (kind == "text" or not has_images(path)):
                for file in (file for files in data_files(path, known).values() for file in files):
                    check_content(file, known)
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            check_content(path, known)


def check_columns(data: Any, named: Mapping[str, Any]) -> None:
    """Raise `DataError` for a column, by the flag that names it (one or several), that is not in the header of a CSV file.

    A large file is left to `read_source`, which reads it once.
    """
    path = typed_path(data) if isinstance(data, str) and any(map(named.get, NAMED_COLUMNS)) else None
    if path is None or path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return
    if path.stat().st_size > _QUICK:
        return
    with data_errors(str(data)), text_errors(path.name):
        header = [name.strip() for name in next(filter(any, csv_records(path, csv_form(path))), [])]
    for flag in (flag for flag in NAMED_COLUMNS if named.get(flag)):
        for column in (named[flag],) if isinstance(named[flag], str) else named[flag]:
            if column.strip() not in header:
                have = f"the columns are: {', '.join(header)}"
                raise DataError(f"{flag}: there is no column {column!r}; {have}.{did_you_mean(column, header)}")


def hub_parts(name: str) -> dict[str, str | None]:
    """Return id, config and revision of "name[:config][@revision]". Raises `DataError` for what can be no data set's name."""
    parts = re.fullmatch(r"(?P<id>[\w.-]+(/[\w.-]+)?)(:(?P<config>[^@]+))?(@(?P<revision>.+))?", name)
    if parts is None:
        raise DataError(f"no such file, and not a Hub id either: {name!r}; {INSTEAD}.{similar_file(typed_path(name))}")
    return parts.groupdict()


def _check_hub_name(name: str, repo_id: str) -> None:
    """Raise `DataError` for a data set of the Hub where neither the Hub is reached nor its cache knows the name."""
    if hub_reachable():
        return
    from huggingface_hub import constants  # late: most data are files

    caches = [Path(constants.HF_HUB_CACHE), Path(os.environ.get("HF_DATASETS_CACHE", f"{constants.HF_HOME}/datasets"))]
    cached = {
        re.sub(r"[^a-z0-9]", "", one.name.lower()) for cache in caches if cache.is_dir() for one in cache.iterdir()
    }
    plain = re.sub(r"[^a-z0-9]", "", repo_id.lower())
    if cached.isdisjoint({plain, f"datasets{plain}"}):
        raise DataError(f"{no_hub_line(name)}; {INSTEAD}.{similar_file(typed_path(name))}")


def no_hub_line(name: str) -> str:
    """Return what to say of a name that is no file, when the Hub cannot be asked."""
    return f"no such file {name!r}, and the Hub cannot be reached and has not been used for it before"


@contextmanager
def text_errors(name: str) -> Iterator[None]:
    """Raise `DataError` for text that is not in UTF-8."""
    try:
        yield
    except UnicodeDecodeError:
        fix = "save it in that encoding (in Excel as 'CSV UTF-8'; elsewhere iconv -f cp1252 -t utf-8)"
        raise DataError(f"{name} is not in UTF-8: {fix}") from None


def text_encoding(path: Path) -> str:
    """Return the encoding of a text file: by its mark, by where zero bytes stand, else UTF-8.

    Raises `DataError` for a file that is no text.
    """
    data = path.read_bytes()
    kind = next((kind for kind, begin in _OTHERS.items() if data.startswith(begin)), None)
    head = data[:_HEAD]
    if kind is None and len(head.translate(None, _CONTROL)) < (1 - _FEW) * len(head) and b"\0" not in data:
        kind = "binary"
    if kind is not None:
        raise DataError(f"{path.name} is no text file, but {kind} data: save it as {FILE_KINDS}")
    for name, marks in _MARKS.items():
        if data.startswith(marks):
            return name
    if b"\0" not in data:
        return "utf-8-sig"
    even, odd = (head[i::2].count(0) / max(1, len(head[i::2])) for i in (0, 1))
    if min(even, odd) < _FEW < _MANY < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    raise DataError(f"{path.name} holds zero bytes: it is damaged, or no text file. Save it as UTF-8 text.")


def csv_form(path: Path) -> dict[str, str]:
    """Return the encoding and the separator "sep" of a CSV or TSV file. Raises `DataError` for two columns of one name."""
    encoding = text_encoding(path)
    with path.open(encoding=encoding) as file:
        header = file.readline()
    likely = ("\t",) if path.suffix.lower() == ".tsv" else _SEPARATORS
    form = {"encoding": encoding, "sep": next((one for one in likely if one in header), likely[0])}
    names = next((cells for cells in csv_records(path, form) if any(cells)), [])
    double = sorted({name for name in names if name and names.count(name) > 1})
    if double:
        raise DataError(f"{path.name} has two columns called {double[0]!r}: rename one of them")
    return form


def _check_width(path: Path, form: dict[str, str]) -> None:
    """Raise `DataError` for a row with more cells than the header: as a rule a text with a comma, and no quotes."""
    header: list[str] = []
    for number, cells in enumerate(csv_records(path, form), start=1):
        header = header or cells
        if any(cells[len(header) :]):
            raise DataError(
                f"{path.name} cannot be parsed: row {number} of the file has {len(cells)} cells, and the header has "
                f"{len(header)}. Put a text that holds {form['sep']!r} in double quotes"
            )


def csv_records(path: Path, form: dict[str, str]) -> Iterator[list[str]]:
    """Yield the cells of every row of a CSV file, none for a blank line: a cell may hold line breaks."""
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(newline="", encoding=form["encoding"]) as file:
        yield from csv.reader(file, delimiter=form["sep"])


def json_content(path: Path, text: str) -> Any:
    """Return what a JSON or JSONL file holds; of several documents, one a line, a list. Raises `DataError`."""
    content: Any = None
    try:
        content = None if path.suffix.lower() in JSON_LINES else json.loads(text)
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
    return content


@contextmanager
def data_errors(data: Any) -> Iterator[None]:
    """Turn whatever is raised while somebody's data is read into one `DataError` that names the data and the cause."""
    try:
        yield
    except HftlError:
        raise
    except Exception as error:
        if not isinstance(error, _TROUBLE) and not type(error).__module__.startswith("pyarrow"):
            raise
        name = repr(data)[:80] if isinstance(data, (str, Path)) else f"the {type(data).__name__}"
        cause = f"{type(error).__name__}: {one_line(error)}"
        if isinstance(error, PermissionError):
            cause = f"you have no permission for {error.filename or 'it'}."
        if isinstance(error, UnicodeEncodeError):
            cause = f"a name or text is not valid UTF-8 ({error.object[-100:]!a}). Rename or fix it."
        if isinstance(error, RecursionError):
            cause = "its values are nested too deeply."
        raise DataError(f"{name} cannot be read: {cause}") from error


def one_line(error: BaseException) -> str:
    """Return the first 200 characters of the error on one line."""
    return " ".join(str(error).split())[:200]
