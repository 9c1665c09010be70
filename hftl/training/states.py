"""The states under the lowest layer that learns: one forward pass stores them for every stage that can use them.

Layers under the boundary do not change while it moves down, so states of the start of the run hold for every stage
whose predecessors left the layers below alone. AutoFreeze (Liu et al. 2021) caches for one boundary in this way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hftl.errors import TrainingError
from hftl.methods.plan import Plan
from hftl.models.layers import is_under
from hftl.tasks.encoded import EncodedImages, EncodedText
from hftl.training.cache import cache_key, drop_states, open_states, reserve_states, weights_hash
from hftl.training.features import Encoded, run_batches
from hftl.training.replay import Anatomy, capture, look, replays_exactly
from hftl.training.world import from_every_process, local_world


@dataclass(frozen=True, eq=False)
class StateRows(Dataset):
    """Rows with their stored states, read from disk as they are needed."""

    inner: Encoded
    states: np.ndarray  # [tokens of all rows, d] for texts, [views * n, ...] for images; uint16 stands for bf16
    starts: np.ndarray | None  # [n + 1] where each text begins; None for rows of one shape
    views: int = 1

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.starts is not None:
            return {**self.inner[index], "states": self.states[self.starts[index] : self.starts[index + 1]]}
        view = int(torch.randint(self.views, (1,))) if self.views > 1 else 0  # `Numbered` seeds it by epoch and row
        return {"labels": int(self.inner.labels[index]), "states": self.states[view * len(self) + index]}


@dataclass(frozen=True)
class StateCache:
    """Which stages run from stored states, and where these are."""

    anatomy: Anatomy
    train: dict[int, StateRows]  # first block → rows
    validation: dict[int, StateRows]
    keys: dict[int, list[str]]
    origin: str  # "computed", "cache", or both

    def drop(self, first: int, still_needed: set[int]) -> None:
        """Remove from disk what no later stage reads."""
        if first not in still_needed:
            drop_states(self.keys.get(first, []))


def collate_states(collate: Callable) -> Callable:
    """Return a collator for `StateRows`: the task's own batch, with states [n, ...] as float32 beside it."""

    def stack(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        rows = [_as_tensor(item.pop("states")) for item in items]
        if "input_ids" in items[0]:
            batch = dict(collate(items))
            mask = batch["attention_mask"].bool()
            states = torch.zeros(*mask.shape, rows[0].shape[-1])
            states[mask] = torch.cat(rows)  # in the order of rows and tokens, whichever side is padded
            return {**batch, "states": states}
        labels = torch.tensor([item["labels"] for item in items])
        return {"states": torch.stack(rows), "labels": labels, **_no_pixels(len(items))}

    return stack


def _no_pixels(n: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.zeros(n, 3, 1, 1)}  # read by nobody: the stem is left out


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(array))  # a copy: the file is mapped read-only
    return tensor.view(torch.bfloat16).float() if array.dtype == np.uint16 else tensor


def boundaries(plan: Plan, epochs: list[float]) -> dict[int, float]:
    """First block → epochs, for the stages of `plan` that can run from states stored before the first one.

    `epochs` is 0 for a stage that is done.
    """
    found: dict[int, float] = {}
    lowest = len(plan.layers.modules)
    for stage, n in zip(plan.stages, epochs, strict=True):
        if stage.share is None:
            continue
        first = plan.frozen_blocks(stage)
        lowest = min(lowest, first)
        if 0 < first == lowest and not stage.on_features:
            found[first] = found.get(first, 0.0) + n
    return {first: n for first, n in found.items() if n > 0}


def store(
    plan: Plan,
    epochs: list[float],
    parts: tuple[Encoded, Encoded],
    collate: Callable,
    mode: str,
    views: int,
    *,
    bf16: bool,
    use_cpu: bool,
    identity: dict[str, Any],
) -> tuple[StateCache | None, str]:
    """Store the states that the plan's stages can use, or say why not.

    `epochs` are those of every stage; `parts` the train rows (augmented ones get `views` stored views) and the
    validation rows; `identity` whatever the batches depend on beside the rows. `mode` "auto" gives up with a message
    where caching cannot work, would not pay or would not fit; "on" raises `TrainingError` instead.
    """
    chosen, note = choose_states(plan, epochs, parts, collate, mode, views)
    if chosen is None:
        return None, note
    anatomy, firsts, passes = chosen
    keys: dict[int, list[str]] = {}
    try:
        made = _Maker(plan, anatomy, firsts, collate, bf16, use_cpu, identity)
        train, keys, how = made.rows(parts[0], passes, "train")
        validation, more, _ = made.rows(parts[1], 1, "validation")
    except OSError as error:  # no room: said by reserve_states, or by the disk itself
        drop_states([key for made_keys in keys.values() for key in made_keys])
        return _without(mode, str(error))
    return StateCache(anatomy, train, validation, {k: keys[k] + more[k] for k in keys}, how), ""


