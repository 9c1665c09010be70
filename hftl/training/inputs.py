"""What a stage trains: the whole model on rows, the model's upper part on stored states, or the head on features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hftl.methods.plan import Group, Plan, Stage
from hftl.tasks.task import Encoded
from hftl.training.replay import OnStates
from hftl.training.states import StateCache, collate_states


class OnFeatures(nn.Module):
    """The head's one Linear, trained on cached features instead of the frozen body's repeated forward passes."""

    accepts_loss_kwargs = False

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear = linear

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Return logits [n, classes] for features [n, d]."""
        return SequenceClassifierOutput(logits=self.linear(features))


class FeatureRows(torch.utils.data.Dataset):
    """Rows with their cached features beside them; a text's tokens stay, so that batches are formed as without cache."""

    def __init__(self, inner: Encoded, features: np.ndarray):
        self.inner, self.features = inner, np.asarray(features)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.inner[index], "features": self.features[index]}


def _collate_features(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    features = torch.from_numpy(np.stack([item["features"] for item in items]))
    return {"features": features, "labels": torch.as_tensor(np.stack([item["labels"] for item in items]))}


@dataclass(frozen=True)
class StageData:
    """What the stages train and validate on."""

    train: Encoded
    validation: Encoded
    collate: Callable
    num_labels: int
    train_features: np.ndarray | None = None  # for a stage on features
    validation_features: np.ndarray | None = None
    class_weights: np.ndarray | None = None


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
    if (
        stage.on_features
        and cache != "off"
        and data.train_features is not None
        and data.validation_features is not None
    ):
        linear = plan.model.get_submodule(plan.output)
        assert isinstance(linear, nn.Linear)
        groups = _renamed(stage.groups, lambda name: "linear." + name.rpartition(".")[2])
        train = FeatureRows(data.train, data.train_features)
        validation = FeatureRows(data.validation, data.validation_features)
        return StageInputs(OnFeatures(linear), groups, train, validation, _collate_features, "features")
    first = plan.frozen_blocks(stage)
    if states is not None and first in states.train:
        module = OnStates(plan.model, states.anatomy, first)
        groups = _renamed(stage.groups, lambda name: "model." + name)
        rows = states.train[first], states.validation[first]
        return StageInputs(module, groups, *rows, collate_states(data.collate), "states")
    return StageInputs(plan.model, stage.groups, data.train, data.validation, data.collate, "rows")


def _renamed(groups: tuple[Group, ...], rename: Callable[[str], str]) -> tuple[Group, ...]:
    return tuple(Group(g.name, tuple(rename(n) for n in g.parameters), g.rate) for g in groups)
