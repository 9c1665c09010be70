"""What a stage reads: rows; or the states under its lowest learning layer, stored in one forward pass; or features.

Layers under the boundary do not change while it moves down, so states of the start of the run hold for every stage
whose predecessors left the layers below alone. AutoFreeze (Liu et al. 2021) caches for one boundary in this way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from hftl.config import RunConfig
from hftl.errors import TrainingError
from hftl.methods.plan import Group, Plan, Stage
from hftl.tasks import CLASSES
from hftl.tasks.task import Output
from hftl.training.arguments import stage_epochs
from hftl.training.cache import drop_states
from hftl.training.features import Batch, Encoded, Passer
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.replay import (
    Anatomy,
    OnFeatures,
    OnStates,
    StateMaker,
    anatomy_of,
    replays_exactly,
)


@dataclass(frozen=True)
class StageData:
    """What the stages train and validate on."""

    train: Encoded
    validation: Encoded
    collate: Callable
    labels: tuple[str, ...]  # what can be answered
    train_features: np.ndarray | None = None  # for a stage on features
    validation_features: np.ndarray | None = None
    class_weights: np.ndarray | None = None
    output: Output = CLASSES


# Rows with what is stored of them


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


@dataclass(frozen=True, eq=False)
class FeatureRows(Dataset):
    """Rows with their cached features beside them; a text's tokens stay, so that batches are formed as without cache."""

    inner: Encoded
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.inner[index], "features": self.features[index]}


def _collate_features(items: list[dict[str, Any]]) -> Batch:
    features = torch.from_numpy(np.stack([item["features"] for item in items]))
    return {"features": features, "labels": torch.as_tensor(np.stack([item["labels"] for item in items]))}


def _collate_states(collate: Callable, items: list[dict[str, Any]]) -> Batch:
    """The task's own batch, with states [n, ...] as float32 beside it."""
    rows = [_as_tensor(item.pop("states")) for item in items]
    if "input_ids" in items[0]:
        batch = dict(collate(items))
        mask = batch["attention_mask"].bool()
        states = torch.zeros(*mask.shape, rows[0].shape[-1])
        states[mask] = torch.cat(rows)  # in the order of rows and tokens, whichever side is padded
        return {**batch, "states": states}
    labels = torch.as_tensor(np.stack([item["labels"] for item in items]))
    return {"states": torch.stack(rows), "labels": labels, **_no_pixels(len(items))}


def _no_pixels(n: int) -> Batch:
    return {"pixel_values": torch.zeros(n, 3, 1, 1)}  # read by nobody: the stem is left out


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(array))  # a copy: the file is mapped read-only
    return tensor.view(torch.bfloat16).float() if array.dtype == np.uint16 else tensor


# Which stages read states


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


def boundaries(plan: Plan, epochs: list[float]) -> dict[int, float]:
    """First block → epochs, for the stages of `plan` that can run from states stored before the first one.

    `epochs` is 0 for a stage that is done.
    """
    totals: dict[int, float] = {}
    lowest = len(plan.layers.modules)
    for stage, n in zip(plan.stages, epochs, strict=True):
        if stage.solve is not None:
            continue
        first = plan.frozen_blocks(stage)
        lowest = min(lowest, first)
        if 0 < first == lowest and not stage.on_features:
            totals[first] = totals.get(first, 0.0) + n
    return {first: n for first, n in totals.items() if n > 0}


def store(
    plan: Plan, data: StageData, config: RunConfig, done: int, decided: bool | None = None
) -> tuple[StateCache | None, str]:
    """Store the states that the plan's stages from number `done` on can use, or say why not.

    `decided` is what the run that is resumed did: its stages read states, or they did not. `--cache auto` gives up
    with a message where caching cannot work, would not pay or would not fit; `on` raises `TrainingError` instead.
    """
    if decided is False:
        return None, ""
    parts = (data.train, data.validation)
    maker, note = state_maker(plan, parts, data.collate, config, done, decided)
    if maker is None:
        return None, note
    slots = [maker.slots(encoded) for encoded in parts]
    keys = {first: [of_part[first][0] for of_part in slots] for first in maker.firsts}
    rows: list[dict[int, StateRows]] = []
    try:
        for encoded, of_part in zip(parts, slots, strict=True):
            starts, n = encoded.starts, maker.views_of(encoded)
            arrays = maker.open(encoded, of_part)
            rows.append({first: StateRows(encoded, array, starts, n) for first, array in arrays.items()})
    except OSError as error:  # no room: said by reserve_states, or by the disk itself
        drop_states([key for of_parts in keys.values() for key in of_parts])
        if decided:
            raise TrainingError(
                f"The run was begun with stored states of its frozen layers, and {error}. Make room for the cache, then "
                "--resume again."
            ) from None
        return _without(config.method.cache, str(error))
    return StateCache(maker.anatomy, rows[0], rows[1], keys), ""


