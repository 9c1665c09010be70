"""Where the page keeps what it is given and what it makes, and what it lets in. No file outside is read through it."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hftl.atomic import disk_errors, new_file, new_folder, partial_of, write_new
from hftl.config import COLUMN_FLAGS, OWN_FLAGS, TASK_NAMES, DataConfig, MethodConfig, build_config
from hftl.data.files import (
    CONLL_SUFFIXES,
    DATA_SUFFIXES,
    FILE_KINDS,
    IMAGE_SUFFIXES,
    JSON_LINES,
    check_data,
    data_errors,
    has_images,
    hub_parts,
)
from hftl.errors import ConfigError, DataError, HftlError, ModelError
from hftl.models.find import check_model
from hftl.models.packaged import PACKAGED
from hftl.paths import typed_path
from hftl.run_folder import named_folder
from hftl.runs import process_folder
from hftl.ui.unzip import unzip
from hftl.values import trainer_fields


MAX_UPLOAD = "500mb"  # what `--max_upload` is when it is left out
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
MAX_GROWTH = 4  # bytes that a zip may unpack to, for each byte of the limit of an upload. Ours.
_LONGEST_PATH = 4096  # characters of a cell that may be a path
_LATER = re.compile(r"-(corrected|cleaned)(-\d+)?$")
# Flags of hftl's own that name no file, and choices among those of the Trainer; beside them every number and switch of his.
_OURS = {f.name for section in (DataConfig, MethodConfig) for f in fields(section)} - {"data", "method", "race"}
_OURS |= {"max_seq_length", "image_size", "revision", "name", "evidence", "seeds", "control", "target_precision"}
_TRAINERS = {
    "optim",
    "lr_scheduler_type",
    "eval_strategy",
    "save_strategy",
    "logging_strategy",
    "metric_for_best_model",
}


@dataclass(frozen=True)
class Workspace:
    """The folder of `hftl ui FOLDER`; what a page may read lies in it, or in one of `named`."""

    folder: Path
    max_upload: int = 500 * _UNITS["mb"]  # bytes of one upload
    named: tuple[Path, ...] = ()  # more folders that the user named on the command line

    @property
    def data(self) -> Path:
        """Where uploads, cleaned and corrected copies lie."""
        return self.folder.absolute() / "data"

    @property
    def runs(self) -> Path:
        """Where runs lie."""
        return self.folder.absolute() / "runs"

    def holds(self, path: Path) -> bool:
        """Tell whether a path, its links followed, lies in a folder that the page may read."""
        try:
            real = path.resolve()
            return any(real.is_relative_to(root.resolve()) for root in (self.folder, *self.named))
        except (OSError, RuntimeError, ValueError):
            return False

    def new_run(self, data: str, model: str, method: str) -> Path:
        """Return a folder for a run that is not there yet, named as `hftl train` would."""
        first = path = self.runs / named_folder(data, model, method).name
        number = 2
        while any(one.exists() for one in (path, partial_of(path), process_folder(path))):
            path = first.with_name(f"{first.name}-{number}")
            number += 1
        return path

    def new_data(self, name: str) -> Path:
        """Return a path in `data` at which there is nothing yet: `name`, or with a number before its ending."""
        first = path = self.data / _plain(name)
        number = 2
        while path.exists() or partial_of(path).exists():
            path = first.with_name(f"{first.stem}-{number}{first.suffix}")
            number += 1
        return path


@dataclass(frozen=True)
class Correction:
    """A row of the data whose label is to be another. `split` is train, validation or test, as hftl reads the source."""

    split: str
    row: int  # counted from 0 in that split of the source
    label: str  # as a person types it: `Output.typed`


def parse_size(text: str) -> int:
    """Return the bytes of "500mb", "2gb" or a number. Raises `ConfigError` for anything else."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]b)?\s*", str(text).lower())
    size = int(float(parts[1]) * _UNITS[parts[2] or ""]) if parts else 0
    if size < 1:
        raise ConfigError(f"--max_upload {text} is no size: give bytes, or such as 500mb or 2gb.")
    return size


def _plain(name: str) -> str:
    """Return a name that is safe in a path, a command line and a page."""
    path = PurePosixPath(name.replace("\\", "/"))
    words = re.sub(r"[^\w.-]+", "-", path.name)[-100:].strip("-.")
    return words or "data"


# ------------------------------------------------------------------------------------------------- what comes in


