"""Run a few real steps of a stage and put everything back: activation bytes, and seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import TrainingArguments

from hftl.methods.plan import Plan, Stage
from hftl.training.freeze import pin_frozen, set_trainable
from hftl.training.inputs import StageInputs
from hftl.training.precision import autocast


TIMED_STEPS = 4
ROOM = 0.8  # share of the free memory that a measurement may take; rule of thumb, ours


@dataclass(frozen=True)
class Measured:
    """One device batch of a stage: forward, backward and AdamW's step."""

    rows: int  # that were really run at once; bytes and seconds are scaled to the whole batch
    batch_rows: int
    typical_bytes: int  # saved for the backward pass, texts of median length
    longest_bytes: int
    batch_seconds: float
    update_seconds: float  # the optimizer's step
    forward_seconds: float  # per row, without gradient


@dataclass(frozen=True)
class Picks:
    """Rows of the batches that are run, by their number in the training rows."""

    typical: np.ndarray
    longest: np.ndarray
    timed: tuple[np.ndarray, ...]

    @property
    def rows(self) -> np.ndarray:
        """All of them once, in order."""
        return np.unique(np.concatenate([self.typical, self.longest, *self.timed]))


def pick_batches(lengths: np.ndarray, size: int, grouped: bool = True) -> Picks:
    """Choose batches over the range of lengths, of similar length as `grouped` training forms them, or at random."""
    order = np.argsort(lengths, kind="stable")
    size = min(size, len(order))
    rng = np.random.default_rng(0)

    def at(share: float) -> np.ndarray:
        start = round(share * (len(order) - size))
        return order[start : start + size]

    def timed(i: int) -> np.ndarray:
        return at((i + 0.5) / TIMED_STEPS) if grouped else rng.permutation(order)[:size]

    return Picks(at(0.5), at(1.0), tuple(timed(i) for i in range(TIMED_STEPS)))


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Give back the weights, flags, modes, device and random state that `model` had."""
    state = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = [(m, m.training) for m in model.modules()]
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.to(device).load_state_dict(state)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
            parameter.grad = None
        for module, training in modes:
            module.training = training


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[dict[int, int]]:
    """Collect what autograd keeps for the backward pass: storage → bytes, each once, weights and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield seen


def measure_stage(
    plan: Plan, stage: Stage, inputs: StageInputs, picks: Picks, args: TrainingArguments, loss: Any,
    room: Callable[[], int],
) -> Measured | None:  # fmt: skip
    """Run steps of `stage`; None where not even one row fits in `room()` bytes. The model is the same afterwards.

    `inputs.train` holds the rows `picks.rows`, in their order.
    """
    with unchanged(plan.model):
        set_trainable(plan.model, stage.trainable)
        hook = pin_frozen(inputs.module, plan, stage)
        try:
            return _with_room(_Stepper(inputs, picks, args, loss), room)
        finally:
            hook.remove()


def _with_room(step: "_Stepper", room: Callable[[], int]) -> Measured | None:
    size = whole = len(step.picks.longest)
    learning = sum(p.numel() for p in step.module.parameters() if p.requires_grad)
    try:
        if 12 * learning > ROOM * room():  # gradients and AdamW's states
            return None
        few = min(2, size)
        per_row = step.activations(step.picks.longest[-few:]) / few
        while 12 * learning + per_row * size > ROOM * room():
            if size == 1:
                return None
            size //= 2
        return step.measure(size, whole)
    except Exception as error:
        if not (should_reduce_batch_size(error) or isinstance(error, MemoryError)):
            raise
        return None


class _Stepper:
    """Steps of one stage outside of Trainer, with its loss, its precision, its clipping and its groups."""

    def __init__(self, inputs: StageInputs, picks: Picks, args: TrainingArguments, loss: Any):
        self.inputs, self.picks, self.args, self.loss = inputs, picks, args, loss
        self.module = inputs.module.to(args.device)
        parameters = dict(self.module.named_parameters())
        groups = [
            {"params": [parameters[n] for n in g.parameters], "lr": args.learning_rate * g.rate} for g in inputs.groups
        ]
        self.optimizer = torch.optim.AdamW(groups, fused="fused" in str(args.optim))

    def measure(self, size: int, whole: int) -> Measured:
        scale = whole / size
        longest = self.activations(self.picks.longest[-size:])
        typical = self.activations(self.picks.typical[:size])
        self._update()  # to warm up: AdamW makes its states here
        backward = update = forward = 0.0
        for rows in self.picks.timed:
            backward += self._seconds(partial(self._backward, rows[:size]))
            update += self._seconds(self._update)
            forward += self._seconds(partial(self._forward, rows[:size]))
        steps = len(self.picks.timed)
        return Measured(
            rows=size,
            batch_rows=whole,
            typical_bytes=int(typical * scale),
            longest_bytes=int(longest * scale),
            batch_seconds=backward / steps * scale,
            update_seconds=update / steps,
            forward_seconds=forward / steps / size,
        )

    def activations(self, rows: np.ndarray) -> int:
        """Bytes saved by one forward pass over `rows`, followed by its backward pass."""
        with saved_bytes(self.module) as seen:
            self._backward(rows)
        return sum(seen.values())

    def _batch(self, rows: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        at = np.searchsorted(self.picks.rows, rows)
        batch = self.inputs.collate([self.inputs.train[int(i)] for i in at])
        batch = {k: v.to(self.args.device) for k, v in batch.items()}
        return batch, batch.pop("labels")

    def _backward(self, rows: np.ndarray) -> None:
        batch, labels = self._batch(rows)
        self.module.train()
        with autocast(self.args.device, self.args.bf16 or self.args.fp16):
            value = self.loss(self.module(**batch), labels)
        value.backward()

    def _forward(self, rows: np.ndarray) -> None:
        batch, _ = self._batch(rows)
        self.module.eval()
        with torch.no_grad(), autocast(self.args.device, self.args.bf16 or self.args.fp16):
            self.module(**batch)

    def _update(self) -> None:
        if self.args.max_grad_norm:
            nn.utils.clip_grad_norm_([p for p in self.module.parameters() if p.requires_grad], self.args.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _seconds(self, what: Callable[[], None]) -> float:
        self._wait()
        start = time.perf_counter()
        what()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.args.device.type != "cpu":
            torch.accelerator.synchronize()
