"""What a command of the server may be asked to change in its process before it begins: memory and disks that end."""

import errno
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import BertForSequenceClassification

from hftl.selection import race_policy
from hftl.training import cache, stages


adapt = importlib.import_module("hftl.adapt")  # the package has a function of that name


def _room_for(rows: int, error: Exception) -> None:
    forward = BertForSequenceClassification.forward

    def limited(self: Any, input_ids: Any = None, **inputs: Any) -> Any:
        if self.training and torch.is_grad_enabled() and len(input_ids) > rows:
            raise error
        return forward(self, input_ids=input_ids, **inputs)

    BertForSequenceClassification.forward = limited  # type: ignore[method-assign]


def room_for_two() -> None:
    _room_for(2, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def room_for_three() -> None:
    _room_for(3, RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def room_for_none() -> None:
    _room_for(0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def another_error() -> None:
    _room_for(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def _disk_full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room_for_features() -> None:
    save = np.save

    def half(file: Any, array: Any) -> None:
        save(file, array[: len(array) // 2])
        _disk_full()

    cache.np.save = half  # type: ignore[attr-defined]


def no_room_for_states() -> None:
    os.posix_fallocate = _disk_full


def no_room_for_the_map() -> None:
    cache.open_memmap = _disk_full  # type: ignore[attr-defined]


def _no_room_at(holder: Any, name: str, count: int, error: Exception) -> None:
    original, calls = getattr(holder, name), 0

    def limited(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise error
        return original(*args, **kwargs)

    setattr(holder, name, limited)


def no_room_for_a_stage() -> None:
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    _no_room_at(stages, "save_file", 3, SafetensorError(words))


def no_room_for_a_checkpoint() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    _no_room_at(transformers.Trainer, "_save_optimizer_and_scheduler", 5, error)


def no_room_for_the_report() -> None:
    _no_room_at(adapt, "write_report", 1, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def no_cache_folder() -> None:
    Path(os.environ["HFTL_CACHE"]).write_text("a file is in the way")


def another_transformers() -> None:
    transformers.__version__ += ".post1"


def another_torch() -> None:
    torch.__version__ = torch.torch_version.TorchVersion(torch.__version__ + ".post1")


def another_format() -> None:
    cache.VERSION += 1


def any_winner() -> None:
    """A race whose winner is kept, however good the probe is."""
    race_policy.SURE = 0.0