def state_maker(
    plan: Plan,
    parts: tuple[Encoded, Encoded],
    collate: Callable,
    config: RunConfig,
    done: int = 0,
    decided: bool | None = None,
) -> tuple[StateMaker | None, str]:
    """Return what stores the states of train and validation rows for `store`; or None and why not."""
    if config.training.get("torch_compile") or config.training.get("torch_compile_backend"):
        return _without(config.method.cache, "--torch_compile compiles the layers as they are")
    epochs = [0.0 if i < done else stage_epochs(plan, stage, config) for i, stage in enumerate(plan.stages)]
    mode = "resumed" if decided and config.method.cache == "auto" else config.method.cache
    choice, note = choose_states(plan, epochs, parts, collate, mode, config.method.cache_views)
    if choice is None:
        return None, note
    anatomy, firsts, passes = choice
    passer = Passer(collate, runs_on_cpu(config.training), choose_bf16(config.training))
    augmentation = {"augment": config.method.augment, "no_flip": config.method.no_flip}
    return StateMaker(plan, anatomy, firsts, passer, passes, augmentation), ""


def choose_states(
    plan: Plan, epochs: list[float], parts: tuple[Encoded, Encoded], collate: Callable, mode: str, views: int
) -> tuple[tuple[Anatomy, list[int], int] | None, str]:
    """Return (anatomy, first blocks, views) of the states that `store` would keep, or None and why not.

    Nothing is stored. Raises `TrainingError` for `mode` "on" where caching cannot work.
    """
    wanted = boundaries(plan, epochs)
    if mode == "off" or not wanted:
        return None, ""
    passes = views if parts[0].augment else 1
    if mode == "auto" and sum(wanted.values()) < 2 * passes:
        return None, f"no cache of frozen layers: {sum(wanted.values()):g} epochs would not pay for {passes} passes"
    plain = parts[1]
    sample = collate([plain[i] for i in range(min(3, len(plain)))])
    small = _no_pixels(len(sample["labels"])) if "pixel_values" in sample else sample
    small = {k: v for k, v in small.items() if k != "labels"}
    anatomy = anatomy_of(plan.model, plan.layers, plan.path, sample)
    if anatomy is None or not replays_exactly(plan.model, anatomy, sorted(wanted), sample, small):
        return _without(mode, "this model's layers cannot be run from stored states")
    return (anatomy, sorted(wanted), passes), ""


def _without(mode: str, why: str) -> tuple[None, str]:
    if mode == "on":
        raise TrainingError(f"--cache on cannot be held: {why}. Use --cache auto.")
    return None, f"no cache of frozen layers: {why}"


@dataclass(frozen=True)
class StageInputs:
    """One stage's module with its parameter groups by the module's own names, its rows and their collator."""

    module: Any
    groups: tuple[Group, ...]
    train: Any
    validation: Any
    collate: Callable
    reads: str  # "rows", "states" or "features", for the report


def stage_inputs(plan: Plan, stage: Stage, data: StageData, states: StateCache | None, cache: str) -> StageInputs:
    """Choose the cheapest inputs that give the stage's result."""
    features = (data.train_features, data.validation_features)
    if stage.on_features and cache != "off" and features[0] is not None and features[1] is not None:
        linear = plan.model.get_submodule(plan.output)
        assert isinstance(linear, nn.Linear)
        groups = _renamed(stage.groups, lambda name: "linear." + name.rpartition(".")[2])
        train = FeatureRows(data.train, np.asarray(features[0]))
        validation = FeatureRows(data.validation, np.asarray(features[1]))
        return StageInputs(OnFeatures(linear), groups, train, validation, _collate_features, "features")
    first = plan.frozen_blocks(stage)
    if states is not None and first in states.train:
        module = OnStates(plan.model, states.anatomy, first)
        groups = _renamed(stage.groups, lambda name: "model." + name)
        rows = states.train[first], states.validation[first]
        return StageInputs(module, groups, *rows, partial(_collate_states, data.collate), "states")
    return StageInputs(plan.model, stage.groups, data.train, data.validation, data.collate, "rows")


def _renamed(groups: tuple[Group, ...], rename: Callable[[str], str]) -> tuple[Group, ...]:
    return tuple(Group(g.name, tuple(rename(n) for n in g.parameters), g.rate) for g in groups)
