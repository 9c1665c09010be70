"""`full`: probe-initialised head, then all layers with layer-wise learning rates (LP-FT with LLRD)."""

from torch import nn

from hftl.config import MethodConfig
from hftl.errors import ConfigError
from hftl.methods.plan import Group, Plan, Stage, decayed_groups, first_stage, is_convnet, top_in_words
from hftl.models.load import Loaded


DECAY_TEXT = 0.9  # AutoGluon's default for text; Zhang et al. 2021 ("Revisiting Few-sample BERT") use 0.95 to 0.9
DECAY_VIT = 0.75  # BEiT and MAE fine-tuning
DECAY_CONVNET = 0.9
# Rates at width 768; narrower models need higher ones. A rule of thumb, not measured here: `make run` uses 2e-4.
RATE_TEXT = 5e-5
RATE_VIT = 5e-5
RATE_CONVNET = 5e-4  # AdamW on EfficientNet-Lite0: .987 on digits after 6 epochs (1e-3: .985 after 10)
HEAD_RATE = 3.0  # times the top block's, for what the checkpoint lacked
FEW_RATE_FACTOR = 10  # biases or norms alone: 1e-4 to 1e-3 in BitFit (Ben Zaken et al. 2022, appendix) against 2e-5


def full(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """The probe, then every layer: low rates, lower towards the stem (Kumar et al. 2022; Howard & Ruder 2018).

    Starting from the probe keeps the first steps from tearing up pretrained features to fit a random head. Inner head
    layers that the checkpoint lacks (DistilBERT's `pre_classifier`, RoBERTa's `dense`) keep their seeded random
    start: the probe is fitted on what comes out of them, and they learn at the head's rate.

    `--train_top k` freezes all but the top k blocks and the head, `--train_norms` all of the body but its
    normalisation layers (Frankle et al. 2021 show how much those alone can do), `--train_bias` all but its biases
    (BitFit, Ben Zaken et al. 2022).
    """
    rate, decay, epochs, batch = full_defaults(loaded)
    decay = config.layer_decay if config.layer_decay is not None else decay
    check_top("train_top", config.train_top, loaded)
    groups = decayed_groups(loaded.layers, decay, HEAD_RATE, config.train_top)
    name = "full" if config.train_top is None else top_in_words(loaded.layers, config.train_top)
    if config.train_norms or config.train_bias:
        few = {
            n
            for wanted, names in ((config.train_norms, _norms), (config.train_bias, _biases))
            if wanted
            for n in names(loaded)
        }
        groups = _only(groups, few)
        rate, name = (
            rate * FEW_RATE_FACTOR,
            "norms and biases"
            if config.train_norms and config.train_bias
            else ("norms" if config.train_norms else "biases"),
        )
        rate = min(rate, 5e-3)
    stage = Stage(name, groups, 1.0)
    defaults = {
        "learning_rate": rate,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine" if is_convnet(loaded.model) else "linear",
        "weight_decay": 0.01,
    }
    stages = (*first_stage(loaded.model, loaded.outputs, config.init_head), stage)
    return Plan(loaded.model, loaded.output, loaded.layers, stages, defaults, averaged=loaded.averaged)


def check_blocks(config: MethodConfig, loaded: Loaded) -> None:
    """Raise `ConfigError` when a flag asks for more blocks than the model has."""
    check_top("train_top", config.train_top, loaded)
    check_top("thaw_to", config.thaw_to, loaded)


def check_top(flag: str, top: int | None, loaded: Loaded) -> None:
    """Raise `ConfigError` when `--<flag>` asks for more blocks than the model has."""
    n = len(loaded.layers.modules)
    if top is not None and top > n:
        what = "thaw the stem as well" if flag == "thaw_to" else "train them all"
        raise ConfigError(
            f"--{flag} {top} is more than the {n} blocks that {loaded.name} has. Leave it out to {what}."
        )


def full_defaults(loaded: Loaded) -> tuple[float, float, float, int]:
    """Return learning rate, decay, epochs, batch size by kind of model."""
    if is_convnet(loaded.model):
        return RATE_CONVNET, DECAY_CONVNET, 10, 32
    if loaded.model.main_input_name == "pixel_values":
        return RATE_VIT, DECAY_VIT, 5, 32
    width = getattr(loaded.model.config, "hidden_size", 768)  # not every config calls it so
    return RATE_TEXT * max(1.0, 768 / width), DECAY_TEXT, 3, 16


def _norms(loaded: Loaded) -> set[str]:
    """Parameters of normalisation layers: modules with a weight of one dimension that are neither Linear nor conv."""
    return {
        f"{name}.{key}"
        for name, module in loaded.model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | nn.modules.batchnorm._BatchNorm)
        or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
        for key, _ in module.named_parameters(recurse=False)
    }


def _biases(loaded: Loaded) -> set[str]:
    return {name for name, _ in loaded.model.named_parameters() if name.endswith(".bias")}


def _only(groups: tuple[Group, ...], names: set[str]) -> tuple[Group, ...]:
    """The groups with only `names` of the body; the head whole."""
    kept = [
        g if g.name == "head" else Group(g.name, tuple(n for n in g.parameters if n in names), g.rate) for g in groups
    ]
    if len([g for g in kept if g.parameters]) < 2:
        raise ConfigError(
            "Nothing of the body would learn: it has no such layers. Leave --train_norms, --train_bias out."
        )
    return tuple(g for g in kept if g.parameters)
