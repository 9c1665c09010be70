"""Store the states that enter a block, and run a model from them: what lies below is left out."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hftl.methods.plan import Plan
from hftl.models.layers import Layers, is_under
from hftl.tasks.task import Encoded, Ragged
from hftl.training.cache import cache_key, new_states, preprocessing, read_states, weights_hash
from hftl.training.features import Batch, Passer
from hftl.training.maps import Maps
from hftl.training.world import local_world, one_machine


MASKS = "masks"
TOLERANCE = 1e-4  # of the logits, between the whole model and a replay


@dataclass(frozen=True)
class Anatomy:
    """The module whose output enters the first block, and the form of each block's output."""

    stem: str
    blocks: tuple[str, ...]
    lengths: tuple[int, ...]  # entries of a block's output tuple, 0 for a plain tensor
    shapes: tuple[tuple[int, ...], ...]  # [n, ...] of the states that enter each block, and of what leaves the last
    pixels: tuple[int, ...] = (3, 1, 1)  # of images that nobody reads

    def capture(self, model: nn.Module, firsts: Sequence[int]) -> AbstractContextManager[dict[int, Any]]:
        """Collect what enters the blocks numbered in `firsts`."""
        return capture(model, self.blocks, firsts)

    def bypassed(self, model: nn.Module, first: int, states: torch.Tensor) -> list[tuple[nn.Module, Any]]:
        """The modules under block `first`, each with what it hands on in place of what it would put out."""
        modules = [(self.stem, 0), *zip(self.blocks[:first], self.lengths, strict=False)]
        return [(model.get_submodule(name), _as_output(states, length)) for name, length in modules]

    def below(self, plan: Plan, first: int) -> list[str]:
        """Names of the parameters and buffers under block `first`, which alone decide about its input."""
        above = (*plan.layers.modules[first:], *plan.layers.above)
        return [name for name in plan.model.state_dict() if not is_under(name.removeprefix(plan.path), above)]


def first_tensor(value: Any) -> Any:
    """The states in what a block puts out."""
    return value[0] if isinstance(value, tuple | list) else value


def anatomy_of(model: nn.Module, layers: Layers, path: str, batch: Batch) -> Anatomy | None:
    """Watch one forward pass; None where the states do not simply pass from the stem through the blocks."""
    blocks = tuple(path + name for name in layers.modules)
    before: list[tuple[str, Any]] = []  # what modules outside of the blocks put out before the first one
    left: dict[str, Any] = {}

    def leave(name: str, _: nn.Module, __: Any, output: Any) -> None:
        if name in blocks:
            left[name] = output
        elif not entered:
            before.append((name, first_tensor(output)))

    with capture(model, blocks, range(len(blocks))) as entered, ExitStack() as hooks:
        for name, module in model.named_modules():
            if name in blocks or (name and not is_under(name, blocks)):
                hooks.enter_context(module.register_forward_hook(partial(leave, name)))
        _forward(model, batch)
    if not blocks or len(entered) < len(blocks) or any(value is None for value in entered.values()):
        return None
    stems = [name for name, output in before if output is entered[0]]
    chained = all(first_tensor(left[name]) is entered[i] for i, name in enumerate(blocks[:-1], start=1))
    if not stems or not chained:
        return None
    lengths = tuple(len(left[b]) if isinstance(left[b], tuple) else 0 for b in blocks)
    states = [*(entered[i] for i in range(len(blocks))), first_tensor(left[blocks[-1]])]
    return Anatomy(stems[-1], blocks, lengths, tuple(tuple(s.shape) for s in states))


