"""What a decoder of pixels reads: the maps that the frozen body puts out, stored in place of the images."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# transformers registers its outputs here, so that a body may put out any of them.
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from hftl.methods.plan import Plan
from hftl.models.layers import is_under
from hftl.training.features import Batch


@dataclass(frozen=True)
class Maps:
    """The frozen body, and those of its outputs that the head reads, which are stored side by side."""

    body: str  # the module's name
    boundary: int  # the number of blocks: all of them are frozen
    pixels: tuple[int, ...]  # [channels, height, width] of the images
    form: TreeSpec  # of what the body puts out
    leaves: tuple[int | None, ...]  # by leaf of `form` the number of its map; None where the head does not read it
    sizes: tuple[tuple[int, ...], ...]  # of each map, for one image

    @property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """[n, numbers] of the states by boundary, as `Anatomy.shapes`."""
        return {self.boundary: (0, sum(map(math.prod, self.sizes)))}

    @contextmanager
    def capture(self, model: nn.Module, _: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
        """Collect the maps of each forward pass."""
        states: dict[int, torch.Tensor] = {}

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            found = tree_flatten(output)[0]
            read = [found[self.leaves.index(i)].flatten(1) for i in range(len(self.sizes))]
            states[self.boundary] = torch.cat(read, dim=1)

        hook = model.get_submodule(self.body).register_forward_hook(leave)
        try:
            yield states
        finally:
            hook.remove()

    def bypassed(self, model: nn.Module, _: int, states: torch.Tensor) -> list[tuple[nn.Module, Any]]:
        """The body, and what it puts out for `states`."""
        parts = states.split([math.prod(size) for size in self.sizes], dim=1)
        maps = [part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True)]
        output = tree_unflatten([None if i is None else maps[i] for i in self.leaves], self.form)
        return [(model.get_submodule(self.body), output)]

    def below(self, plan: Plan, _: int) -> list[str]:
        """Names of the parameters and buffers of the body."""
        return [name for name in plan.model.state_dict() if is_under(name, (self.body,))]


def maps_of(plan: Plan, batch: Batch) -> Maps | None:
    """Watch one forward pass; None where no module holds all blocks and nothing of the head.

    What the head reads of that module's outputs is what has a gradient from the logits.
    """
    model, name = plan.model, _around_blocks(plan)
    if not name:
        return None
    seen: list[Any] = []  # the leaves, each tensor once
    forms: list[TreeSpec] = []

    def leave(_: nn.Module, __: Any, output: Any) -> Any:
        leaves, form = tree_flatten(output)
        fresh = {id(t): t.detach().requires_grad_() for t in leaves if torch.is_tensor(t) and t.is_floating_point()}
        seen[:], forms[:] = [fresh.get(id(leaf)) for leaf in leaves], [form]
        return tree_unflatten([fresh.get(id(leaf), leaf) for leaf in leaves], form)

    was_training = model.training
    hook = model.get_submodule(name).register_forward_hook(leave)
    pixels = batch["pixel_values"].to(next(model.parameters()).device)
    try:
        with torch.enable_grad():
            logits = model.eval()(pixel_values=pixels).logits
    finally:
        hook.remove()
        model.train(was_training)
    unique = list({id(t): t for t in seen if t is not None}.values())
    gradients = torch.autograd.grad(logits.float().sum(), unique, allow_unused=True) if unique else ()
    read = [t for t, gradient in zip(unique, gradients, strict=True) if gradient is not None]
    if not read or any(len(t) != len(pixels) for t in read):
        return None
    numbers = {id(t): i for i, t in enumerate(read)}
    leaves = tuple(None if t is None else numbers.get(id(t)) for t in seen)
    sizes = tuple(tuple(t.shape[1:]) for t in read)
    return Maps(name, len(plan.layers.modules), tuple(pixels.shape[1:]), forms[0], leaves, sizes)


def _around_blocks(plan: Plan) -> str:
    """The largest module that holds all blocks and nothing of the head, which may have norms in the body; "" for none."""
    parts = plan.layers.modules[0].split(".")[:-1] if plan.layers.modules else []
    outer = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return next((name for name in outer if not any(is_under(learning, (name,)) for learning in plan.head)), "")
