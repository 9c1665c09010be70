"""What a method decides: a model and the stages that train it."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

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

    @property
    def trainable(self) -> tuple[str, ...]:
        """Exact names of the parameters that learn."""
        return tuple(name for group in self.groups for name in group.parameters)


@dataclass(frozen=True)
class Plan:
    """The model to train (wrapped by peft for LoRA), its stages, and the method's defaults for TrainingArguments."""

    model: Any
    output: str  # the Linear that puts out the logits, by its name in `model`
    stages: tuple[Stage, ...]
    defaults: dict[str, Any] = field(default_factory=dict)


def probe_stage(output: str) -> Stage:
    """The closed-form stage with which every method begins: the probe's solution is written into `output`."""
    return Stage("probe", (Group("head", (f"{output}.weight", f"{output}.bias"), 1.0),), None)


def is_convnet(model: nn.Module) -> bool:
    """True when the model normalises by batch, as ResNet and EfficientNet do; such nets want other rates."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def decayed_groups(layers: Layers, decay: float, head_rate: float) -> tuple[Group, ...]:
    """Layer-wise rates: 1 for the top block, times `decay` for each one below it, the stem lowest; head apart.

    ULMFiT's discriminative rates (Howard & Ruder 2018, section 3.2) in the exponential form of ELECTRA and BEiT.
    """
    n = len(layers.blocks)
    groups = [Group("stem", layers.stem, decay**n)]
    groups += [Group(f"block {i + 1}", block, decay ** (n - 1 - i)) for i, block in enumerate(layers.blocks)]
    groups.append(Group("head", layers.head, head_rate))
    return tuple(g for g in groups if g.parameters)
