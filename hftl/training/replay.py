"""Store the states that enter a block, and run a model from them: what lies below is left out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hftl.methods.plan import Plan
from hftl.models.layers import Layers, is_under
from hftl.training.cache import cache_key, open_states, preprocessing, reserve_states, weights_hash
from hftl.training.features import Batch, Encoded, Passer
from hftl.training.world import from_every_process, local_world, one_machine


Shapes = dict[int, tuple[int, ...]]  # first block → shape of the states of all rows
TOLERANCE = 1e-4  # of the logits, between the whole model and a replay


@dataclass(frozen=True)
class Anatomy:
    """The module whose output enters the first block, and the form of each block's output."""

    stem: str
    blocks: tuple[str, ...]
    lengths: tuple[int, ...]  # entries of a block's output tuple, 0 for a plain tensor
    shapes: tuple[tuple[int, ...], ...]  # [n, ...] of the states that enter each block, and of what leaves the last


def first_tensor(value: Any) -> Any:
    """The states in what a block puts out."""
    return value[0] if isinstance(value, tuple | list) else value


def anatomy_of(model: nn.Module, layers: Layers, path: str, batch: dict[str, torch.Tensor]) -> Anatomy | None:
    """Watch one forward pass; None where the states do not simply pass from the stem through the blocks."""
    blocks = tuple(path + name for name in layers.modules)
    before: list[tuple[str, torch.Tensor]] = []  # what modules outside of the blocks put out before the first one
    entered: dict[str, Any] = {}
    left: dict[str, Any] = {}

    def leave(name: str, _: nn.Module, __: Any, output: Any) -> None:
        if name in blocks:
            left[name] = output
        elif not entered and isinstance(first_tensor(output), torch.Tensor):
            before.append((name, first_tensor(output)))

    hooks = [
        module.register_forward_hook(partial(leave, name))
        for name, module in model.named_modules()
        if name in blocks or (name and not is_under(name, blocks))
    ]
    hooks += [_on_entry(model.get_submodule(name), partial(entered.__setitem__, name)) for name in blocks]
    with _removed(hooks):
        _forward(model, batch)
    if not blocks or set(entered) != set(blocks) or any(value is None for value in entered.values()):
        return None
    stems = [name for name, tensor in before if tensor is entered[blocks[0]]]
    chained = all(first_tensor(left[a]) is entered[b] for a, b in pairwise(blocks))
    if not stems or not chained:
        return None
    lengths = tuple(len(left[b]) if isinstance(left[b], tuple) else 0 for b in blocks)
    states = [*(entered[b] for b in blocks), first_tensor(left[blocks[-1]])]
    return Anatomy(stems[-1], blocks, lengths, tuple(tuple(s.shape) for s in states))


def _on_entry(module: nn.Module, keep: Callable[[Any], Any]) -> Any:
    """Hook `keep(states)` to what enters a block."""

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else kwargs.get("hidden_states"))

    return module.register_forward_pre_hook(enter, with_kwargs=True)


@contextmanager
def _removed(hooks: Sequence[Any]) -> Iterator[None]:
    """Remove the hooks at the end."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def capture(
    model: nn.Module, anatomy: Anatomy, firsts: Sequence[int], keep: Callable[[int, torch.Tensor], None]
) -> list[Any]:
    """Hook `keep(first, states)` to the input of each block in `firsts`; len(blocks) is the output of the last."""
    hooks = []
    for first in firsts:
        if first < len(anatomy.blocks):
            hooks.append(_on_entry(model.get_submodule(anatomy.blocks[first]), partial(keep, first)))
        else:
            last = model.get_submodule(anatomy.blocks[-1])
            hooks.append(last.register_forward_hook(lambda _, __, out, first=first: keep(first, first_tensor(out))))
    return hooks


def _forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(**{k: v.to(device) for k, v in batch.items() if k != "labels"}).logits
    finally:
        model.train(was_training)


class OnFeatures(nn.Module):
    """The head's one Linear, trained on cached features instead of the frozen body's repeated forward passes."""

    accepts_loss_kwargs = False

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear = linear

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Return logits [n, classes] for features [n, d]."""
        return SequenceClassifierOutput(logits=self.linear(features))


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
    firsts: Sequence[int],
    batch: dict[str, torch.Tensor],
    small: dict[str, torch.Tensor],
) -> bool:
    """Do the logits from each boundary in `firsts` equal those of the whole model on `batch`?

    `small` are the inputs that a replay gets beside the states.
    """
    states: dict[int, torch.Tensor] = {}
    with _removed(capture(model, anatomy, firsts, states.__setitem__)):
        whole = _forward(model, batch)
    scale = float(whole.abs().max().clamp(min=1))
    return all(
        float((_forward(OnStates(model, anatomy, first), {**small, "states": states[first]}) - whole).abs().max())
        <= TOLERANCE * scale  # False for what is no number
        for first in firsts
    )


def state_shapes(anatomy: Anatomy, firsts: list[int], encoded: Encoded, views: int) -> Shapes:
    """First block → shape of the stored states of all rows."""
    if encoded.starts is not None:
        return {f: (int(encoded.starts[-1]), anatomy.shapes[f][-1]) for f in firsts}
    return {f: (views * len(encoded), *anatomy.shapes[f][1:]) for f in firsts}


Slot = tuple[str, tuple[int, ...], np.dtype]  # key in the cache, shape and type of an array of states


