"""Frozen means frozen: gradients off, batch-norm statistics still, layers under the lowest learning one in eval mode."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from hftl.methods.plan import Plan, Stage
from hftl.models.layers import is_under


def set_trainable(model: nn.Module, names: Iterable[str]) -> None:
    """Let exactly the parameters called `names` learn. Raises KeyError for a name that the model lacks."""
    wanted = set(names)
    parameters = dict(model.named_parameters())
    missing = wanted - set(parameters)
    if missing:
        raise KeyError(f"no such parameters: {sorted(missing)[:3]}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in wanted)


def pin_frozen(module: nn.Module, plan: Plan, stage: Stage) -> Any:
    """Keep modules that must not move in eval mode while `module` trains; return the hook's handle.

    Those are all batch norms (Trainer calls `model.train()` at every step, which would move their statistics); the
    blocks under the lowest learning one and the stem, so that they put out the same states with a cache and without;
    and with `stage.body_frozen` every module without a learning parameter. Whether the body is frozen cannot be told
    from the modules: a pooler that the checkpoint lacks lies inside the body and learns with the head.

    Batch norms stay pinned when their own weights learn, too. The probe was fitted on features of the pretrained
    statistics; with batch statistics its head meets other features, and on digits the run ended
    at .917 instead of .985 (docs/log.md, 2026-11-23).
    """
    below = {id(m) for m in _below(plan, plan.frozen_blocks(stage))}
    pinned = [
        m
        for m in module.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
        or id(m) in below
        or (stage.body_frozen and not any(p.requires_grad for p in m.parameters()))
    ]

    def hold(*_: Any) -> None:
        for m in pinned:
            m.training = False

    return module.register_forward_pre_hook(hold)


def _below(plan: Plan, first: int) -> list[nn.Module]:
    """Modules of the stem and of the blocks under block `first`; none when the stem learns."""
    if first == 0:
        return []
    blocks = tuple(plan.path + name for name in plan.layers.modules)
    upper = (*blocks[first:], *(plan.path + name for name in plan.layers.above))
    return [
        m
        for name, m in plan.model.named_modules()
        if not is_under(name, upper)
        and not any(is_under(block, (name,)) and block != name for block in blocks)
        and name
    ]
