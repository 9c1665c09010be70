"""`full`: probe-initialised head, then all layers with layer-wise learning rates (LP-FT with LLRD)."""

from hftl.config import MethodConfig
from hftl.methods.plan import Plan, Stage, decayed_groups, is_convnet, probe_stage
from hftl.models.load import Loaded


DECAY_TEXT = 0.9  # AutoGluon's default for text; Zhang et al. 2021 ("Revisiting Few-sample BERT") use 0.95 to 0.9
DECAY_VIT = 0.75  # BEiT and MAE fine-tuning
DECAY_CONVNET = 0.9
# Rates at width 768; narrower models need higher ones. A rule of thumb, not measured here: `make run` uses 2e-4.
RATE_TEXT = 5e-5
RATE_VIT = 5e-5
RATE_CONVNET = 5e-4  # AdamW on EfficientNet-Lite0: .987 on digits after 6 epochs (1e-3: .985 after 10)
HEAD_RATE = 3.0  # times the top block's, for what the checkpoint lacked


def full(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """The probe, then every layer: low rates, lower towards the stem (Kumar et al. 2022; Howard & Ruder 2018).

    Starting from the probe keeps the first steps from tearing up pretrained features to fit a random head. Inner head
    layers that the checkpoint lacks (DistilBERT's `pre_classifier`, RoBERTa's `dense`) keep their seeded random
    start: the probe is fitted on what comes out of them, and they learn at the head's rate.
    """
    rate, decay, epochs, batch = _defaults(loaded)
    decay = config.layer_decay if config.layer_decay is not None else decay
    stage = Stage("full", decayed_groups(loaded.layers, decay, HEAD_RATE), 1.0)
    defaults = {
        "learning_rate": rate,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine" if is_convnet(loaded.model) else "linear",
        "weight_decay": 0.01,
    }
    return Plan(loaded.model, loaded.output, (probe_stage(loaded.output), stage), defaults)


def _defaults(loaded: Loaded) -> tuple[float, float, int, int]:
    """Return learning rate, decay, epochs, batch size by kind of model."""
    if is_convnet(loaded.model):
        return RATE_CONVNET, DECAY_CONVNET, 10, 32
    if loaded.model.main_input_name == "pixel_values":
        return RATE_VIT, DECAY_VIT, 5, 32
    width = getattr(loaded.model.config, "hidden_size", 768)  # not every config calls it so
    return RATE_TEXT * max(1.0, 768 / width), DECAY_TEXT, 3, 16
