"""What a stage reads: rows; or the states under its lowest learning layer, stored in one forward pass; or features.

Layers under the boundary do not change while it moves down, so states of the start of the run hold for every stage
whose predecessors left the layers below alone. AutoFreeze (Liu et al. 2021) caches for one boundary in this way.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from hftl.config import RunConfig
from hftl.errors import TrainingError
from hftl.methods.plan import Plan, Stage
from hftl.tasks import CLASSES
from hftl.tasks.task import NOT_ASKED, Encoded, Output
from hftl.training.arguments import stage_epochs
from hftl.training.cache import drop_states
from hftl.training.features import Batch, Passer
from hftl.training.hooks import NO_HOOKS, Hooks
from hftl.training.maps import Maps, maps_of
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.replay import Anatomy, OnFeatures, OnStates, StateMaker, anatomy_of, replays_exactly, with_array
from hftl.training.trainer import Groups


@dataclass(frozen=True)
class StageData:
    """What the stages train and validate on."""

    train: Encoded
    validation: Encoded
    collate: Callable
    labels: tuple[str, ...]  # what can be answered
    train_features: Any = None  # for a stage on features, by row
    validation_features: Any = None
    class_weights: np.ndarray | None = None
    output: Output = CLASSES
    kept: Callable[[Any], float] | None = None  # the share of the base that a model keeps, where `--keep` asks for it
    hooks: Hooks = NO_HOOKS

    def scaled(self, centre: float, deviation: float) -> "StageData":
        """Return the same with the targets, which are numbers, standardised."""
        train, validation = (
            replace(part, targets=(part.targets - centre) / deviation) for part in (self.train, self.validation)
        )
        return replace(self, train=train, validation=validation)


def _collate_features(items: list[dict[str, Any]]) -> Batch:
    if "units" not in items[0]:
        features = torch.from_numpy(np.stack([item["features"] for item in items]))
        return {"features": features, "labels": _labels(items)}
    rows = [torch.from_numpy(np.array(item["features"])) for item in items]
    labels = [torch.from_numpy(np.where(item["units"] < 0, NOT_ASKED, item["labels"])) for item in items]
    padded = pad_sequence(labels, batch_first=True, padding_value=NOT_ASKED)
    return {"features": pad_sequence(rows, batch_first=True), "labels": padded}


def _labels(items: list[dict[str, Any]]) -> torch.Tensor:
    return torch.as_tensor(np.stack([item["labels"] for item in items]))


def _collate_states(collate: Callable, items: list[dict[str, Any]]) -> Batch:
    """The task's own batch, with states [n, ...] as float32 beside it."""
    stored = [item.pop("states") for item in items]
    if isinstance(stored[0], tuple):
        labels = torch.from_numpy(np.stack([mask for _, mask in stored])).long()
        return {"states": torch.stack([_as_tensor(array) for array, _ in stored]), "labels": labels}
    rows = [_as_tensor(array) for array in stored]
    if "input_ids" in items[0]:
        batch = dict(collate(items))
        mask = batch["attention_mask"].bool()
        states = torch.zeros(*mask.shape, rows[0].shape[-1])
        states[mask] = torch.cat(rows)  # in the order of rows and tokens, whichever side is padded
        return {**batch, "states": states}
    return {"states": torch.stack(rows), "labels": _labels(items)}


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(array))  # a copy: the file is mapped read-only
    return tensor.view(torch.bfloat16).float() if array.dtype == np.uint16 else tensor


@dataclass(frozen=True)
class StateCache:
    """The rows of each stage that runs from stored states, and the keys of these in the cache."""

    anatomy: Anatomy | Maps
    train: dict[int, Encoded]  # first block → rows
    validation: dict[int, Encoded]
    keys: list[str]