@contextmanager
def capture(model: nn.Module, blocks: Sequence[str], firsts: Iterable[int]) -> Iterator[dict[int, Any]]:
    """Collect what enters each block numbered in `firsts`; len(blocks) is what leaves the last."""
    states: dict[int, Any] = {}

    def enter(first: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states[first] = args[0] if args else kwargs.get("hidden_states")

    def leave(first: int, _: nn.Module, __: Any, output: Any) -> None:
        states[first] = first_tensor(output)

    with ExitStack() as hooks:
        for first in firsts:
            if first < len(blocks):
                module = model.get_submodule(blocks[first])
                hooks.enter_context(module.register_forward_pre_hook(partial(enter, first), with_kwargs=True))
            else:
                module = model.get_submodule(blocks[-1])
                hooks.enter_context(module.register_forward_hook(partial(leave, first)))
        yield states


def _forward(model: nn.Module, batch: Batch) -> torch.Tensor:
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
    config: Any = None  # of a PreTrainedModel; Trainer asks for it where labels are smoothed

    def __init__(self, linear: nn.Module):
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
    config: Any = None  # of a PreTrainedModel; Trainer asks for it where labels are smoothed

    def __init__(self, model: nn.Module, anatomy: Anatomy | Maps, first: int):
        super().__init__()
        self.model = model
        self.anatomy, self.first = anatomy, first

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        """Trainer asks for what a checkpoint need not hold: weights that do not learn."""
        return {name for name, p in self.named_parameters() if not p.requires_grad}

    def tie_weights(self) -> None:
        """Trainer calls this after such a checkpoint; nothing is tied here."""

    def forward(self, states: torch.Tensor, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> Any:
        """Return the model's output for `states`, the input of block `first` ([n, ...]); `inputs` give the masks."""
        inputs = inputs or {"pixel_values": states.new_zeros(1).expand(len(states), *self.anatomy.pixels)}
        bypassed = self.anatomy.bypassed(self.model, self.first, states)
        for module, output in bypassed:
            # A function of the instance hides the class's own `forward`; deleting it brings that back.
            module.forward = partial(_hand_on, output)
        try:
            return self.model(**inputs)
        finally:
            for module, _ in bypassed:
                del module.forward


def _as_output(states: torch.Tensor, length: int) -> Any:
    return states if length == 0 else (states, *([None] * (length - 1)))


def _hand_on(output: Any, *_: Any, **__: Any) -> Any:
    return output


def replays_exactly(model: nn.Module, anatomy: Anatomy | Maps, firsts: Sequence[int], batch: Batch) -> bool:
    """Do the logits from each boundary in `firsts` equal those of the whole model on `batch`?"""
    with anatomy.capture(model, firsts) as states:
        whole = _forward(model, batch)
    scale = float(whole.abs().max().clamp(min=1))
    masks = {name: value for name, value in batch.items() if name != "pixel_values"}
    replays = (_forward(OnStates(model, anatomy, first), {**masks, "states": states[first]}) for first in firsts)
    return all(float((logits - whole).abs().max()) <= TOLERANCE * scale for logits in replays)  # False for no number


@dataclass(frozen=True)
class StateMaker:
    """Stores the states that enter the blocks `firsts`, of augmented rows in `views` versions."""

    plan: Plan
    anatomy: Anatomy | Maps
    firsts: list[int]
    passer: Passer
    views: int
    augmentation: dict[str, Any]

    @property
    def dtype(self) -> np.dtype:
        """Of the stored numbers; uint16 stands for bf16."""
        return np.dtype(np.uint16 if self.passer.bf16 else np.float32)

    def views_of(self, encoded: Encoded) -> int:
        """How many versions of every row are stored."""
        return self.views if encoded.augment else 1

    def arrays(self, encoded: Encoded) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and kind of each stored array: by number of the block the states, [views, tokens of all rows, d] or
        [views, n, ...]; and the masks that moved with the images, [views, n, height, width].
        """
        count, inner = (len(encoded), 1) if encoded.starts is None else (int(encoded.starts[-1]), 2)
        views, shapes = self.views_of(encoded), self.anatomy.shapes
        arrays = {str(f): ((views, count, *shapes[f][inner:]), self.dtype) for f in self.firsts}
        if encoded.keep is not None:
            arrays[MASKS] = ((views, count, *self.anatomy.pixels[1:]), np.dtype(np.int32))
        return arrays

    def bytes(self, encoded: Encoded) -> int:
        """How many bytes the arrays take."""
        return sum(math.prod(shape) * kind.itemsize for shape, kind in self.arrays(encoded).values())

    def key(self, encoded: Encoded) -> str:
        """Where the states of `encoded` lie in the cache."""
        model = self.plan.model
        return cache_key(
            model,
            use_cpu=self.passer.use_cpu,
            kind="states",
            firsts=self.firsts,
            weights=weights_hash(model, self.anatomy.below(self.plan, max(self.firsts))),
            bf16=self.passer.bf16,
            rows=encoded.fingerprint(),
            sample=preprocessing(self.passer.collate, encoded),
            views=self.views_of(encoded),
            augmentation=self.augmentation if encoded.augment else None,
        )

    def open(self, encoded: Encoded, key: str) -> dict[int, Encoded]:
        """Return the rows with their states, by first block; computed where they are not on disk.

        Raises OSError without room.
        """
        if read_states(key) is None:
            with self._storing(encoded, key) as record:
                for view in range(self.views_of(encoded)):
                    passer = self.passer
                    if self.views_of(encoded) > 1:
                        passer = replace(passer, collate=partial(_seeded, passer.collate, view))
                    use = partial(record, view=view)
                    passer.run(self.plan.model, encoded, use, "frozen layers", local_world())
        stored = read_states(key)
        if stored is None:
            raise OSError("the stored states cannot be read")
        return {first: with_states(encoded, first, stored) for first in self.firsts}

    @contextmanager
    def beside(self, encoded: Encoded) -> Iterator[Callable[[list[int], Batch], None] | None]:
        """Store the states of `encoded` in a forward pass that is made anyway, by the function that this yields.

        None where nothing is to be stored: rows that are augmented (the other pass takes them as they are), states
        that are there already, no room, or several machines, each of which needs all rows.
        """
        key = "" if encoded.augment or not one_machine() else self.key(encoded)
        with ExitStack() as stack:
            record = None
            if key and read_states(key) is None:
                with suppress(OSError):  # `store` meets the same, and says so
                    record = stack.enter_context(self._storing(encoded, key))
            yield None if record is None else lambda rows, batch: record(rows, None, batch)

    @contextmanager
    def _storing(self, encoded: Encoded, key: str) -> Iterator[Callable[..., None]]:
        """Hook the blocks; yield `record(rows, output, batch, view=0)`, which writes what the last pass put into them."""
        with (
            new_states(key, self.arrays(encoded)) as arrays,
            self.anatomy.capture(self.plan.model, self.firsts) as states,
        ):
            targets = {first: _by_row(encoded, arrays[str(first)]) for first in self.firsts}

            def record(rows: list[int], _: Any, batch: Batch, view: int = 0) -> None:
                for first, value in states.items():
                    _write(targets[first][view], value, rows, batch.get("attention_mask"))
                if MASKS in arrays:
                    arrays[MASKS][view, rows] = batch["labels"].cpu().numpy()

            yield record


def with_array(encoded: Encoded, name: str, array: Any) -> Encoded:
    """Return the rows with one array more; a text's tokens stay, so that batches are formed as without it."""
    return replace(encoded, arrays={**encoded.arrays, name: array})


def with_states(encoded: Encoded, first: int, stored: dict[str, np.ndarray]) -> Encoded:
    """Return the rows with their states, of `StateMaker.arrays`, read from disk as they are needed.

    Of masks a row is then nothing but its states and the mask that belongs to them.
    """
    views: list[Any] = _by_row(encoded, stored[str(first)])
    if MASKS in stored:
        views = [_Pairs(*pair) for pair in zip(views, stored[MASKS], strict=True)]
        encoded = replace(encoded, arrays={}, targets=np.zeros(len(encoded)))
    return with_array(encoded, "states", _Views(views) if len(views) > 1 else views[0])


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The states of every row with its mask."""

    states: Any
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.states[index], self.masks[index]


@dataclass(frozen=True, eq=False)
class _Views:
    """Several versions of the states of augmented rows: which one a row has is drawn whenever it is read."""

    versions: list[Any]

    def __len__(self) -> int:
        return len(self.versions[0])

    def __getitem__(self, index: int) -> Any:
        view = int(torch.randint(len(self.versions), (1,)))  # `Numbered` seeds it by epoch and row
        return self.versions[view][index]


def _by_row(encoded: Encoded, stored: np.ndarray) -> list[Any]:
    """The views of a stored array, each a row at a time."""
    return [view if encoded.starts is None else Ragged(view, encoded.starts) for view in stored]


def _seeded(collate: Callable, view: int, items: list[dict[str, Any]]) -> Any:
    """Draw a batch's augmentation from its own rows, so that it does not depend on the number of processes."""
    pixels = items[0]["pixels"]
    with torch.random.fork_rng():
        torch.manual_seed(int(np.asarray(pixels, dtype=np.float64).sum()) * 1009 + view)
        return collate(items)


def _write(target: Any, value: torch.Tensor, rows: list[int], mask: torch.Tensor | None) -> None:
    """Write the states [n, ...] of a batch; of texts those of tokens where `mask` [n, tokens] is 1."""
    half = target[rows[0]].dtype == np.uint16
    array = (value.to(torch.bfloat16).view(torch.uint16) if half else value.float()).cpu().numpy()
    real = mask.bool().cpu().numpy() if mask is not None and isinstance(target, Ragged) else [...] * len(rows)
    for i, row in enumerate(rows):
        target[row][:] = array[i][real[i]]