def choose_states(
    plan: Plan, epochs: list[float], parts: tuple[Encoded, Encoded], collate: Callable, mode: str, views: int
) -> tuple[tuple[Anatomy, list[int], int] | None, str]:
    """Return (anatomy, first blocks, views) of the states that `store` would keep, or None and why not.

    Nothing is stored. Raises `TrainingError` for `mode` "on" where caching cannot work.
    """
    wanted = boundaries(plan, epochs)
    if mode == "off" or not wanted:
        return None, ""
    augmented = isinstance(parts[0], EncodedImages) and parts[0].augment
    passes = views if augmented else 1
    if mode == "auto" and sum(wanted.values()) < 2 * passes:
        return None, f"no cache of frozen layers: {sum(wanted.values()):g} epochs would not pay for {passes} passes"
    plain = parts[1]
    sample = collate([plain[i] for i in range(min(3, len(plain)))])
    anatomy = look(plan.model, plan.layers, plan.path, sample)
    small = _small_inputs(sample)
    if anatomy is None or not replays_exactly(plan.model, anatomy, sorted(wanted), sample, small):
        return _without(mode, "this model's layers cannot be run from stored states")
    return (anatomy, sorted(wanted), passes), ""


def state_shapes(anatomy: Anatomy, firsts: list[int], encoded: Encoded, views: int) -> dict[int, tuple[int, ...]]:
    """First block → shape of the stored states of all rows."""
    if isinstance(encoded, EncodedText):
        return {f: (int(encoded.lengths.sum()), anatomy.shapes[f][-1]) for f in firsts}
    return {f: (views * len(encoded), *anatomy.shapes[f][1:]) for f in firsts}


def _without(mode: str, why: str) -> tuple[None, str]:
    if mode == "on":
        raise TrainingError(f"--cache on cannot be held: {why}. Use --cache auto.")
    return None, f"no cache of frozen layers: {why}"


def _small_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if "pixel_values" in batch:
        return _no_pixels(len(batch["labels"]))
    return {k: v for k, v in batch.items() if k != "labels"}


@dataclass(frozen=True)
class _Maker:
    plan: Plan
    anatomy: Anatomy
    firsts: list[int]
    collate: Callable
    bf16: bool
    use_cpu: bool
    identity: dict[str, Any]

    def rows(self, encoded: Encoded, views: int, title: str) -> tuple[dict[int, StateRows], dict[int, list[str]], str]:
        """Return the rows by first block, their keys, and "computed" or "cache"."""
        keys = {first: self._key(first, encoded, views) for first in self.firsts}
        shapes = state_shapes(self.anatomy, self.firsts, encoded, views)
        starts = np.concatenate([[0], np.cumsum(encoded.lengths)]) if isinstance(encoded, EncodedText) else None
        dtype = np.dtype(np.uint16 if self.bf16 else np.float32)
        found = {first: open_states(keys[first], shapes[first], dtype) for first in self.firsts}
        lacking = from_every_process([first for first, array in found.items() if array is None])
        missing = sorted({first for process in lacking for first in process})
        if missing:
            index, count = local_world()
            with reserve_states({keys[f]: (shapes[f], dtype) for f in missing}, main=index == 0) as arrays:
                targets = {first: arrays[keys[first]] for first in missing}
                self._fill(encoded, targets, starts, views, (index, count), title)
            found = {first: open_states(keys[first], shapes[first], dtype) for first in self.firsts}
        out = {first: StateRows(encoded, array, starts, views) for first, array in found.items() if array is not None}
        return out, {first: [key] for first, key in keys.items()}, "computed" if missing else "cache"

    def _key(self, first: int, encoded: Encoded, views: int) -> str:
        below = _below(self.plan, first)
        augmented = isinstance(encoded, EncodedImages) and encoded.augment
        return cache_key(
            kind="states", first=first, weights=weights_hash(self.plan.model, below), rows=encoded.fingerprint(),
            bf16=self.bf16, views=views, augmented=augmented, identity=self.identity,
        )  # fmt: skip

    def _fill(
        self,
        encoded: Encoded,
        targets: dict[int, np.ndarray],
        starts: np.ndarray | None,
        views: int,
        shard: tuple[int, int],
        title: str,
    ) -> None:
        got: dict[int, torch.Tensor] = {}

        def keep(first: int, value: torch.Tensor) -> None:
            got[first] = value
            if len(got) == len(targets):
                raise _Enough  # what lies above is not needed

        hooks = capture(self.plan.model, self.anatomy, sorted(targets), keep)
        try:
            for view in range(views):

                def use(rows: list[int], _: Any, batch: dict[str, torch.Tensor], view: int = view) -> None:
                    for first, value in got.items():
                        _write(targets[first], value, rows, starts, batch.get("attention_mask"), view * len(encoded))
                    got.clear()

                model = _UntilEnough(self.plan.model)
                batches = _seeded(self.collate, view) if views > 1 else self.collate
                run_batches(
                    model, encoded, batches, use, bf16=self.bf16, use_cpu=self.use_cpu, shard=shard,
                    title=f"frozen layers ({title})",
                )  # fmt: skip
        finally:
            for hook in hooks:
                hook.remove()


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
