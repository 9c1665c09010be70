"""`full`: probe-initialised head, then all layers with layer-wise learning rates (LP-FT with LLRD)."""

from dataclasses import replace
from typing import Any

from hftl.config import BY_GRADIENT, MethodConfig
from hftl.errors import ConfigError
from hftl.methods.plan import (
    DECODER_RATE,
    FEW,
    HEAD_RATE,
    Loaded,
    Method,
    Plan,
    Stage,
    decayed_groups,
    full_defaults,
    plan_of,
    top_in_words,
)


FEW_RATE_FACTOR = 10  # biases or norms alone: 1e-4 to 1e-3 in BitFit (Ben Zaken et al. 2022, appendix) against 2e-5
FEW_RATE_MOST = 5e-3


def full(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """The probe, then every layer: low rates, lower towards the stem (Kumar et al. 2022; Howard & Ruder 2018).

    Starting from the probe keeps the first steps from tearing up pretrained features to fit a random head. Inner head
    layers that the checkpoint lacks (DistilBERT's `pre_classifier`, RoBERTa's `dense`) keep their seeded random
    start: the probe is fitted on what comes out of them, and they learn at the head's rate.

    `--train_top k` freezes all but the top k blocks and the head, `--train_norms` all of the body but its
    normalisation layers (Frankle et al. 2021 show how much those alone can do), `--train_bias` all but its biases
    (BitFit, Ben Zaken et al. 2022).
    """
    decay, defaults = full_defaults(loaded, config, n_train)
    rate = HEAD_RATE if loaded.outputs else DECODER_RATE
    groups = decayed_groups(loaded.layers, decay, rate, top=config.train_top)
    name = "full" if config.train_top is None else top_in_words(loaded.layers, config.train_top)
    few = _norms_and_biases(loaded.model, config)
    if few:
        learning = set[str]().union(*few.values(), loaded.layers.head)
        groups = tuple(replace(g, parameters=tuple(n for n in g.parameters if n in learning)) for g in groups)
        groups = tuple(g for g in groups if g.parameters)
        if all(g.name == "head" for g in groups):
            raise ConfigError(
                "Nothing of the body would learn: it has no such layers. Leave --train_norms, --train_bias out."
            )
        name = " and ".join(few)
        defaults["learning_rate"] = min(defaults["learning_rate"] * FEW_RATE_FACTOR, FEW_RATE_MOST)
    return plan_of(loaded, config, [Stage(name, groups, 1.0)], defaults)


def _norms_and_biases(model: Any, config: MethodConfig) -> dict[str, set[str]]:
    """The parameters of the flags that are given, by "norms" and "biases"."""
    from torch import nn

    norms = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
    few = {}
    if config.train_norms:
        few["norms"] = {
            f"{name}.{key}"
            for name, module in model.named_modules()
            if isinstance(module, norms) or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
            for key, _ in module.named_parameters(recurse=False)
        }
    if config.train_bias:
        few["biases"] = {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    return few


FULL = Method(
    "full",
    "probe, then every layer at low rates, lower towards the input",
    "all layers trained, the lower ones more gently",
    full,
    rows=FEW + 1,
    flags=("train_top", "train_norms", "train_bias", "layer_decay", *BY_GRADIENT),
    deepspeed=True,
)
