"""What a method is and what it decides: a model and the stages that train it; and the pieces that plans are made of.

Nothing heavy is imported before a plan is built, so that help and typos, which know the methods, are answered at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hftl.config import MethodConfig
from hftl.errors import ConfigError


if TYPE_CHECKING:
    from torch import Tensor, nn

    from hftl.models.layers import Layers
    from hftl.models.load import Loaded
else:
    Loaded = Tensor = Any  # for the annotations of the methods


DECAY_TEXT = 0.9  # AutoGluon's default for text; Zhang et al. 2021 ("Revisiting Few-sample BERT") use 0.95 to 0.9
DECAY_VIT = 0.75  # BEiT and MAE fine-tuning
DECAY_CONVNET = 0.9
# Rates, measured on 500 and 2,000 rows (benchmarks/rates.py; docs/log.md, 2026-11-27). Narrower encoders want higher ones.
RATE_TEXT, WIDTH_POWER = 7e-5, 1.5  # at width 768, and how it falls with the width: 2e-4 at 384
RATE_MOST = 1e-3  # of bodies under 130 wide, narrower than any that was measured: there the power would give rates that diverge
RATE_FINE = 2.0  # times that for numbers and for tags of words: features tell less of these than of a class
RATE_VIT = 5e-5
RATE_CONVNET = 1e-3
# Up to so many rows per class are few. SetFit (Tunstall et al. 2022, table 2, from memory): tuned RoBERTa-large is 19
# points behind sentence embeddings with a regression at 8 rows per class, and 6 behind at 64.
FEW = 32
LEAST_STEPS, MOST_TIMES = 200, 3  # steps that few rows get, by up to so many times the usual epochs
HEAD_RATE = 3.0  # times the top block's, for what the checkpoint lacked
DECODER_RATE = 10.0  # the same for a decoder that starts at random: SegFormer's (Xie et al. 2021)
MAP_ROWS = 8  # of a batch of which every pixel is answered


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate. `rate` is relative to the stage's `learning_rate`."""

    name: str
    parameters: tuple[str, ...]
    rate: float


@dataclass(frozen=True)
class Stage:
    """Exactly which parameters learn, at which rates, for how long; or how they are set without gradient."""

    name: str
    groups: tuple[Group, ...]
    share: float  # of the run's epochs
    body_frozen: bool = False  # nothing but the head learns: what does not learn stays in eval mode, without dropout
    on_features: bool = False  # the body is frozen and the head is one Linear: train it on cached features
    epochs: float | None = None  # instead of a share
    solve: Solve | None = None  # sets the weights of the model, instead of training
    start: int | None = None  # number of the earlier stage whose weights `solve` gets
    # Instead of the output's loss of answers: (what the head reads [n, d], how alike the rows are [n, n]) → loss per row
    # [n]. Such a stage has nothing to validate; `group` rows are drawn together, from different strata and twice or more
    # from each, and stand beside each other.
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    group: int = 1

    @property
    def trainable(self) -> tuple[str, ...]:
        """Exact names of the parameters that learn."""
        return tuple(name for group in self.groups for name in group.parameters)


@dataclass(frozen=True)
class Plan:
    """The model to train (wrapped by peft for LoRA), its stages, and the method's defaults for TrainingArguments."""

    model: Any
    outputs: tuple[str, ...]  # the Linears whose mean is the logits, by their names in `model`
    layers: Layers  # of the model before a wrap
    stages: tuple[Stage, ...]
    defaults: dict[str, Any] = field(default_factory=dict)
    path: str = ""  # where the model lies inside a wrap: "base_model.model." for peft

    @property
    def output(self) -> str:
        """The last of the Linears that put out the logits: for nearly every model the only one."""
        return self.outputs[-1]

    @property
    def head(self) -> tuple[str, ...]:
        """The parameters of the head, by their names in `model`."""
        return tuple(self.path + name for name in self.layers.head)

    def frozen_blocks(self, stage: Stage) -> int:
        """How many blocks lie under the lowest layer that learns in `stage`: what the stage's cache stands for."""
        return self.layers.frozen_blocks(name.removeprefix(self.path) for name in stage.trainable)


@dataclass(frozen=True)
class Given:
    """What a stage without gradient may rest on."""

    probe: Any  # hftl.evaluation.logistic.Probe
    start: dict[str, Tensor] | None = None  # the weights at the end of the stage number `Stage.start`
    score: Callable[[Any], float] | None = None  # of a model on the validation rows; more is better
    metric: str = ""  # the name of that score
    kept: Callable[[Any], float] | None = None  # the share of the base that a model keeps, on the retention rows
    fit: Callable[[], Any] | None = None  # a new probe, on the features of the model as it is now


Solve = Callable[[Plan, Given], dict[str, Any] | None]  # sets weights; returns what the report says about it


def write_probe(plan: Plan, given: Given) -> None:
    """Write the probe into the head. Where the logits are the mean of n Linears, the probe read all their inputs side
    by side: each gets its columns times n.
    """
    import torch

    linears = [plan.model.get_submodule(name) for name in plan.outputs]
    columns = torch.from_numpy(given.probe.weight).split([linear.in_features for linear in linears], dim=1)
    with torch.no_grad():
        for linear, weight in zip(linears, columns, strict=True):
            linear.weight.copy_(weight * len(linears))
            if linear.bias is not None:  # decoders' heads have none, and their probe neither
                linear.bias.copy_(torch.from_numpy(given.probe.bias))