def boundaries(plan: Plan, epochs: list[float]) -> dict[int, float]:
    """First block → epochs, for the stages of `plan` that can run from states stored before the first one."""
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
    plan: Plan, data: StageData, config: RunConfig, decided: bool | None = None
) -> tuple[StateCache | None, str]:
    """Store the states that the plan's stages can use, or say why not.

    `decided` is what the run that is resumed did: its stages read states, or they did not. `--cache auto` gives up
    with a message where caching cannot work, would not pay or would not fit; `on` raises `TrainingError` instead.
    """
    if decided is False:
        return None, ""
    parts = (data.train, data.validation)
    maker, note = state_maker(plan, parts, data.collate, config)
    if maker is None:
        return None, note
    keys = [maker.key(encoded) for encoded in parts]
    try:
        train, validation = (maker.open(encoded, key) for encoded, key in zip(parts, keys, strict=True))
    except OSError as error:
        drop_states(keys)
        if decided:
            raise TrainingError(
                f"The run was begun with stored states of its frozen layers, and {error}. Make room for the cache, then "
                "--resume again."
            ) from None
        return without(config.method.cache, str(error))
    return StateCache(maker.anatomy, train, validation, keys), ""


def state_maker(
    plan: Plan, parts: tuple[Encoded, Encoded], collate: Callable, config: RunConfig
) -> tuple[StateMaker | None, str]:
    """Return what stores the states of train and validation rows for `store`; or None and why not.

    Nothing is stored yet. Raises `TrainingError` for `--cache on` where caching cannot work.
    """
    mode = config.method.cache
    if config.training.get("torch_compile") or config.training.get("torch_compile_backend"):
        return without(mode, "--torch_compile compiles the layers as they are")
    epochs = boundaries(plan, [stage_epochs(plan, stage, config) for stage in plan.stages])
    if mode == "off" or not epochs:
        return None, ""
    train, plain = parts
    if train.window is not None:
        return without(mode, "other windows of the images are drawn in every epoch")
    if train.keep is not None:
        epochs = {first: n for first, n in epochs.items() if first == len(plan.layers.modules)}
        if not epochs:
            return without(mode, "decoders of pixels read states of several depths")
    views = config.method.cache_views if train.augment else 1
    if mode == "auto" and sum(epochs.values()) < 2 * views:
        return None, f"no cache of frozen layers: {sum(epochs.values()):g} epochs would not pay for {views} passes"
    sample = collate([plain[i] for i in range(min(3, len(plain)))])
    anatomy: Anatomy | Maps | None
    anatomy = maps_of(plan, sample) if train.keep else anatomy_of(plan.model, plan.layers, plan.path, sample)
    if anatomy is None or not replays_exactly(plan.model, anatomy, sorted(epochs), sample):
        return without(mode, "this model's layers cannot be run from stored states")
    passer = Passer(collate, runs_on_cpu(config.training), choose_bf16(config.training))
    augmentation = {"augment": config.method.augmentation, "no_flip": config.method.no_flip}
    return StateMaker(plan, anatomy, sorted(epochs), passer, views, augmentation), ""


def without(mode: str, why: str) -> tuple[None, str]:
    """Return None and what the report says. Raises `TrainingError` where `--cache on` was asked for."""
    if mode == "on":
        raise TrainingError(f"--cache on cannot be held: {why}. Use --cache auto.")
    return None, f"no cache of frozen layers: {why}"


@dataclass(frozen=True)
class StageInputs:
    """One stage's module with its parameters by relative rate, its rows and their collator."""

    module: nn.Module
    groups: Groups
    train: Encoded
    validation: Encoded
    collate: Callable
    reads: str  # "rows", "states" or "features", for the report


def stage_inputs(plan: Plan, stage: Stage, data: StageData, states: StateCache | None, cache: str) -> StageInputs:
    """Choose the cheapest inputs that give the stage's result."""
    groups = [(g.rate, [plan.model.get_parameter(name) for name in g.parameters]) for g in stage.groups]
    if stage.on_features and cache != "off" and data.validation_features is not None:
        linear = OnFeatures(plan.model.get_submodule(plan.output))
        train = with_array(data.train, "features", data.train.by_window(data.train_features))
        validation = with_array(data.validation, "features", data.validation.by_window(data.validation_features))
        return StageInputs(linear, groups, train, validation, _collate_features, "features")
    first = plan.frozen_blocks(stage)
    if states is not None and first in states.train:
        upper = OnStates(plan.model, states.anatomy, first)
        rows = states.train[first], states.validation[first]
        return StageInputs(upper, groups, *rows, partial(_collate_states, data.collate), "states")
    return StageInputs(plan.model, groups, data.train, data.validation, data.collate, "rows")
