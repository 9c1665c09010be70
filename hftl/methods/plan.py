"""What a method decides: a model and the stages that train it."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hftl.models.heads import output_parameters
from hftl.models.layers import Layers


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate. `rate` is relative to the stage's `learning_rate`."""

    name: str
    parameters: tuple[str, ...]
    rate: float


@dataclass(frozen=True)
class Stage:
    """Exactly which parameters learn, at which rates, for how long. `share` None: a closed-form stage (the probe)."""

    name: str
    groups: tuple[Group, ...]
    share: float | None  # of the run's epochs
    body_frozen: bool = False  # nothing but the head learns: what does not learn stays in eval mode, without dropout
    on_features: bool = False  # the body is frozen and the head is one Linear: train it on cached features
    epochs: float | None = None  # instead of a share

    @property
    def trainable(self) -> tuple[str, ...]:
        """Exact names of the parameters that learn."""
        return tuple(name for group in self.groups for name in group.parameters)


@dataclass(frozen=True)
class Plan:
    """The model to train (wrapped by peft for LoRA), its stages, and the method's defaults for TrainingArguments."""

    model: Any
    output: str  # the Linear that puts out the logits, by its name in `model`
    layers: Layers  # of the model before a wrap
    stages: tuple[Stage, ...]
    defaults: dict[str, Any] = field(default_factory=dict)
    path: str = ""  # where the model lies inside a wrap: "base_model.model." for peft
    averaged: tuple[str, ...] = ()  # further Linears: the logits are their mean with `output`'s

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every Linear that the logits are made of, by its name in `model`."""
        return (*self.averaged, self.output)

    def frozen_blocks(self, stage: Stage) -> int:
        """How many blocks lie under the lowest layer that learns in `stage`: what the stage's cache stands for."""
        return self.layers.frozen_blocks(name.removeprefix(self.path) for name in stage.trainable)


def probe_stage(model: nn.Module, outputs: tuple[str, ...]) -> Stage:
    """The closed-form stage with which every method begins: the probe's solution is written into `outputs`."""
    names = tuple(name for output in outputs for name in output_parameters(model, output))
    return Stage("probe", (Group("head", names, 1.0),), None)


def first_stage(model: nn.Module, outputs: tuple[str, ...], init_head: str) -> tuple[Stage, ...]:
    """The probe, or nothing where `--init_head random` asks for the seeded random head that the model came with."""
    return (probe_stage(model, outputs),) if init_head == "probe" else ()


def head_stage(layers: Layers, outputs: tuple[str, ...], share: float, epochs: float | None = None) -> Stage:
    """The head alone by gradient; on cached features where it is one Linear."""
    single = len(outputs) == 1 and set(layers.head) <= {f"{outputs[0]}.weight", f"{outputs[0]}.bias"}
    return Stage("head", (Group("head", layers.head, 1.0),), share, True, single, epochs)


def is_convnet(model: nn.Module) -> bool:
    """True when the model normalises by batch, as ResNet and EfficientNet do; such nets want other rates."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def decayed_groups(layers: Layers, decay: float, head_rate: float, top: int | None = None) -> tuple[Group, ...]:
    """Layer-wise rates: 1 for the top block, times `decay` for each one below it, the stem lowest; head apart.

    ULMFiT's discriminative rates (Howard & Ruder 2018, section 3.2) in the exponential form of ELECTRA and BEiT. With
    `top`, only so many blocks, and no stem.
    """
    n = len(layers.blocks)
    groups = [Group("stem", layers.stem, decay**n)] if top is None else []
    first = 0 if top is None else n - top
    groups += [Group(f"block {i + 1}", layers.blocks[i], decay ** (n - 1 - i)) for i in range(first, n)]
    groups.append(Group("head", layers.head, head_rate))
    return tuple(g for g in groups if g.parameters)


def top_in_words(layers: Layers, top: int | None) -> str:
    """Say which blocks learn: "top 2 of 6 blocks", or all of them with the stem."""
    n = len(layers.blocks)
    return f"all {n} blocks and the stem" if top is None else f"top {top} of {n} blocks"
