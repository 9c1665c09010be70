"""Frozen features on disk: computed once, keyed by everything that they depend on, memory-mapped when read."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from hftl.paths import cache_dir
from hftl.training.world import is_local_main_process, wait_for_all


VERSION = 1  # raise it when the meaning of the arrays changes
DEFAULT_BUDGET = 20 * 2**30  # bytes, HFTL_CACHE_BUDGET overrides it


def weights_hash(model: torch.nn.Module) -> str:
    """Hash of every parameter and buffer, names included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cache_key(**parts: Any) -> str:
    """Hash of all that the arrays depend on: another weight, row, size or library version is another key."""
    parts = {**parts, "version": VERSION, "torch": torch.__version__, "transformers": transformers.__version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached_arrays(key: str, make: Callable[[], dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays under `key`, made by `make()` when they are not on disk, and where they came from.

    Origin is "cache", "computed", or "computed, not kept: ..." when the budget is spent. All processes call this
    together, since `make` shares the work out over them.
    """
    folder = cache_dir() / "features" / key
    found = folder.is_dir()
    wait_for_all()  # every process decides before one of them writes
    if found:
        return {p.stem: np.load(p, mmap_mode="r") for p in sorted(folder.glob("*.npy"))}, "cache"
    arrays = make()
    origin = "computed"
    if is_local_main_process():
        origin = _keep(folder, arrays)
    wait_for_all()
    return arrays, origin


def _keep(folder: Path, arrays: dict[str, np.ndarray]) -> str:
    budget = int(os.environ.get("HFTL_CACHE_BUDGET", DEFAULT_BUDGET))
    root = folder.parent
    root.mkdir(parents=True, exist_ok=True)
    used = sum(p.stat().st_size for p in root.rglob("*.npy"))
    if used + sum(a.nbytes for a in arrays.values()) > budget:
        return f"computed, not kept: the cache in {root} has reached HFTL_CACHE_BUDGET ({budget} bytes)"
    # Whole or absent: written beside and renamed, so a killed run leaves nothing that could be read.
    partial = Path(tempfile.mkdtemp(dir=root, prefix=".partial-"))
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array)
    try:
        partial.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(partial)
    return "computed"
