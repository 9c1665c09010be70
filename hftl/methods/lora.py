"""`lora`: probe-initialised head, then low-rank adapters on every Linear, Conv1D and ungrouped Conv2d of the body."""

from dataclasses import replace

from hftl.config import BY_GRADIENT, MethodConfig
from hftl.methods.plan import FEW, Group, Loaded, Method, Plan, Stage, full_defaults, is_convnet, plan_of, top_in_words


RATE_CONVNET = 3e-3  # ten times full's would be too much: a convnet's full rate is high already
RATE_FACTOR = (
    5  # LoRA over full: 1e-3 to 1.4e-3 at width 384, measured as those of full; ten in "LoRA Without Regret" (2025)
)


def lora(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """The probe, then LoRA (Hu et al. 2021) on all layers, not attention alone, with alpha = 2r.

    The whole head trains in full and is saved with the adapter. Batch norms stay frozen, statistics included: the
    adapter file could not hold them.
    """
    from hftl.methods.adapters import PEFT_PATH, add_adapters  # late: peft

    model, outputs = add_adapters(loaded, config)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    adapters = tuple(name for name in learning if ".lora_" in name)
    head = tuple(name for name in learning if ".lora_" not in name)
    _, usual = full_defaults(loaded, config, n_train)
    convnet = is_convnet(loaded.model)
    defaults = {
        **usual,
        "learning_rate": RATE_CONVNET if convnet else usual["learning_rate"] * RATE_FACTOR,
        "weight_decay": 0.0,
    }
    name = "lora" if config.train_top is None else f"lora on the {top_in_words(loaded.layers, config.train_top)}"
    stage = Stage(name, (Group("adapters", adapters, 1.0), Group("head", head, 0.1)), 1.0)
    wrapped = replace(loaded, model=model, outputs=outputs)
    return replace(plan_of(wrapped, config, [stage], defaults), path=PEFT_PATH)


def _targets(loaded: Loaded, config: MethodConfig) -> list[str]:
    from hftl.methods.adapters import lora_targets

    return lora_targets(loaded, config)


LORA = Method(
    "lora",
    "probe, then low-rank adapters on every layer: few parameters, a small adapter file",
    "small trainable adapters inside the frozen model",
    lora,
    rows=FEW + 1,
    flags=("train_top", *BY_GRADIENT),
    deepspeed=True,
    check=_targets,
)
