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

from hftl.config import RunConfig
from hftl.errors import TrainingError
from hftl.methods.plan import Plan
from hftl.tasks.task import Encoded
from hftl.training.arguments import stage_epochs
from hftl.training.cache import drop_states
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.replay import Anatomy, look, replays_exactly
from hftl.training.state_pass import StateMaker


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
        return {"labels": self.inner.targets[index], "states": self.states[view * len(self) + index]}


@dataclass(frozen=True)
class StateCache:
    """Which stages run from stored states, and where these are."""

    anatomy: Anatomy
    train: dict[int, StateRows]  # first block → rows
    validation: dict[int, StateRows]
    keys: dict[int, list[str]]

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
        labels = torch.as_tensor(np.stack([item["labels"] for item in items]))
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
    parts: tuple[Encoded, Encoded],
    collate: Callable,
    config: RunConfig,
    identity: dict[str, Any],
    done: int,
    decided: bool | None = None,
) -> tuple[StateCache | None, str]:
    """Store the states that the plan's stages from number `done` on can use, or say why not.

    `decided` is what the run that is resumed did: its stages read states, or they did not.

    `parts` are the train rows (augmented ones get `--cache_views` stored views) and the validation rows; `identity`
    whatever the batches depend on beside the rows. `--cache auto` gives up with a message where caching cannot work,
    would not pay or would not fit; `on` raises `TrainingError` instead.
    """
    if decided is False:
        return None, ""
    maker, passes, note = state_maker(plan, parts, collate, config, identity, done, decided=decided)
    if maker is None:
        return None, note
    keys = [maker.keys(encoded, views) for encoded, views in zip(parts, (passes, 1), strict=True)]
    rows: list[dict[int, StateRows]] = []
    try:
        for encoded, views in zip(parts, (passes, 1), strict=True):
            arrays, starts = maker.open(encoded, views), encoded.starts
            rows.append({first: StateRows(encoded, array, starts, views) for first, array in arrays.items()})
    except OSError as error:  # no room: said by reserve_states, or by the disk itself
        drop_states([key for of_part in keys for key in of_part.values()])
        if decided:
            raise TrainingError(
                f"The run was begun with stored states of its frozen layers, and {error}. Make room for the cache, then "
                "--resume again."
            ) from None
        return _without(config.method.cache, str(error))
    by_first = {first: [of_part[first] for of_part in keys] for first in maker.firsts}
    return StateCache(maker.anatomy, rows[0], rows[1], by_first), ""


def state_maker(
    plan: Plan,
    parts: tuple[Encoded, Encoded],
    collate: Callable,
    config: RunConfig,
    identity: dict[str, Any],
    done: int = 0,
    decided: bool | None = None,
) -> tuple[StateMaker | None, int, str]:
    """Return what stores the states of `store`, and the views of a train row; None and why not."""
    if config.training.get("torch_compile") or config.training.get("torch_compile_backend"):
        none, note = _without(config.method.cache, "--torch_compile compiles the layers as they are")
        return none, 0, note
    epochs = [0.0 if i < done else stage_epochs(plan, stage, config) for i, stage in enumerate(plan.stages)]
    mode = "resumed" if decided and config.method.cache == "auto" else config.method.cache
    chosen, note = choose_states(plan, epochs, parts, collate, mode, config.method.cache_views)
    if chosen is None:
        return None, 0, note
    anatomy, firsts, passes = chosen
    bf16, use_cpu = choose_bf16(config.training), runs_on_cpu(config.training)
    return StateMaker(plan, anatomy, firsts, collate, bf16, use_cpu, identity), passes, ""


def choose_states(
    plan: Plan, epochs: list[float], parts: tuple[Encoded, Encoded], collate: Callable, mode: str, views: int
) -> tuple[tuple[Anatomy, list[int], int] | None, str]:
    """Return (anatomy, first blocks, views) of the states that `store` would keep, or None and why not.

    Nothing is stored. Raises `TrainingError` for `mode` "on" where caching cannot work.
    """
    wanted = boundaries(plan, epochs)
    if mode == "off" or not wanted:
        return None, ""
    augmented = parts[0].augment
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


def _without(mode: str, why: str) -> tuple[None, str]:
    if mode == "on":
        raise TrainingError(f"--cache on cannot be held: {why}. Use --cache auto.")
    return None, f"no cache of frozen layers: {why}"


def _small_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if "pixel_values" in batch:
        return _no_pixels(len(batch["labels"]))
    return {k: v for k, v in batch.items() if k != "labels"}
