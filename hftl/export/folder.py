"""The folder of an export: whole or absent. It is made in `<folder>.partial` and renamed at success."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hftl.errors import RunError
from hftl.paths import typed_path
from hftl.run_data import Artifact


REPORT = "export.json"
_MARK = ".hftl-export"  # in the folder while it is made: says that a leftover may be removed


def default_folder(artifact: Artifact) -> Path:
    """Return RUN/onnx for a run, <folder>-onnx beside a model folder, else <name>-onnx in the current folder."""
    if artifact.run is not None:
        return artifact.run / "onnx"
    given = typed_path(artifact.name)
    if given.is_dir():
        return given.absolute().with_name(given.resolve().name + "-onnx")
    return Path(given.name + "-onnx")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise `RunError` when the export would destroy something that was not given up."""
    if folder.name in ("", ".."):
        raise RunError(f"{folder} is no folder to make. Give --output_dir a name, such as my-onnx.")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder. Choose another --output_dir.")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise RunError(f"{folder} exists already. Choose another --output_dir, or add --overwrite to replace it.")
        if not (folder / REPORT).is_file():
            raise RunError(
                f"{folder} is not an export of hftl, so --overwrite does not remove it. Choose another --output_dir."
            )
    partial = _partial(folder)
    if partial.exists() and not (partial / _MARK).is_file():
        raise RunError(f"{partial} is in the way and not hftl's. Choose another --output_dir.")


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Give a working folder; rename it to `folder` at the end, or remove it on any error.

    What `folder` held before is replaced only then. Raises `RunError` when the disk refuses.
    """
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        (partial / _MARK).touch()
        yield partial
        (partial / _MARK).unlink()
        if folder.exists():
            old = folder.with_name(folder.name + ".replaced")
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old)
        else:
            partial.rename(folder)
    except OSError as error:
        if error.errno is None:  # not the disk's
            raise
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another --output_dir.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")
