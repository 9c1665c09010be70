"""`gradual`: the head, then the blocks thawed from the top, one stage after another (ULMFiT)."""

from hftl.config import BY_GRADIENT, MethodConfig
from hftl.methods.plan import (
    FEW,
    Loaded,
    Method,
    Plan,
    Stage,
    decayed_groups,
    full_defaults,
    head_stage,
    plan_of,
    top_in_words,
)


def gradual(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """Gradual unfreezing with discriminative rates (Howard & Ruder 2018, sections 3.2 and 3.3).

    First the head, then the top block with it, then the top two, down to `--thaw_to` or to the stem, which thaws with
    the lowest block. Every stage has an optimizer and a learning-rate schedule of its own, and what lies under the
    lowest learning block runs once: its states are cached. The paper divides the rate by 2.6 per layer of three;
    here the decay is `full`'s, made for 6 to 24 blocks; `--layer_decay 0.385` is the paper's.
    """
    decay, usual = full_defaults(loaded, config, n_train)
    tops: list[int | None] = list(range(1, (config.thaw_to or len(loaded.layers.blocks) - 1) + 1))
    if config.thaw_to is None:
        tops.append(None)
    share = 1.0 / (len(tops) + 1)
    stages = [head_stage(loaded, share, config.thaw_every)]
    for top in tops:
        groups = decayed_groups(loaded.layers, decay, top=top)
        stages.append(Stage(top_in_words(loaded.layers, top), groups, share, epochs=config.thaw_every))
    defaults = {
        **usual,
        "num_train_epochs": float(len(tops) + 1),  # one epoch a stage, as in the paper
        "lr_scheduler_type": "linear",  # the paper's slanted triangle
    }
    return plan_of(loaded, config, stages, defaults)


GRADUAL = Method(
    "gradual",
    "probe, head, then the blocks thawed from the top, one stage after another (ULMFiT)",
    "layers trained from the top down, one stage after another",
    gradual,
    rows=FEW + 1,
    flags=("thaw_to", "thaw_every", "layer_decay", *BY_GRADIENT),
)
