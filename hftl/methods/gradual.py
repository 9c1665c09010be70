"""`gradual`: the head, then the blocks thawed from the top, one stage after another (ULMFiT)."""

from hftl.config import MethodConfig
from hftl.methods.full import HEAD_RATE, check_top, full_defaults
from hftl.methods.plan import Plan, Stage, decayed_groups, first_stage, head_stage, top_in_words
from hftl.models.load import Loaded


def gradual(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """Gradual unfreezing with discriminative rates (Howard & Ruder 2018, sections 3.2 and 3.3).

    First the head, then the top block with it, then the top two, down to `--thaw_to` or to the stem, which thaws with
    the lowest block. Every stage has an optimizer and a learning-rate schedule of its own, and what lies under the
    lowest learning block runs once: its states are cached. The paper divides the rate by 2.6 per layer of three;
    here the decay is `full`'s, made for 6 to 24 blocks; `--layer_decay 0.385` is the paper's.
    """
    rate, decay, _, batch = full_defaults(loaded)
    decay = config.layer_decay if config.layer_decay is not None else decay
    n = len(loaded.layers.blocks)
    check_top("thaw_to", config.thaw_to, loaded)
    tops: list[int | None] = list(range(1, (config.thaw_to or n - 1) + 1))
    if config.thaw_to is None:
        tops.append(None)
    share = 1.0 / (len(tops) + 1)
    stages = [
        *first_stage(loaded.model, loaded.outputs, config.init_head),
        head_stage(loaded.layers, loaded.outputs, share, config.thaw_every),
        *(
            Stage(
                top_in_words(loaded.layers, top),
                decayed_groups(loaded.layers, decay, HEAD_RATE, top),
                share,
                epochs=config.thaw_every,
            )
            for top in tops
        ),
    ]
    defaults = {
        "learning_rate": rate,
        "num_train_epochs": float(len(tops) + 1),  # one epoch a stage, as in the paper
        "per_device_train_batch_size": batch,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",  # the paper's slanted triangle
        "weight_decay": 0.01,
    }
    return Plan(loaded.model, loaded.output, loaded.layers, tuple(stages), defaults, averaged=loaded.averaged)
