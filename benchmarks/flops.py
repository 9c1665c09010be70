"""Model FLOP utilisation: the share of the device's matrix arithmetic that a training run keeps busy."""

import time
from typing import Any

import torch


_SIDE = 8192  # of the square matrices: large enough that launching costs nothing
_REPEATS = 20


def train_flops(model: Any, lengths: list[int]) -> float:
    """Floating-point operations of one training step per row, averaged over rows of `lengths` tokens.

    6 per parameter and token for the matrices, and 12 x blocks x width x length per token for attention, forward and
    backward together (Chowdhery et al. 2022, PaLM, appendix B). Embedding tables are looked up, not multiplied.
    """
    config = model.config
    embeddings = sum(p.numel() for n, p in model.named_parameters() if "embeddings" in n)
    matrices = sum(p.numel() for p in model.parameters()) - embeddings
    attention = 12 * config.num_hidden_layers * config.hidden_size
    return sum(n * (6 * matrices + attention * n) for n in lengths) / len(lengths)


def matmul_flops(device: str = "cuda", dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations per second that large matrix products reach on this device: the ceiling that utilisation refers to."""
    a = torch.randn(_SIDE, _SIDE, device=device, dtype=dtype)
    b = torch.randn(_SIDE, _SIDE, device=device, dtype=dtype)
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(_REPEATS):
        a @ b
    torch.cuda.synchronize()
    return 2 * _SIDE**3 * _REPEATS / (time.perf_counter() - start)


def utilisation(model: Any, lengths: list[int], rows_per_second: float, ceiling: float) -> float:
    """Share of `ceiling` (operations per second) that training at `rows_per_second` amounts to."""
    return train_flops(model, lengths) * rows_per_second / ceiling
