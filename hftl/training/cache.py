"""Frozen features and states on disk: computed once, keyed by all that they depend on, memory-mapped when read."""

import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers
import xxhash
from numpy.lib.format import open_memmap

from hftl.paths import cache_dir
from hftl.tasks.task import Encoded
from hftl.training.world import from_every_process, is_local_main_process, wait_for_all


VERSION = 2  # raise it when the meaning of the arrays changes
DEFAULT_BUDGET = 20 * 2**30  # bytes, HFTL_CACHE_BUDGET overrides it
SPARE = 2**30  # bytes of the disk that are left to others
MANIFEST = "manifest.json"  # beside the arrays: the hash of each file, written last
ABANDONED = 24 * 3600  # seconds since the last use of states, or the last write to what is half-written


def weights_hash(model: torch.nn.Module, names: Iterable[str] | None = None) -> str:
    """Hash of every parameter and buffer (or of those called `names`), names included."""
    state = model.state_dict()
    digest = hashlib.sha256()
    for name in sorted(state if names is None else names):
        tensor = state[name]
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# Fields of a config that change no state of a model: names of labels and files, and what the weights' hash says too.
_OUTSIDE = {"_name_or_path", "id2label", "label2id", "problem_type", "architectures", "transformers_version", "dtype"}


def model_identity(model: Any) -> dict[str, Any]:
    """What the answers of a model depend on beside its weights: its class, its config, its kind of attention."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft wraps; adapters are weights
    fields = {k: v for k, v in inner.config.to_dict().items() if k not in _OUTSIDE}
    attention = inner.config._attn_implementation
    return {"class": type(inner).__name__, "config": fields, "attention": attention}


def cache_key(model: Any, *, use_cpu: bool, **parts: Any) -> str:
    """Hash of all that the arrays depend on: another weight, config, row, size, device or version is another key.

    The weights are among `parts`, since not every one of the model's counts for every array.
    """
    device = "cpu" if use_cpu else str(torch.accelerator.current_accelerator())
    precision = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) if not use_cpu else ()
    parts = {
        **parts,
        **model_identity(model),
        "device": (device, *precision),
        "version": VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def preprocessing(collate: Callable, encoded: Encoded) -> dict[str, float]:
    """What padding and normalisation make of a row, in sums: a part of every cache key. Augmentation is left out."""
    plain = replace(encoded, augment=False)
    return {k: float(v.double().sum()) for k, v in collate([plain[0]]).items() if k != "labels"}


def cached_arrays(key: str, make: Callable[[], dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays under `key`, made by `make()` when they are not on disk, and where they came from.

    Origin is "cache", "computed", "computed, not kept: ..." when the budget is spent, or "computed, since the cached
    copy was damaged". All processes call this together, since `make` shares the work out over them.
    """
    folder = cache_dir() / "features" / key
    arrays = _read_folder(folder)
    # All decide alike, before any of them writes: another machine may have another cache.
    if all(from_every_process(arrays is not None)) and arrays is not None:
        return arrays, "cache"
    damaged = folder.is_dir()
    arrays = make()
    origin = "computed"
    if is_local_main_process():
        origin = _keep(folder, arrays)
    if damaged and origin == "computed":
        origin = "computed, since the cached copy was damaged"
    wait_for_all()
    mapped = _read_folder(folder)  # from the disk when needed, rather than in memory for the rest of the run
    return (arrays if mapped is None or mapped.keys() != arrays.keys() else mapped), origin


def is_cached(key: str) -> bool:
    """True when `cached_arrays` would find the arrays under `key` on disk."""
    return _read_folder(cache_dir() / "features" / key) is not None


_VERIFIED: dict[Path, tuple[int, ...]] = {}  # folders that this process has hashed, with the times of their files


