"""Which number format the forward passes use on this machine."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def runs_on_cpu(training: dict[str, Any]) -> bool:
    """The user's `--use_cpu` decides; else True where torch sees no accelerator."""
    return bool(training.get("use_cpu", not torch.accelerator.is_available()))


def bf16_is_fast(use_cpu: bool) -> bool:
    """True where bf16 is hardware arithmetic: CUDA from compute capability 8.0, CPUs with AVX512-BF16 or AMX."""
    if not use_cpu:
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_bf16(training: dict[str, Any]) -> bool:
    """The user's `--bf16` or `--fp16` decides; else bf16 wherever it is fast."""
    if "bf16" in training:
        return bool(training["bf16"])
    return not training.get("fp16", False) and bf16_is_fast(runs_on_cpu(training))


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager:
    """Return the autocast context of a forward pass outside Trainer."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def without_autocast(model: torch.nn.Module) -> None:
    """Take off the mixed precision that accelerate leaves around `forward`: what is scored later must be fp32.

    accelerate's own `extract_model_from_parallel` also unwinds transformers' decorators, after which a forward pass
    fails. Its mark goes too: a marked model gets no mixed precision from the Trainer of the next stage.
    """
    model.__dict__.pop("_is_accelerate_prepared", None)
    original = model.__dict__.pop("_original_forward", None)
    if original is not None:
        del model.forward
        if model.forward != original:  # it was the instance's own before
            model.forward = original


@contextlib.contextmanager
def exact_fp32() -> Iterator[None]:
    """Turn TF32 off inside: by default cuDNN rounds what goes into fp32 convolutions to 10 bits of mantissa.

    What is scored must be what any machine will compute from the weights.
    """
    cuda: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    # torch 2.9 renamed the switches, and refuses a mixture of old and new
    new = hasattr(cudnn, "conv") and hasattr(cuda, "fp32_precision")
    switches, name, exact = (
        ((cuda, cudnn.conv), "fp32_precision", "ieee") if new else ((cuda, cudnn), "allow_tf32", False)
    )
    before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, exact)
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)
