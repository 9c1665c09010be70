"""The run folder appears when the run has finished. Work happens in `<output_dir>.partial/`, which is then renamed."""

import atexit
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hftl.atomic import check_folder, disk_errors, partial_of, put_in_place, write_new
from hftl.config import same_flags
from hftl.errors import RunError
from hftl.paths import typed_path


_ENDING = re.compile(r"\.(csv|tsv|jsonl?|parquet|txt|conllu?|iob2?|bio(es)?)$", re.IGNORECASE)
_ANOTHER = "Choose another --output_dir."
_LOOK = 0.1  # seconds: who only looks whether a run is held has the lock for less
CONTROL = "control"  # of a partial folder: what `--control scratch` needs to go on
# What this process may write, by absolute path: the lock, and the folders that were made for it.
_CLAIMS: dict[Path, tuple[FileLock, list[Path]]] = {}


def claim(output_dir: Path) -> None:
    """Keep other processes from writing this run until `release`, or the end of this process.

    The lock is the kernel's, so that a killed process leaves none. Raises `RunError` when another process holds it.
    """
    path = output_dir.absolute()
    if path in _CLAIMS:
        return
    lock = FileLock(_lock_of(path), timeout=_LOOK)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        with disk_errors(output_dir, _ANOTHER):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise RunError(
            f"Another process is writing {output_dir} at this moment. Wait for it, or choose another --output_dir."
        ) from None
    _CLAIMS[path] = (lock, made)


def is_held(output_dir: Path) -> bool:
    """Is a process, this one or another, writing this run at this moment?"""
    path = output_dir.absolute()
    if path in _CLAIMS or not _lock_of(path).exists():
        return path in _CLAIMS
    try:
        with FileLock(_lock_of(path), timeout=0):
            _lock_of(path).unlink(missing_ok=True)  # left by a killed process
    except Timeout:
        return True
    except OSError:  # a folder of somebody else's: who may not write there holds nothing
        pass
    return False


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def release(output_dir: Path) -> None:
    """Let other processes write there again. Folders that were made for the lock and stay empty are removed."""
    if output_dir.absolute() not in _CLAIMS:
        return
    lock, made = _CLAIMS.pop(output_dir.absolute())
    Path(lock.lock_file).unlink(missing_ok=True)  # before its release: who waits for it looks at the file again
    lock.release()
    for folder in made:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@atexit.register
def _release_all() -> None:
    for path in list(_CLAIMS):
        release(path)


def default_output_dir(data_name: str, model: str, method: str, *, claimed: bool) -> Path:
    """Return `named_folder`, with a number where that is taken; with `claimed`, as `claim` does."""
    first = path = named_folder(data_name, model, method)
    number = 2
    while path.exists() or (claimed and not _is_ours(path)):
        path = first.with_name(f"{first.name}-{number}")
        number += 1
    return path


def named_folder(data_name: str, model: str, method: str) -> Path:
    """Return runs/<data>-<model>-<method>. A file of data goes without its ending."""
    names = [re.sub(_ENDING, "", Path(data_name).name), *(Path(str(word)).name for word in (model, method))]
    return Path("runs") / "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "data" for name in names)


def _is_ours(path: Path) -> bool:
    try:
        claim(path)
    except RunError as error:
        if isinstance(error.__context__, Timeout):
            return False
        raise
    return True


def check_output(output_dir: Path, *, overwrite: bool, resume: bool) -> None:
    """Raise `RunError` when the run could not be written there, or would destroy something not given up."""
    check_folder(
        output_dir,
        "--output_dir",
        "runs/mine",
        kind="a run of hftl",
        proof="report.json",
        marks=("rows.json", "report.json"),
        overwrite=overwrite,
    )
    if partial_of(output_dir).exists() and not resume and not overwrite:
        raise RunError(
            f"{partial_of(output_dir)} holds a run that was cut off. Add --resume to go on with it, "
            "or --overwrite to start anew."
        )