@dataclass(frozen=True)
class StateMaker:
    """Stores the states that enter the blocks `firsts`, of augmented rows in `views` versions."""

    plan: Plan
    anatomy: Anatomy
    firsts: list[int]
    passer: Passer
    views: int
    augmentation: dict[str, Any]

    def slots(self, encoded: Encoded) -> dict[int, Slot]:
        """Return where the states of `encoded` lie, by first block."""
        views, model = self.views_of(encoded), self.plan.model
        shapes = state_shapes(self.anatomy, self.firsts, encoded, views)
        dtype = np.dtype(np.uint16 if self.passer.bf16 else np.float32)
        shared: dict[str, Any] = {
            "use_cpu": self.passer.use_cpu,
            "bf16": self.passer.bf16,
            "rows": encoded.fingerprint(),
            "sample": preprocessing(self.passer.collate, encoded),
            "views": views,
            "augmentation": self.augmentation if encoded.augment else None,
        }
        slots = {}
        for first in self.firsts:
            weights = weights_hash(model, _below(self.plan, first))
            key = cache_key(model, kind="states", first=first, weights=weights, **shared)
            slots[first] = (key, shapes[first], dtype)
        return slots

    def views_of(self, encoded: Encoded) -> int:
        """How many versions of every row are stored."""
        return self.views if encoded.augment else 1

    def open(self, encoded: Encoded, slots: dict[int, Slot]) -> dict[int, np.ndarray]:
        """Return the states by first block, computed where they are not on disk. Raises OSError without room."""
        missing = _missing(slots)
        if missing:
            with _reserved(slots, missing) as targets:
                self._fill(encoded, targets)
        arrays = {first: open_states(*slot) for first, slot in slots.items()}
        return {first: array for first, array in arrays.items() if array is not None}

    @contextmanager
    def beside(self, encoded: Encoded) -> Iterator[Callable[[list[int], Batch], None] | None]:
        """Store the states of `encoded` in a forward pass that is made anyway, by the `record` that this yields.

        None where nothing is to be stored: rows that are augmented (the other pass takes them as they are), states
        that are there already, no room, or several machines, each of which needs all rows.
        """
        slots = {} if encoded.augment or not one_machine() else self.slots(encoded)
        missing = _missing(slots)
        with ExitStack() as stack:
            try:
                targets = stack.enter_context(_reserved(slots, missing)) if missing else {}
            except OSError:  # `store` meets the same, and says so
                targets = {}
            yield stack.enter_context(self._recording(encoded, targets)) if targets else None

    @contextmanager
    def _recording(self, encoded: Encoded, targets: dict[int, np.ndarray]) -> Iterator[Callable[..., None]]:
        """Hook the blocks; yield `record(rows, batch, offset=0)`, which writes what the last pass put into them."""
        states: dict[int, torch.Tensor] = {}
        starts = encoded.starts

        def record(rows: list[int], batch: Batch, offset: int = 0) -> None:
            for first, value in states.items():
                _write(targets[first], value, rows, starts, batch.get("attention_mask"), offset)
            states.clear()

        with _removed(capture(self.plan.model, self.anatomy, sorted(targets), states.__setitem__)):
            yield record

    def _fill(self, encoded: Encoded, targets: dict[int, np.ndarray]) -> None:
        views = self.views_of(encoded)
        with self._recording(encoded, targets) as record:
            for view in range(views):

                def use(rows: list[int], _: Any, batch: Batch, view: int = view) -> None:
                    record(rows, batch, view * len(encoded))

                collate = partial(_seeded, self.passer.collate, view) if views > 1 else self.passer.collate
                passer = replace(self.passer, collate=collate)
                passer.run(self.plan.model, encoded, use, "frozen layers", local_world())


def _missing(slots: dict[int, Slot]) -> list[int]:
    """First blocks whose states any process lacks."""
    lacking = [first for first, slot in slots.items() if open_states(*slot) is None]
    return sorted({first for process in from_every_process(lacking) for first in process})


@contextmanager
def _reserved(slots: dict[int, Slot], missing: list[int]) -> Iterator[dict[int, np.ndarray]]:
    """Give a writable array by first block, which the processes of this machine share."""
    wanted = {slots[first][0]: slots[first][1:] for first in missing}
    with reserve_states(wanted, main=local_world()[0] == 0) as arrays:
        yield {first: arrays[slots[first][0]] for first in missing}


def _seeded(collate: Callable, view: int, items: list[dict[str, Any]]) -> Any:
    """Draw a batch's augmentation from its own rows, so that it does not depend on the number of processes."""
    pixels = items[0]["pixels"]
    with torch.random.fork_rng():
        torch.manual_seed(int(np.asarray(pixels, dtype=np.float64).sum()) * 1009 + view)
        return collate(items)


def _write(
    target: np.ndarray,
    value: torch.Tensor,
    rows: list[int],
    starts: np.ndarray | None,
    mask: torch.Tensor | None,
    offset: int,
) -> None:
    value = (value.to(torch.bfloat16).view(torch.uint16) if target.dtype == np.uint16 else value.float()).cpu()
    array = value.numpy()
    if starts is None:
        target[[offset + row for row in rows]] = array
        return
    assert mask is not None
    real = mask.bool().cpu().numpy()
    for i, row in enumerate(rows):
        target[starts[row] : starts[row + 1]] = array[i][real[i]]


def _below(plan: Plan, first: int) -> list[str]:
    """Names of the parameters and buffers under block `first`, which alone decide about its input."""
    above = (*plan.layers.modules[first:], *plan.layers.above)
    return [name for name in plan.model.state_dict() if not is_under(name.removeprefix(plan.path), above)]
