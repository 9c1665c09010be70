"""`lora`: probe-initialised head, then low-rank adapters on every Linear, Conv1D and ungrouped Conv2d of the body."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from hftl.config import MethodConfig
from hftl.errors import ConfigError, did_you_mean
from hftl.methods.full import check_top, full_defaults
from hftl.methods.plan import Group, Plan, Stage, first_stage, is_convnet, top_in_words
from hftl.models.layers import is_under
from hftl.models.load import Loaded


RATE_CONVNET = 3e-3  # ten times full's would be too much: a convnet's full rate is high already
RATE_FACTOR = 10  # best LoRA rate over best full rate ("LoRA Without Regret", Thinking Machines 2025)


def lora(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """The probe, then LoRA (Hu et al. 2021) on all layers, not attention alone, with alpha = 2r.

    peft's `all-linear` fails on convnets and on heads whose names contain each other, so the layers are named here:
    everything of the body; the whole head trains in full (`modules_to_save`) and is saved with the adapter. Batch
    norms stay frozen, statistics included: the adapter file could not hold them.
    """
    check_top("train_top", config.train_top, loaded)
    targets = _targets(loaded, config.lora_target_modules, config.train_top)
    peft_config = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha or 2 * config.lora_r,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        modules_to_save=list(loaded.head),
        fan_in_fan_out=any(isinstance(loaded.model.get_submodule(name), Conv1D) for name in targets),  # GPT-2's layers
    )
    model = get_peft_model(loaded.model, peft_config)
    output = next(
        name for name, module in model.named_modules() if _saved_copy(name, loaded) and isinstance(module, nn.Linear)
    )
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    adapters = tuple(name for name in learning if ".lora_" in name)
    head = tuple(name for name in learning if ".lora_" not in name)
    rate, _, epochs, batch = full_defaults(loaded)
    defaults = {
        "learning_rate": RATE_CONVNET if is_convnet(loaded.model) else rate * RATE_FACTOR,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine" if is_convnet(loaded.model) else "linear",
        "weight_decay": 0.0,
    }
    name = "lora" if config.train_top is None else f"lora on the {top_in_words(loaded.layers, config.train_top)}"
    stage = Stage(name, (Group("adapters", adapters, 1.0), Group("head", head, 0.1)), 1.0)
    stages = (*first_stage(model, output, config.init_head), stage)
    return Plan(model, output, loaded.layers, stages, defaults, path="base_model.model.")


def without_adapters(model: Any) -> AbstractContextManager[Any]:
    """While the block runs, the model computes what it did before adapters were added; others are left alone."""
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


def _saved_copy(name: str, loaded: Loaded) -> bool:
    """Is `name` the trainable copy of the output layer that peft keeps under modules_to_save?"""
    owner = next(h for h in loaded.head if (loaded.output + ".").startswith(h + "."))
    rest = loaded.output[len(owner) :]
    return name == f"base_model.model.{owner}.modules_to_save.default{rest}"


def _targets(loaded: Loaded, wanted: tuple[str, ...] | None, top: int | None) -> list[str]:
    able = [
        name
        for name, module in loaded.model.named_modules()
        if (isinstance(module, nn.Linear | Conv1D) or (isinstance(module, nn.Conv2d) and module.groups == 1))
        and not is_under(name, loaded.head)
    ]
    if top is not None:
        able = [name for name in able if is_under(name, (*loaded.layers.modules[-top:], *loaded.layers.above))]
    if not wanted or wanted == ("all-linear",):
        return able
    chosen = [name for name in able if any(name == w or name.endswith("." + w) for w in wanted)]
    if not chosen:
        endings = {name.rpartition(".")[2] for name in able}
        raise ConfigError(
            f"--lora_target_modules {' '.join(wanted)} matches no layer of {loaded.name}; "
            f"there are {', '.join(sorted(endings))}.{did_you_mean(wanted[0], endings)}"
        )
    return chosen