def take_upload(workspace: Workspace, upload: Path) -> str:
    """Copy an uploaded file into the workspace (a zip is unpacked) and return the value of `--data`.

    Raises `DataError` with one line for what is too large, of another kind, or not safe.
    """
    suffix, size = upload.suffix.lower(), upload.stat().st_size
    if size > workspace.max_upload:
        limit = workspace.max_upload / _UNITS["mb"]
        raise DataError(
            f"{upload.name} has {size / _UNITS['mb']:,.1f} MB: uploads have at most {limit:,.1f} (--max_upload)."
        )
    if suffix == ".zip":
        return str(_unpacked(workspace, upload))
    if suffix not in (*DATA_SUFFIXES, *CONLL_SUFFIXES):
        raise DataError(
            f"{upload.name}: give {FILE_KINDS}, .conll or .txt with words, or a zip of images: a folder for each class, images/ and masks/, or a COCO file."
        )
    path = workspace.new_data(upload.name)
    workspace.data.mkdir(parents=True, exist_ok=True)
    with disk_errors(path), new_file(path) as partial:
        shutil.copyfile(upload, partial)
    try:
        check_data(str(path), None)
        _check_cells(path, workspace)
    except HftlError:
        path.unlink()
        raise
    return str(path)


def _unpacked(workspace: Workspace, upload: Path) -> Path:
    """Unpack a zip of images, or of files of rows, whole or not at all. Raises `DataError` for what is not safe."""
    path = workspace.new_data(upload.stem)
    workspace.data.mkdir(parents=True, exist_ok=True)
    with disk_errors(path), new_folder(path) as folder:
        for file in unzip(upload, folder, workspace.max_upload * MAX_GROWTH):
            if file.suffix.lower() in DATA_SUFFIXES:
                _check_cells(file, workspace)
        if not has_images(folder):
            check_data(str(folder), None)
    return path


def _check_cells(path: Path, workspace: Workspace) -> None:
    """Raise `DataError` where a cell of uploaded rows names a file that the page may not read: an image's path, say."""
    if path.suffix.lower() in CONLL_SUFFIXES:
        return
    from hftl.data.columns import IMAGE_NAMES  # late, both: they bring pandas and datasets
    from hftl.data.sources import read_file

    with data_errors(path.name):
        table = read_file(path).with_format("arrow")
        for column in table.column_names:
            for value in table[column][:].to_pylist():
                cell = value.get("path") if isinstance(value, dict) else value
                of_image = column.lower().strip() in IMAGE_NAMES
                if isinstance(cell, str) and _leads_out(cell, path.parent, workspace, of_image=of_image):
                    raise DataError(
                        f"{path.name}: the column {column!r} names the file {cell[:80]!r}, which lies outside of what this "
                        "page may read. Upload the images with it, as a zip, or name their folder on the command line"
                    )


def _leads_out(cell: str, base: Path, workspace: Workspace, *, of_image: bool) -> bool:
    if len(cell) > _LONGEST_PATH or "\n" in cell or "\0" in cell:
        return False
    path = PurePosixPath(cell.replace("\\", "/"))
    if not (path.is_absolute() or cell.startswith("~") or ".." in path.parts):
        return False
    inside = workspace.holds(base / Path(cell).expanduser()) if not cell.startswith("~") else False
    of_image = of_image or path.suffix.lower() in IMAGE_SUFFIXES
    return not inside and (of_image or _is_file(base / cell))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------- what is typed


def take_text(workspace: Workspace, text: str) -> str:
    """Return the value of `--data` for what was typed: a path inside the workspace, `sample:<name>` or a Hub id.

    Raises `DataError` for a path outside, whether there is something or not.
    """
    text = text.strip()
    if not text:
        raise DataError("Nothing was typed: give a folder, a file, sample:<name> or a Hub id.")
    if not text.startswith("sample:"):
        path = _confined(workspace, text)
        if path is not None:
            text = str(path)
        else:
            with data_errors(text):
                hub_parts(text)
    check_data(text, None)
    return text


def take_model(workspace: Workspace, text: str) -> str:
    """Return the value of `--model` for what was typed; the same rule. Raises `ModelError`."""
    text = text.strip()
    if text in PACKAGED:
        return text
    try:
        path = _confined(workspace, text)
    except DataError as error:
        raise ModelError(str(error)) from None
    text = text if path is None else str(path)
    check_model(text, None)
    return text


def _confined(workspace: Workspace, text: str) -> Path | None:
    """Return the path that was typed, None for what may be a Hub id. Raises `DataError` for one outside."""
    try:
        path = typed_path(text)
        near = workspace.folder / path  # so is a path that begins in the page's own folder
        path = (near if near.exists() else path).absolute()
        there = path.exists()
    except (HftlError, OSError):
        path, there = Path("/"), True  # outside, whatever it is
    like_path = re.search(r"^[./~\\]|/$|\\|/.*/", text.partition("@")[0]) is not None
    if not there and not like_path:
        return None
    if not workspace.holds(path):
        roots = ", ".join(str(root) for root in (workspace.folder, *workspace.named))
        raise DataError(
            f"{text[:80]!r} is not in a folder that this page may read ({roots}): name its folder on the command line."
        )
    return path


