"""Run a model from the stored input of one of its blocks, with what lies below left out."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from hftl.models.layers import Layers, is_under


TOLERANCE = 1e-4  # of the logits, between the whole model and a replay


@dataclass(frozen=True)
class Anatomy:
    """What `look` found: the module whose output enters the first block, and the form of each block's output."""

    stem: str
    blocks: tuple[str, ...]
    lengths: tuple[int, ...]  # entries of a block's output tuple, 0 for a plain tensor
    shapes: tuple[tuple[int, ...], ...]  # [n, ...] of the states that enter each block, and of what leaves the last


def first_tensor(value: Any) -> Any:
    """The states in what a block puts out."""
    return value[0] if isinstance(value, tuple | list) else value


def look(model: nn.Module, layers: Layers, path: str, batch: dict[str, torch.Tensor]) -> Anatomy | None:
    """Watch one forward pass; None where the states do not simply pass from the stem through the blocks."""
    blocks = tuple(path + name for name in layers.modules)
    seen = _watch(model, blocks, batch)
    if not blocks or set(seen.entered) != set(blocks) or any(v is None for v in seen.entered.values()):
        return None
    stems = [name for name, tensor in seen.before if tensor is seen.entered[blocks[0]]]
    chained = all(first_tensor(seen.left[a]) is seen.entered[b] for a, b in pairwise(blocks))
    if not stems or not chained:
        return None
    lengths = tuple(len(seen.left[b]) if isinstance(seen.left[b], tuple) else 0 for b in blocks)
    states = [*(seen.entered[b] for b in blocks), first_tensor(seen.left[blocks[-1]])]
    return Anatomy(stems[-1], blocks, lengths, tuple(tuple(s.shape) for s in states))


@dataclass(frozen=True)
class _Seen:
    before: list[tuple[str, torch.Tensor]]  # what modules outside of the blocks put out before the first one
    entered: dict[str, Any]
    left: dict[str, Any]


def _watch(model: nn.Module, blocks: tuple[str, ...], batch: dict[str, torch.Tensor]) -> _Seen:
    seen = _Seen([], {}, {})

    def note(name: str, output: Any) -> None:
        if not seen.entered and isinstance(first_tensor(output), torch.Tensor):
            seen.before.append((name, first_tensor(output)))

    def enter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.entered[name] = args[0] if args else kwargs.get("hidden_states")

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name and not is_under(name, blocks)
    ]
    for name in blocks:
        module = model.get_submodule(name)
        hooks += [
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: enter(name, args, kwargs), with_kwargs=True
            ),
            module.register_forward_hook(lambda _, __, output, name=name: seen.left.update({name: output})),
        ]
    try:
        _forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(**{k: v.to(device) for k, v in batch.items() if k != "labels"}).logits
    finally:
        model.train(was_training)


class OnStates(nn.Module):
    """The model from block `first` on, fed with stored states. Below, every module hands on what it gets.

    The model stays whole, so that names, adapters and the saved state are those of the model itself.
    """

    accepts_loss_kwargs = False

    def __init__(self, model: nn.Module, anatomy: Anatomy, first: int):
        super().__init__()
        self.model = model
        self.anatomy, self.first = anatomy, first

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        """Trainer asks for what a checkpoint need not hold: all that does not learn."""
        learning = {name for name, p in self.named_parameters() if p.requires_grad}
        return set(self.state_dict()) - learning

    def tie_weights(self) -> None:
        """Trainer calls this after such a checkpoint; nothing is tied here."""

    def forward(self, states: torch.Tensor, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> Any:
        """Return the model's output for `states`, the input of block `first` ([n, ...]); `inputs` give the masks."""
        a = self.anatomy
        bypassed = [(a.stem, 0), *zip(a.blocks[: self.first], a.lengths, strict=False)]
        modules = [(self.model.get_submodule(name), length) for name, length in bypassed]
        for module, length in modules:
            # A function of the instance hides the class's own `forward`; deleting it brings that back.
            module.forward = _hand_on(states, length)  # type: ignore[method-assign]
        try:
            return self.model(**inputs)
        finally:
            for module, _ in modules:
                del module.forward


def _hand_on(states: torch.Tensor, length: int) -> Any:
    output = states if length == 0 else (states, *([None] * (length - 1)))
    return lambda *_, **__: output


def replays_exactly(
    model: nn.Module,
    anatomy: Anatomy,
    firsts: list[int],
    batch: dict[str, torch.Tensor],
    small: dict[str, torch.Tensor],
) -> bool:
    """Do the logits from each boundary in `firsts` equal those of the whole model on `batch`?

    `small` are the inputs that a replay gets beside the states.
    """
    states: dict[int, torch.Tensor] = {}
    hooks = capture(model, anatomy, firsts, lambda first, value: states.update({first: value}))
    try:
        whole = _forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    scale = float(whole.abs().max().clamp(min=1))
    for first in firsts:
        replayed = _forward(OnStates(model, anatomy, first), {**small, "states": states[first]})
        if not float((replayed - whole).abs().max()) <= TOLERANCE * scale:
            return False
    return True


def capture(model: nn.Module, anatomy: Anatomy, firsts: list[int], keep: Any) -> list[Any]:
    """Hook `keep(first, states)` to the input of each block in `firsts`; len(blocks) is the output of the last."""
    hooks = []
    for first in firsts:
        if first == len(anatomy.blocks):
            module = model.get_submodule(anatomy.blocks[-1])
            hooks.append(module.register_forward_hook(lambda _, __, out, first=first: keep(first, first_tensor(out))))
        else:
            module = model.get_submodule(anatomy.blocks[first])

            def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], first: int = first) -> None:
                keep(first, args[0] if args else kwargs["hidden_states"])

            hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
    return hooks