def finished_report(output_dir: Path, config_yaml: str) -> dict[str, Any] | None:
    """Return the report of the run that lies finished in `output_dir`, for `--resume`; None when there is none.

    Raises `RunError` when it was made with other flags.
    """
    if not (output_dir / "report.json").is_file() or not (output_dir / "config.yaml").is_file():
        return None
    if not same_flags((output_dir / "config.yaml").read_text(encoding="utf-8"), config_yaml):
        raise RunError(
            f"{output_dir} is finished, and was made with other flags. Choose another --output_dir, or add --overwrite."
        )
    report: dict[str, Any] = json.loads((output_dir / "report.json").read_text(encoding="utf-8"))
    return report


def check_finished(run: str | Path) -> Path:
    """Return the folder of a finished run, or of its model. Raises `RunError` for anything else, with the reason."""
    path = typed_path(run)
    unfinished = path if path.name.endswith(".partial") else partial_of(path)
    if unfinished.is_dir() and (unfinished == path or not path.exists()):
        whole = unfinished.with_name(unfinished.name.removesuffix(".partial"))
        words = ["hftl", "train", str(unfinished / "config.yaml"), "--output_dir", str(whole), "--resume"]
        raise RunError(f"{unfinished} is not finished: go on with `{shlex.join(words)}` first.")
    if not path.is_dir():
        raise RunError(f"There is no run folder {path}: hftl push takes what hftl train made, such as runs/tickets.")
    if not any((place / "config.json").is_file() for place in (path / "final", path)):
        raise RunError(f"{path} is not a run: it has no final/ with a model in it.")
    return path


def is_resumable(output_dir: Path) -> bool:
    """True when a run was cut off there and `--resume` has something to go on with."""
    return all((partial_of(output_dir) / name).is_file() for name in ("config.yaml", "rows.json"))


def open_partial(output_dir: Path, config_yaml: str, rows: dict[str, Any], *, resume: bool) -> Path:
    """Make `<output_dir>.partial`, or reopen the one that a cut-off run with the same config and data left.

    Raises `RunError` when it belongs to another config or other data, or cannot be made.
    """
    folder = partial_of(output_dir)
    identity = json.dumps(rows, sort_keys=True)
    if resume and is_resumable(output_dir):
        same = same_flags((folder / "config.yaml").read_text(encoding="utf-8"), config_yaml)
        if not same or (folder / "rows.json").read_text(encoding="utf-8") != identity:
            what = "data or weights" if same else "flags"
            raise RunError(f"{folder} was begun with other {what}. Use the same ones, or --overwrite to start anew.")
        return folder
    _remove(folder)
    with disk_errors(folder, _ANOTHER):
        folder.mkdir(parents=True)
        (folder / "rows.json").write_text(identity, encoding="utf-8")
        write_new(folder / "config.yaml", config_yaml)  # what a kill cuts off would pass for other flags
    return folder


def close_partial(output_dir: Path) -> None:
    """Drop what only a restart needs, and give the folder its final name."""
    folder = partial_of(output_dir)
    (folder / "stage.json").unlink(missing_ok=True)  # first: it says that the weights of a stage are here
    for name in ("checkpoints", "race", CONTROL):
        shutil.rmtree(folder / name, ignore_errors=True)
    for leftover in [
        *folder.glob("stage-*.safetensors"),
        folder / "stage.json.new",
        folder / "stage.json.partial",
        folder / "rows.json",
    ]:
        leftover.unlink(missing_ok=True)
    put_in_place(folder, output_dir)  # with --overwrite in place of another run, checked before


def holds_training(output_dir: Path) -> bool:
    """True when `--resume` would save training there: a step of a finished stage, or a complete checkpoint."""
    folder = partial_of(output_dir)
    done = folder / "stage.json"
    stages = json.loads(done.read_text())["stages"] if done.is_file() else []
    return any(stage["steps"] for stage in stages) or any(folder.glob("checkpoints/*/*/whole"))


def discard_partial(output_dir: Path) -> None:
    """Remove what is there of a run that cannot go on."""
    _remove(partial_of(output_dir))


def _remove(folder: Path) -> None:
    """Remove the folder of an unfinished run, its mark last: what a kill leaves of it is still known as hftl's."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != "rows.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(folder)
