"""Frozen features and states on disk: computed once, keyed by all that they depend on, memory-mapped when read."""

import hashlib
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
import xxhash
from numpy.lib.format import open_memmap

from hftl.atomic import put_in_place
from hftl.paths import cache_dir
from hftl.tasks.task import Encoded
from hftl.training.world import from_every_process, is_local_main_process, wait_for_all


VERSION = 2  # raise it when the meaning of the arrays changes
DEFAULT_BUDGET = 20 * 2**30  # bytes, HFTL_CACHE_BUDGET overrides it
SPARE = 2**30  # bytes of the disk that are left to others
MANIFEST = "manifest.json"  # beside the arrays: the hash of each file, written last
PARTIAL = ".partial-"  # begins the names of folders that are being filled
DAY = 24 * 3600  # seconds after which states that nobody used, and what a killed run left half-written, are removed


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


def cache_key(model: Any, *, use_cpu: bool, **parts: Any) -> str:
    """Hash of all that the arrays depend on: another weight, config, row, size, device or version is another key.

    The weights are among `parts`, since not every one of the model's counts for every array.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft wraps; adapters are weights
    device = "cpu" if use_cpu else str(torch.accelerator.current_accelerator())
    precision = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) if not use_cpu else ()
    parts = {
        **parts,
        "class": type(inner).__name__,
        "config": {k: v for k, v in inner.config.to_dict().items() if k not in _OUTSIDE},
        "attention": inner.config._attn_implementation,
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

    Origin is "cache", "computed", "computed, not kept: ..." when there is no room, or "computed, since the cached
    copy was damaged". All processes call this together, since `make` shares the work out over them.
    """
    arrays = _stored("features", key)
    if arrays is not None:
        return arrays, "cache"
    damaged = (cache_dir() / "features" / key).is_dir()
    origin = "computed, since the cached copy was damaged" if damaged else "computed"
    arrays = make()
    if is_local_main_process():
        try:
            with _new_folder("features", key, sum(a.nbytes for a in arrays.values())) as partial:
                for name, array in arrays.items():
                    np.save(partial / f"{name}.npy", array)
        except OSError as error:  # the run needs no cache
            origin = f"computed, not kept: {error}"
    wait_for_all()
    return _stored("features", key) or arrays, origin  # rather on disk than in memory for the rest of the run


def is_cached(key: str) -> bool:
    """True when `cached_arrays` would find the arrays under `key` on disk."""
    return _stored("features", key) is not None


def read_states(key: str) -> dict[str, np.ndarray] | None:
    """Return the stored states under `key`, mapped read-only; None when a process lacks them, or has a broken file."""
    arrays = _stored("states", key)
    if arrays is not None:
        with suppress(OSError):  # another run has dropped them since; the maps are open
            os.utime(cache_dir() / "states" / key)  # used now
    return arrays


def _stored(kind: str, key: str) -> dict[str, np.ndarray] | None:
    """The arrays under `key`, where every process has them: another machine may have another cache."""
    arrays = _read_folder(cache_dir() / kind / key)
    return arrays if all(from_every_process(arrays is not None)) else None


@contextmanager
def new_states(key: str, wanted: dict[str, tuple[tuple[int, ...], np.dtype]]) -> Iterator[dict[str, np.ndarray]]:
    """Give the processes of a machine one writable array per name, of this shape and kind; `read_states` finds them after the block.

    All processes enter and leave together. Raises OSError on every one of them when the budget or the disk has no room.
    """
    size = sum(math.prod(shape) * kind.itemsize for shape, kind in wanted.values())
    with ExitStack() as stack:
        partial = problem = None
        if is_local_main_process():
            try:
                partial = stack.enter_context(_new_folder("states", key, size))
                for name, (shape, kind) in wanted.items():
                    _allocate(partial / f"{name}.npy", shape, kind)
            except OSError as error:
                problem = str(error)
        here = socket.gethostname()
        places = from_every_process((here, partial, problem))
        problems = [problem for _, _, problem in places if problem]
        if problems:
            raise OSError(problems[0])
        folder = next(path for host, path, _ in places if host == here and path)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in wanted}
        yield arrays
        for array in arrays.values():
            array.flush()
        wait_for_all()
    wait_for_all()


def _allocate(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    open_memmap(file, mode="w+", dtype=dtype, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):  # else a disk that fills up kills whoever writes to the map
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


def drop_states(keys: list[str]) -> None:
    """Remove states that nobody needs any more."""
    wait_for_all()
    if is_local_main_process():
        for key in keys:
            shutil.rmtree(cache_dir() / "states" / key, ignore_errors=True)


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


def shortage(kind: str, size: int) -> str | None:
    """Say why `size` bytes of "features" or "states" have no room in the cache; None where they have."""
    root, budget = cache_dir() / kind, int(os.environ.get("HFTL_CACHE_BUDGET", DEFAULT_BUDGET))
    used = sum(path.stat().st_size for path in root.glob("*/*.npy"))
    if used + size > budget:
        return f"{size / 2**30:.1f} GiB do not fit into HFTL_CACHE_BUDGET ({budget} bytes, {used} in use)"
    existing = next(path for path in (root, *root.resolve().parents) if path.exists())
    if size + SPARE > shutil.disk_usage(existing).free:
        return f"{size / 2**30:.1f} GiB do not fit on the disk of {root}"
    return None


@contextmanager
def _new_folder(kind: str, key: str, size: int) -> Iterator[Path]:
    """Give a folder to fill with `size` bytes of arrays; `key` leads to it at the end of the block.

    Raises OSError when the budget or the disk has no room.
    """
    root = cache_dir() / kind
    root.mkdir(parents=True, exist_ok=True)
    for old in root.glob("*" if kind == "states" else f"{PARTIAL}*"):
        with suppress(OSError):  # another run was faster
            if time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old)
    problem = shortage(kind, size)
    if problem:
        raise OSError(problem)
    with TemporaryDirectory(prefix=PARTIAL, dir=root, ignore_cleanup_errors=True) as place:
        partial = Path(place) / key
        partial.mkdir()
        yield partial
        with suppress(OSError):  # another run was faster
            (partial / MANIFEST).write_text(json.dumps(_hashes(partial)), encoding="utf-8")
            put_in_place(partial, root / key)
