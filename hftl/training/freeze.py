"""Frozen means frozen: gradients off, batch-norm statistics still, a body that is frozen whole in eval mode."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def set_trainable(model: nn.Module, names: Iterable[str]) -> None:
    """Let exactly the parameters called `names` learn. Raises KeyError for a name that the model lacks."""
    wanted = set(names)
    parameters = dict(model.named_parameters())
    missing = wanted - set(parameters)
    if missing:
        raise KeyError(f"no such parameters: {sorted(missing)[:3]}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in wanted)


def pin_frozen(model: nn.Module, *, body_frozen: bool) -> Any:
    """Keep modules that must not move in eval mode during training; return the hook's handle.

    Those are all batch norms (Trainer calls `model.train()` at every step, which would move their statistics), and,
    with `body_frozen`, every module without a learning parameter: the frozen body then gives the same features as in
    the cache, without dropout. Whether it is frozen cannot be told from the modules: a pooler that the checkpoint lacks
    lies inside the body and learns with the head.

    Batch norms stay pinned when their own weights learn, too. The probe was fitted on features of the pretrained
    statistics; with batch statistics its head meets other features, and on digits the run ended
    at .917 instead of .985 (docs/log.md, 2026-11-23).
    """
    pinned = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        or (body_frozen and not any(p.requires_grad for p in module.parameters()))
    ]

    def hold(*_: Any) -> None:
        for module in pinned:
            module.training = False

    return model.register_forward_pre_hook(hold)
