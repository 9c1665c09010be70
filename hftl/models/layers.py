"""The ordered layer groups of any architecture, found from its module tree."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hftl.errors import ModelError


@dataclass(frozen=True)
class Layers:
    """Parameter names, bottom to top. `blocks[-1]` includes what runs after the last block (final norm, pooler)."""

    stem: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    head: tuple[str, ...]
    modules: tuple[str, ...] = ()  # of the blocks, in the same order
    above: tuple[str, ...] = ()  # modules that run after the last block: those of the head, a final norm, a pooler

    def frozen_blocks(self, learning: Iterable[str]) -> int:
        """How many blocks, counted from the bottom, lie under the lowest of the parameters called `learning`.

        0 when the stem learns; all of them when only what runs after the last block does.
        """
        lowest = len(self.modules)
        for name in learning:
            if not is_under(name, self.above):
                at = [i for i, module in enumerate(self.modules) if is_under(name, (module,))]
                lowest = min(lowest, at[0] if at else 0)
        return lowest


def run_once(model: Any, batch: dict[str, torch.Tensor], hooks: Iterable[Any]) -> Any:
    """Return what the model puts out in eval mode, without gradients; the hooks are removed afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(**{k: v.to(model.device) for k, v in batch.items()})
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def is_under(name: str, modules: Iterable[str]) -> bool:
    """Is `name` one of these modules, or inside one of them?"""
    return any((name + ".").startswith(module + ".") for module in modules)


def body_of(model: Any) -> Any:
    """Return the body of a model: its base, or the backbone under a decoder; itself where it has none of its own."""
    body = model.base_model
    return getattr(model, "backbone", body) if body is model else body


def outer_modules(model: Any) -> tuple[str, ...]:
    """Names of the modules with weights that lie outside of the body; none for a model that has no body of its own."""
    body = body_of(model)
    if body is model:
        return ()
    children = model.named_children()
    return tuple(name for name, child in children if child is not body and any(True for _ in child.parameters()))


def head_modules(model: nn.Module, loading_info: dict[str, Any], num_labels: int) -> tuple[str, ...]:
    """Names of the modules that the checkpoint did not bring: those outside the body, and those with missing keys.

    A masked-language checkpoint lacks BERT's pooler, which lies inside the body; freezing it would freeze noise.
    """
    names = set(outer_modules(model))
    mismatched = [key[0] if isinstance(key, tuple | list) else key for key in loading_info["mismatched_keys"]]
    for key in [*loading_info["missing_keys"], *mismatched]:
        owner = key.rpartition(".")[0]
        if not is_under(owner, names):
            names.add(owner)
    names = {name for name in names if not is_under(name, names - {name})}
    if not names:  # the body holds the head as well, as in timm's models
        linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == num_labels]
        if not linears:
            raise ModelError(f"{type(model).__name__} has no head that could be told from its body.")
        names = {linears[-1]}
    return tuple(name for name, _ in model.named_modules() if name in names)


def find_layers(model: Any, head: tuple[str, ...], batch: dict[str, torch.Tensor], least: int = 2) -> Layers:
    """Group the parameters: stem, the repeated blocks bottom to top, head.

    The blocks are the children of the module list that holds most parameters of the body. What lies beside it is
    sorted by when it runs on `batch`: before the first block is stem, after the last belongs to the last block. What
    runs in between or is never called as a module (relative position tables) counts as stem, the side on which
    freezing is always safe. A list counts from `least` blocks on.
    """
    container, children = _blocks(model, head, least)
    late = _after_blocks(model, container, children, batch)
    stem: list[str] = []
    blocks: list[list[str]] = [[] for _ in children]
    head_names: list[str] = []
    for name, _ in model.named_parameters():
        owner = name.rpartition(".")[0]
        if is_under(owner, head):
            head_names.append(name)
        elif container and owner.startswith(container + "."):
            blocks[children.index(owner[len(container) + 1 :].split(".")[0])].append(name)
        elif owner in late:
            blocks[-1].append(name)
        else:
            stem.append(name)
    modules = tuple(f"{container}.{child}" for child in children) if container else ()
    return Layers(tuple(stem), tuple(tuple(b) for b in blocks), tuple(head_names), modules, (*head, *sorted(late)))


def _blocks(model: nn.Module, head: tuple[str, ...], least: int) -> tuple[str, list[str]]:
    best, best_size = ("", [""]), 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or is_under(name, head):
            continue
        children = [child for child, m in module.named_children() if any(True for _ in m.parameters())]
        size = sum(p.numel() for p in module.parameters())
        if len(children) >= least and size > best_size:
            best, best_size = (name, children), size
    return best


def _after_blocks(model: Any, container: str, children: list[str], batch: dict[str, torch.Tensor]) -> set[str]:
    """Names of modules whose first call on `batch` comes after the last block has returned."""
    if not container:
        return set()
    calls: list[str | None] = []  # None: the last block returns
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
        for name, module in model.named_modules()
    ]
    last = model.get_submodule(f"{container}.{children[-1]}")
    hooks.append(last.register_forward_hook(lambda *_: calls.append(None)))
    run_once(model, batch, hooks)
    end = max((i for i, name in enumerate(calls) if name is None), default=len(calls))
    return {name for name in calls[end + 1 :] if name is not None and name not in calls[:end]}