@dataclass(frozen=True)
class Method:
    """One way to adapt a model. To add one, write its file and put its value into `METHODS` (CONTRIBUTING.md)."""

    name: str
    summary: str  # for `hftl methods`: what it does and when to take it
    words: str  # for pages and cards: what was trained
    build: Callable[[Loaded, MethodConfig, int], Plan]  # (model, flags, number of training rows) → plan
    rows: int  # of a class (median), below which the doctor warns
    flags: tuple[str, ...] = ()  # flags of hftl that not every method reads
    frozen_body: bool = False
    may_pool: bool = False  # may end in the mean-pooled class; the others always save the stock class
    by_gradient: bool = True
    group: int = 1  # so many rows are compared with each other, by `Output.alike`
    needs_probe: bool = False  # makes no sense with `--init_head random`
    deepspeed: bool = False  # takes one DeepSpeed engine and no more, and writes no weights after it
    check: Callable[[Loaded, MethodConfig], object] | None = None  # raises ConfigError, and costs no forward pass

    def __call__(self, loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
        """Return the plan of the method for the model. Raises `ConfigError` for flags that the model cannot follow."""
        self.refuse(loaded, config)
        return self.build(loaded, config, n_train)

    def refuse(self, loaded: Loaded, config: MethodConfig) -> None:
        """Raise `ConfigError` when the method cannot be used on the model. It costs no forward pass."""
        blocks = len(loaded.layers.modules)
        for flag, instead in (("train_top", "train them all"), ("thaw_to", "thaw the stem as well")):
            top = getattr(config, flag)
            if top is not None and top > blocks:
                raise ConfigError(
                    f"--{flag} {top} is more than the {blocks} blocks that {loaded.name} has. Leave it out to {instead}."
                )
        if self.check is not None:
            self.check(loaded, config)


def probe_stage(model: nn.Module, outputs: tuple[str, ...]) -> Stage:
    """The closed-form stage with which every method begins: the probe's solution is written into `outputs`."""
    # Weight and, where it has one, bias: decoders' heads have none.
    names = tuple(f"{o}.{name}" for o in outputs for name, _ in model.get_submodule(o).named_parameters())
    return Stage("probe", (Group("head", names, 1.0),), 0.0, solve=write_probe)


def plan_of(loaded: Loaded, config: MethodConfig, stages: Sequence[Stage], defaults: dict[str, Any]) -> Plan:
    """Return the plan of `stages` after the probe, which `--init_head random` leaves out: the seeded head stays."""
    probed = config.init_head == "probe" and loaded.outputs
    first = (probe_stage(loaded.model, loaded.outputs),) if probed else ()
    return Plan(loaded.model, loaded.outputs, loaded.layers, (*first, *stages), defaults)


def head_stage(loaded: Loaded, share: float, epochs: float | None = None) -> Stage:
    """The head alone by gradient; on cached features where it is one Linear and answers rows or words."""
    layers, outputs = loaded.layers, loaded.outputs
    single = not answers_pixels(loaded.model) and len(outputs) == 1
    single = single and set(layers.head) <= {f"{outputs[0]}.weight", f"{outputs[0]}.bias"}
    return Stage("head", (Group("head", layers.head, 1.0),), share, True, single, epochs)


def is_convnet(model: nn.Module) -> bool:
    """True when the model normalises by batch, as ResNet and EfficientNet do; such nets want other rates."""
    from torch import nn

    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def answers_pixels(model: nn.Module) -> bool:
    """Does the model answer every pixel, so that a batch of usual size would not fit?"""
    return type(model).__name__.endswith("ForSemanticSegmentation")


def full_defaults(loaded: Loaded, config: MethodConfig, n_train: int) -> tuple[float, dict[str, Any]]:
    """Return the layer-wise decay, which `--layer_decay` overrides, and defaults for TrainingArguments.

    A training is so many epochs, or of few rows so many more that it has `LEAST_STEPS`.
    """
    from hftl.models.layers import body_of

    convnet = is_convnet(body_of(loaded.model))  # a decoder normalises by batch whatever its body does
    if convnet:
        rate, decay, epochs, batch = RATE_CONVNET, DECAY_CONVNET, 10, 32
    elif loaded.model.main_input_name == "pixel_values":
        rate, decay, epochs, batch = RATE_VIT, DECAY_VIT, 5, 32
    else:
        width = getattr(loaded.model.config, "hidden_size", 768)  # not every config calls it so
        rate = float(f"{min(RATE_TEXT * (768 / width) ** WIDTH_POWER, RATE_MOST):.1e}")  # people read it: two digits
        decay, epochs, batch = DECAY_TEXT, 3, 16
        numbers = getattr(loaded.model.config, "problem_type", None) == "regression"
        rate *= RATE_FINE if numbers or type(loaded.model).__name__.endswith("ForTokenClassification") else 1.0
    batch = MAP_ROWS if answers_pixels(loaded.model) else batch
    longer = min(LEAST_STEPS * batch / n_train, MOST_TIMES * epochs)
    arguments = {
        "learning_rate": rate,
        "num_train_epochs": float(max(epochs, math.ceil(longer))),
        "per_device_train_batch_size": batch,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine" if convnet else "linear",
        "weight_decay": 0.01,
    }
    return decay if config.layer_decay is None else config.layer_decay, arguments


def decayed_groups(
    layers: Layers, decay: float, head_rate: float = HEAD_RATE, top: int | None = None
) -> tuple[Group, ...]:
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
