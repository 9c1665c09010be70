"""Files and folders that appear only when they are complete: made beside their place, and renamed at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hftl.errors import RunError
from hftl.paths import typed_path


def partial_of(path: Path) -> Path:
    """Return where the file or folder is while it is being made."""
    return path.with_name(path.name + ".partial")


def put_in_place(partial: Path, path: Path) -> None:
    """Give `partial` its final name. A folder that has this name goes only now, when the new one is complete."""
    if partial.is_dir():
        old = partial / "replaced"  # half removed in its own place, it would be in the way and look like the new one
        if path.exists():
            path.rename(old)
        if old.exists():  # also what a killed process left
            shutil.rmtree(old)
    partial.replace(path)


@contextmanager
def new_folder(path: Path, mark: str | None = None) -> Iterator[Path]:
    """Give an empty folder to fill: at the end of the block it becomes `path`, and on any error it is removed.

    The empty file `mark` is in it meanwhile: by it `check_folder` knows what a killed process left. Raises `OSError`.
    """
    partial = partial_of(path)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if mark is not None:
            (partial / mark).touch()
        yield partial
        if mark is not None:
            (partial / mark).unlink()
        put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give the name of a file to write: at the end of the block it becomes `path`, and on any error it is removed."""
    partial = partial_of(path)
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path, instead: str = "") -> Iterator[None]:
    """Turn what the disk refuses inside, while `path` is written, into a `RunError`; `instead` says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the disk's
            raise
        raise RunError(f"{path} cannot be written: {error.strerror}. {instead}".rstrip()) from None


def write_new(path: Path, text: str) -> None:
    """Write a file of text that nobody ever reads half."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_folder(
    path: Path,
    flag: str,
    example: str,
    *,
    kind: str,
    proof: str,
    marks: tuple[str, ...],
    overwrite: bool | None = False,
) -> None:
    """Raise `RunError` when a folder cannot be made at `path`, or would replace something that was not given up.

    `kind` is what is made, such as "a run of hftl": a finished one holds the file `proof`, an unfinished one at least
    one of `marks`. `flag` and `example` say what to type instead; `overwrite` is None where there is no such flag.
    """
    for name in (path, partial_of(path)) if path.name else (path,):
        typed_path(name)  # a name may be too long for the second alone
    if path.name in ("", ".."):
        raise RunError(f"{path} is no folder to make. Give {flag} a name, such as {example}.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, not a folder. Choose another {flag}.")
    if path.exists() and any(path.iterdir()):
        if not overwrite:
            instead = "" if overwrite is None else ", or add --overwrite to replace it"
            raise RunError(f"{path} exists already. Choose another {flag}{instead}.")
        if not (path / proof).is_file():
            raise RunError(f"{path} is not {kind}, so --overwrite does not remove it. Choose another {flag}.")
    partial = partial_of(path)
    if partial.exists() and not (partial.is_dir() and _is_known(partial, marks)):
        raise RunError(f"{partial} is in the way and not {kind}. Choose another {flag}.")
    check_parent(path, flag)


def check_parent(path: Path, flag: str) -> None:
    """Raise `RunError` when nothing can be made at `path`, which `flag` names."""
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{path} cannot be written: no permission in {parent}. Choose another {flag}.")


def _is_known(folder: Path, marks: tuple[str, ...]) -> bool:
    return not any(folder.iterdir()) or any((folder / name).is_file() for name in marks)


def check_output_file(name: str) -> Path:
    """Return the file to write. Raises `RunError` or `ConfigError` when that could not be done, before any work."""
    output = typed_path(name)
    if output.is_dir():
        raise RunError(
            f"{output} is a folder: --output takes the name of a CSV file, of masks that of a PNG or of a new folder."
        )
    typed_path(partial_of(output))  # the longer name
    if not output.absolute().parent.is_dir():
        raise RunError(f"{output} cannot be written: there is no folder {output.parent}.")
    return output
