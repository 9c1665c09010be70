"""`head`: replace the head and train it alone by gradient, classic "feature extraction" with Trainer's options."""

from hftl.config import BY_GRADIENT, MethodConfig
from hftl.methods.plan import MAP_ROWS, Loaded, Method, Plan, answers_pixels, head_stage, plan_of


LEARNING_RATE = 1e-3  # AdamW's usual rate for a new layer on fixed features
EPOCHS, ROWS = 10, 32


def head(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """The probe, then the head by gradient from there, with the body frozen, its batch norms included.

    A head that is one Linear trains on cached features. Inner head layers that the checkpoint lacks (DistilBERT's
    `pre_classifier`, RoBERTa's `dense`) keep their seeded random start and learn here together with the output, on
    the cached states of the last block.
    """
    rows = MAP_ROWS if answers_pixels(loaded.model) else ROWS
    defaults = {"learning_rate": LEARNING_RATE, "num_train_epochs": EPOCHS, "per_device_train_batch_size": rows}
    return plan_of(loaded, config, [head_stage(loaded, 1.0)], defaults)


HEAD = Method(
    "head",
    "a new head trained by gradient on a frozen body",
    "a new last layer on top of the frozen model",
    head,
    rows=8,  # as for the probe
    frozen_body=True,
    may_pool=True,
    flags=BY_GRADIENT,
    deepspeed=True,
)
