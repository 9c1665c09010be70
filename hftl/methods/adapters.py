"""Low-rank adapters by peft: which layers get one, and what peft is told about the head."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Conv2d as LoraConv2d
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from hftl.config import MethodConfig
from hftl.errors import ConfigError, did_you_mean
from hftl.models.layers import is_under
from hftl.models.load import Loaded


PEFT_PATH = "base_model.model."  # where the model lies inside peft's wrap


def add_adapters(loaded: Loaded, config: MethodConfig) -> tuple[PeftModel, tuple[str, ...]]:
    """Return the model with low-rank adapters, and the names in it of the Linears that put out the logits.

    peft's `all-linear` fails on convnets and on heads whose names contain each other, so the layers are named here:
    everything of the body; the whole head trains in full (`modules_to_save`) and is saved with the adapter.
    """
    targets = lora_targets(loaded, config)
    peft_config = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha or 2 * config.lora_r,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        modules_to_save=list(loaded.head),
        fan_in_fan_out=any(isinstance(loaded.model.get_submodule(name), Conv1D) for name in targets),  # GPT-2's layers
    )
    model = get_peft_model(loaded.model, peft_config)
    _save_the_head_alone(model, loaded.head)
    _show_geometry(model)
    return model, tuple(_saved_copy(name, loaded) for name in loaded.outputs)


def without_adapters(model: Any) -> AbstractContextManager[Any]:
    """While the block runs, the model computes what it did before adapters were added; others are left alone."""
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


def _saved_copy(output: str, loaded: Loaded) -> str:
    """The trainable copy of the head's module `output` that peft keeps under modules_to_save."""
    owner = next(h for h in loaded.head if is_under(output, (h,)))
    return f"{PEFT_PATH}{owner}.modules_to_save.default{output[len(owner) :]}"


def _save_the_head_alone(model: Any, head: tuple[str, ...]) -> None:
    """Peft chooses `modules_to_save` by how names end: SwiftFormer's `norm` is also the end of its body's norms."""
    wanted = [f"{PEFT_PATH}{name}" for name in head]
    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper) and not is_under(name, wanted):
            owner, _, child = name.rpartition(".")
            setattr(model.get_submodule(owner), child, module.original_module)


def _show_geometry(model: nn.Module) -> None:
    """MobileNets read the stride and the kernel of a convolution to pad its input; peft's wrapper does not have them."""
    for module in model.modules():
        if isinstance(module, LoraConv2d):
            for name in ("kernel_size", "stride", "padding", "dilation", "groups"):
                setattr(module, name, getattr(module.base_layer, name))


def lora_targets(loaded: Loaded, config: MethodConfig) -> list[str]:
    """Return the names of the layers that get an adapter. Raises `ConfigError` when there are none."""
    wanted, top = config.lora_target_modules, config.train_top
    able = [
        name
        for name, module in loaded.model.named_modules()
        # Of a subclass of Conv2d (BiT's standardises its weight at every call) the merged adapter would be another one.
        if (isinstance(module, nn.Linear | Conv1D) or (type(module) is nn.Conv2d and module.groups == 1))
        and not is_under(name, loaded.head)
    ]
    if not able:
        raise ConfigError(
            f"lora has nothing to adapt in {loaded.name}: {type(loaded.model).__name__} has no plain Linear or Conv2d "
            "below its head. Use --method full, gradual, head or probe."
        )
    if top is not None:
        able = [name for name in able if is_under(name, (*loaded.layers.modules[-top:], *loaded.layers.above))]
    if not wanted or wanted == ("all-linear",):
        return able
    targets = [name for name in able if any(name == w or name.endswith("." + w) for w in wanted)]
    if not targets:
        endings = {name.rpartition(".")[2] for name in able}
        raise ConfigError(
            f"--lora_target_modules {' '.join(wanted)} matches no layer of {loaded.name}; "
            f"there are {', '.join(sorted(endings))}.{did_you_mean(wanted[0], endings)}"
        )
    return targets
