"""The forward pass that stores states: one of its own, or the one in which the frozen features are extracted."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hftl.methods.plan import Plan
from hftl.models.layers import is_under
from hftl.tasks.task import Encoded
from hftl.training.cache import cache_key, open_states, reserve_states, weights_hash
from hftl.training.features import run_batches
from hftl.training.replay import Anatomy, capture
from hftl.training.world import from_every_process, local_world, one_machine


Write = Callable[[list[int], dict[str, torch.Tensor]], None]  # (row numbers, batch) after a forward pass


@dataclass(frozen=True)
class StateMaker:
    """Stores the states that enter the blocks `firsts`; `identity` is what the batches depend on beside the rows."""

    plan: Plan
    anatomy: Anatomy
    firsts: list[int]
    collate: Callable
    bf16: bool
    use_cpu: bool
    identity: dict[str, Any]

    def keys(self, encoded: Encoded, views: int) -> dict[int, str]:
        """Return the cache key of the states of `encoded` by first block."""
        return {first: self._key(first, encoded, views) for first in self.firsts}

    def open(self, encoded: Encoded, views: int) -> dict[int, np.ndarray]:
        """Return the states by first block, computed where they are not on disk. Raises OSError without room."""
        keys = self.keys(encoded, views)
        missing = self._missing(encoded, views, keys)
        if missing:
            shard = local_world()
            with self._reserve(encoded, views, keys, missing, main=shard[0] == 0) as targets:
                self._fill(encoded, targets, views, shard)
        found = {first: self._stored(first, encoded, views, keys) for first in self.firsts}
        return {first: array for first, array in found.items() if array is not None}

    @contextmanager
    def beside(self, encoded: Encoded) -> Iterator[Write | None]:
        """Store the states of `encoded` in a forward pass that is made anyway, by the `Write` that this yields.

        None where nothing is to be stored: rows that are augmented (the other pass takes them as they are), states
        that are there already, no room, or several machines, each of which needs all rows.
        """
        keys = self.keys(encoded, 1)
        missing = [] if encoded.augment or not one_machine() else self._missing(encoded, 1, keys)
        with ExitStack() as stack:
            if not missing:
                yield None
                return
            try:
                reserved = self._reserve(encoded, 1, keys, missing, main=local_world()[0] == 0)
                targets = stack.enter_context(reserved)
            except OSError:  # `store` meets the same, and says so
                yield None
                return
            record = stack.enter_context(self._recording(encoded, targets, stop=False))
            yield lambda rows, batch: record(rows, batch, 0)

    def _key(self, first: int, encoded: Encoded, views: int) -> str:
        return cache_key(
            self.plan.model, use_cpu=self.use_cpu, kind="states", first=first, weights=weights_hash(self.plan.model, _below(self.plan, first)),
            rows=encoded.fingerprint(), bf16=self.bf16, views=views, augmented=encoded.augment, identity=self.identity,
        )  # fmt: skip

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.bf16 else np.float32)

    def _stored(self, first: int, encoded: Encoded, views: int, keys: dict[int, str]) -> np.ndarray | None:
        return open_states(keys[first], state_shapes(self.anatomy, [first], encoded, views)[first], self._dtype)

    def _missing(self, encoded: Encoded, views: int, keys: dict[int, str]) -> list[int]:
        """First blocks whose states any process lacks."""
        lacking = [first for first in self.firsts if self._stored(first, encoded, views, keys) is None]
        return sorted({first for process in from_every_process(lacking) for first in process})

    @contextmanager
    def _reserve(
        self, encoded: Encoded, views: int, keys: dict[int, str], missing: list[int], *, main: bool
    ) -> Iterator[dict[int, np.ndarray]]:
        shapes = state_shapes(self.anatomy, missing, encoded, views)
        with reserve_states({keys[f]: (shapes[f], self._dtype) for f in missing}, main=main) as arrays:
            yield {first: arrays[keys[first]] for first in missing}

    @contextmanager
    def _recording(
        self, encoded: Encoded, targets: dict[int, np.ndarray], *, stop: bool
    ) -> Iterator[Callable[[list[int], dict[str, torch.Tensor], int], None]]:
        """Hook the blocks; yield `record(rows, batch, offset)`, which writes what the last pass showed.

        `stop` leaves a pass as soon as it has shown all.
        """
        got: dict[int, torch.Tensor] = {}
        starts = encoded.starts

        def keep(first: int, value: torch.Tensor) -> None:
            got[first] = value
            if stop and len(got) == len(targets):
                raise _Enough

        def record(rows: list[int], batch: dict[str, torch.Tensor], offset: int) -> None:
            for first, value in got.items():
                _write(targets[first], value, rows, starts, batch.get("attention_mask"), offset)
            got.clear()

        hooks = capture(self.plan.model, self.anatomy, sorted(targets), keep)
        try:
            yield record
        finally:
            for hook in hooks:
                hook.remove()

    def _fill(self, encoded: Encoded, targets: dict[int, np.ndarray], views: int, shard: tuple[int, int]) -> None:
        model = _UntilEnough(self.plan.model)
        with self._recording(encoded, targets, stop=True) as record:
            for view in range(views):

                def use(rows: list[int], _: Any, batch: dict[str, torch.Tensor], view: int = view) -> None:
                    record(rows, batch, view * len(encoded))

                batches = _seeded(self.collate, view) if views > 1 else self.collate
                run_batches(
                    model, encoded, batches, use, bf16=self.bf16, use_cpu=self.use_cpu, shard=shard,
                    title="frozen layers",
                )  # fmt: skip


def state_shapes(anatomy: Anatomy, firsts: list[int], encoded: Encoded, views: int) -> dict[int, tuple[int, ...]]:
    """First block → shape of the stored states of all rows."""
    if encoded.starts is not None:
        return {f: (int(encoded.starts[-1]), anatomy.shapes[f][-1]) for f in firsts}
    return {f: (views * len(encoded), *anatomy.shapes[f][1:]) for f in firsts}


class _Enough(Exception):  # noqa: N818  no fault: how a forward pass is left
    """Every wanted state has been seen in this pass."""


class _UntilEnough(torch.nn.Module):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> None:
        try:
            self.model(**inputs)
        except _Enough:
            return


def _seeded(collate: Callable, view: int) -> Callable:
    """Draw a batch's augmentation from its own rows, so that it does not depend on the number of processes."""

    def seeded(items: list[dict[str, Any]]) -> Any:
        pixels = items[0]["pixels"]
        with torch.random.fork_rng():
            torch.manual_seed(int(np.asarray(pixels, dtype=np.float64).sum()) * 1009 + view)
            return collate(items)

    return seeded


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
    kept = mask.bool().cpu().numpy()
    for i, row in enumerate(rows):
        target[starts[row] : starts[row + 1]] = array[i][kept[i]]


def _below(plan: Plan, first: int) -> list[str]:
    """Names of the parameters and buffers under block `first`, which alone decide about its input."""
    above = (*plan.layers.modules[first:], *plan.layers.above)
    return [name for name in plan.model.state_dict() if not is_under(name.removeprefix(plan.path), above)]