def take_flags(text: str) -> list[str]:
    """Return the words of the advanced flags. Raises `ConfigError` for a flag that could read or write elsewhere."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"The flags cannot be read: {str(error).lower()}.") from None
    plain = {
        name for name, kind in trainer_fields().items() if set(kind.split(" | ")) <= {"int", "float", "bool", "None"}
    }
    allowed, values, name = _OURS | _TRAINERS | plain, {}, None
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name not in allowed:
                known = name in OWN_FLAGS or name in trainer_fields()
                why = "is not for this page: use hftl train" if known else "is no flag of hftl train"
                raise ConfigError(f"--{name} {why}.")
            values[name] = [value] if value else []
        elif name is None:
            raise ConfigError(
                f"{word!r} belongs to no flag: flags begin with two dashes, such as --num_train_epochs 3."
            )
        else:
            values[name].append(word)
    build_config(next(iter(TASK_NAMES)), {k: v[0] if len(v) == 1 else v or True for k, v in values.items()})
    return [word for name, value in values.items() for word in (f"--{name}", *value)]


def take_columns(text: str) -> list[str]:
    """Return the words of flags that say which columns the data have. Raises `ConfigError` for other flags."""
    words = take_flags(text)
    other = next((word for word in words if word.startswith("--") and word[2:] not in COLUMN_FLAGS), None)
    if other is not None:
        raise ConfigError(f"{other} says nothing of columns: give it under Advanced, in step 2.")
    return words


# --------------------------------------------------------------------------------------------- corrected labels


def corrected_copy(
    workspace: Workspace,
    data: str,
    corrections: Sequence[Correction],
    task: str | None = None,
    config: DataConfig | None = None,
) -> str:
    """Write a copy of the data with these labels in the workspace and return the value of `--data` for it.

    Corrections of the same data add up. The data themselves stay as they are; `config` says how they are read. Raises
    `DataError` for a row that is not there, and for a label that it cannot have.
    """
    from hftl.doctor.fix import relabel  # late, both: with them comes torch
    from hftl.doctor.reading import open_source

    changes = last_corrected(workspace, data)[1] | {(one.split, one.row): one.label for one in corrections}
    path = workspace.new_data(f"{later_name(data)}-corrected")
    opened = open_source(data, task, replace(config or DataConfig(), data=data))
    workspace.data.mkdir(parents=True, exist_ok=True)
    relabel(opened, changes, path)
    noted = {"data": data, "changes": [[split, row, label] for (split, row), label in changes.items()]}
    write_new(path.with_name(f".{path.name}.json"), json.dumps(noted, ensure_ascii=False))
    return str(path)


@contextmanager
def right_mask(workspace: Workspace, uploaded: str | None, answer: Callable[[], Any]) -> Iterator[str]:
    """Give the path of a right mask in the workspace: what was uploaded, else the picture that `answer()` returns.

    It stays there, since later copies hold it too, unless the block raises.
    """
    path = workspace.new_data(f"right-mask{Path(uploaded).suffix if uploaded else '.png'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if uploaded:
        shutil.copyfile(uploaded, path)
    else:
        answer().save(path, format="PNG")
    try:
        yield str(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def later_name(data: str) -> str:
    """Return what a cleaned or corrected copy of the data is named after."""
    name = Path(data.removeprefix("sample:")).name
    stem = name.partition("@")[0] if "@" in name else name
    stem = Path(stem).stem if Path(stem).suffix.lower() in (*DATA_SUFFIXES, *JSON_LINES, *CONLL_SUFFIXES) else stem
    return _plain(re.sub(_LATER, "", stem))


def last_corrected(workspace: Workspace, data: str) -> tuple[Path | None, dict[tuple[str, int], str]]:
    """Return the last corrected copy of the same data, and what it changed, by split and row; None without one."""
    notes = sorted(workspace.data.glob(".*-corrected*.json"), key=lambda path: path.stat().st_mtime)
    for note in reversed(notes):
        try:
            known, copy = json.loads(note.read_text(encoding="utf-8")), note.with_name(note.name[1 : -len(".json")])
            if known["data"] == data and copy.is_dir():
                return copy, {(str(split), int(row)): str(label) for split, row, label in known["changes"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None, {}
