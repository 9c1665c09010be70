"""The most memory that this process holds between two moments."""

from pathlib import Path

import torch


_PROCESS = Path("/proc/self")  # of Linux; see proc(5)


def forget_peak(use_cpu: bool) -> bool:
    """Begin to measure anew. False where the system offers no such measure."""
    if not use_cpu and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        (_PROCESS / "clear_refs").write_text("5")  # the peak of the resident memory is what it is now
    except OSError:  # another system, or a container that allows it not
        return False
    return True


def peak_bytes(use_cpu: bool) -> int:
    """Return the most bytes since then: of tensors on the GPU, else of all that the process holds in memory."""
    if not use_cpu and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