def _read_folder(folder: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a folder, mapped read-only; None when there is none, or when it is not what was once written."""
    try:
        written = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = sorted(folder.glob("*.npy"))
        times = tuple(n for file in files for n in (file.stat().st_mtime_ns, file.stat().st_size))
        if _VERIFIED.get(folder) != times:
            if written != _hashes(folder):
                return None
            _VERIFIED[folder] = times
        return {file.stem: np.load(file, mmap_mode="r") for file in files} or None
    except (ValueError, OSError, RecursionError):  # no manifest, or one that is no JSON
        return None


def _hashes(folder: Path) -> dict[str, str]:
    """Hash of each file of arrays: XXH3, which reads gigabytes a second. It is for damage, not against forgery."""
    hashes = {}
    for path in sorted(folder.glob("*.npy")):
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()  # type: ignore[arg-type]
    return hashes


def budget() -> int:
    """Bytes that features, and states, may take on disk: `HFTL_CACHE_BUDGET`, else 20 GB."""
    return int(os.environ.get("HFTL_CACHE_BUDGET", DEFAULT_BUDGET))


def _used(root: Path) -> int:
    return sum(p.stat().st_size for p in root.rglob("*.npy"))


def _keep(folder: Path, arrays: dict[str, np.ndarray]) -> str:
    root = folder.parent
    partial = _partial(root, folder.name, os.getpid())
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        if _used(root) + sum(a.nbytes for a in arrays.values()) > budget():
            return f"computed, not kept: the cache in {root} has reached HFTL_CACHE_BUDGET ({budget()} bytes)"
        # Written beside and renamed, so that a killed run leaves nothing that could be read.
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        _publish(partial, folder)
    except OSError as error:  # a full disk; the run needs no cache
        shutil.rmtree(partial, ignore_errors=True)
        return f"computed, not kept: {error}"
    return "computed"


def _partial(root: Path, key: str, owner: int) -> Path:
    """Where process `owner` of this machine writes the arrays of `key`."""
    return root / f".partial-{owner}-{key}-{socket.gethostname()}"


def _remove_abandoned(root: Path, pattern: str = ".partial-*") -> None:
    """Remove what killed runs left: half-written by a process of this machine that is no more, or a day old."""
    for folder in root.glob(pattern):
        named = re.fullmatch(r"\.partial-(\d+)-\w+-(.+)", folder.name)
        owner, host = (int(named[1]), named[2]) if named else (0, "")
        ended = host == socket.gethostname() and (owner == os.getpid() or not psutil.pid_exists(owner))
        written = max(p.stat().st_mtime for p in (folder, *folder.glob("*.npy")))
        if ended or time.time() - written > ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(partial: Path, folder: Path) -> None:
    (partial / MANIFEST).write_text(json.dumps(_hashes(partial)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)  # a broken one; a whole one would have been read
    try:
        partial.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(partial)


def _states_root() -> Path:
    return cache_dir() / "states"


def open_states(key: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """Return the stored states under `key`, mapped read-only; None when there are none, or a broken file."""
    folder = _states_root() / key
    states = (_read_folder(folder) or {}).get("states")
    if states is None or states.shape != shape or states.dtype != dtype:
        return None
    os.utime(folder)  # used now
    return states


@contextmanager
def reserve_states(
    wanted: dict[str, tuple[tuple[int, ...], np.dtype]], *, main: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Give the processes of this machine one writable array per key; they become readable together at the end.

    All processes enter and leave together; `main` is the one that makes the files. Raises OSError on every process
    when the budget or the disk has no room.
    """
    root = _states_root()
    host = socket.gethostname()
    owners = from_every_process((host, main, os.getpid()))
    owner = next(pid for at, is_main, pid in owners if at == host and is_main)
    partial = {key: _partial(root, key, owner) for key in wanted}
    files = {partial[key] / "states.npy": form for key, form in wanted.items()}
    try:
        problems = [p for p in from_every_process(_set_up(root, files) if main else None) if p]
        if problems:
            raise OSError(problems[0])
        arrays = {key: np.load(partial[key] / "states.npy", mmap_mode="r+") for key in wanted}
        yield arrays
        for array in arrays.values():
            array.flush()
        wait_for_all()
        if main:
            for key in wanted:
                _publish(partial[key], root / key)
        wait_for_all()
    finally:
        for folder in partial.values() if main else ():
            shutil.rmtree(folder, ignore_errors=True)


def _set_up(root: Path, files: dict[Path, tuple[tuple[int, ...], np.dtype]]) -> str | None:
    """Make the files with all their blocks; return what stands in the way."""
    size = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in files.values())
    gigabytes, limit = f"its {size / 2**30:.1f} GiB", f"HFTL_CACHE_BUDGET ({budget()} bytes)"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root, "*")
        if size > budget():
            return f"{gigabytes} are more than {limit}"
        if _used(root) + size > budget():
            return f"states that are in use hold all of {limit}"
        if size + SPARE > shutil.disk_usage(root).free:
            return f"{gigabytes} do not fit on the disk of {root}"
        for file, (shape, dtype) in files.items():
            file.parent.mkdir()
            open_memmap(file, mode="w+", dtype=dtype, shape=shape).flush()
            if hasattr(os, "posix_fallocate"):  # else a disk that fills up kills whoever writes to the map
                with file.open("r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    except OSError as error:
        return str(error)
    return None


def drop_states(keys: list[str]) -> None:
    """Remove states that nobody needs any more."""
    wait_for_all()
    if is_local_main_process():
        for key in keys:
            shutil.rmtree(_states_root() / key, ignore_errors=True)
