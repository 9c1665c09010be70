"""What this machine has: memory and disk."""

import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

from hftl.paths import cache_dir


def free_memory(use_cpu: bool) -> int:
    """Bytes that are free now where the model trains: of the GPU, or of the machine's memory."""
    if not use_cpu and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def look_at_machine(use_cpu: bool) -> dict[str, Any]:
    """Return device, memory and disk in bytes, before anything of the run is loaded."""
    memory = psutil.virtual_memory()
    gpu = None
    if not use_cpu and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        gpu = {"name": torch.cuda.get_device_name(), "free_bytes": int(free), "total_bytes": int(total)}
    return {
        "device": "cpu" if use_cpu else str(torch.accelerator.current_accelerator()),
        "threads": torch.get_num_threads(),
        "memory_total_bytes": int(memory.total),
        "memory_free_bytes": int(memory.available),
        "gpu": gpu,
        "disk_free_bytes": int(shutil.disk_usage(_existing(cache_dir())).free),
    }


def _existing(folder: Path) -> Path:
    """The folder, or the lowest one above it that exists."""
    return next(p for p in (folder, *folder.resolve().parents) if p.exists())
