"""The methods: which weights learn, when, at which rate. To add one, write its file and put it in `METHODS`."""

from collections.abc import Callable

from hftl.config import MethodConfig
from hftl.errors import ConfigError, did_you_mean
from hftl.methods.full import check_blocks, full
from hftl.methods.gradual import gradual
from hftl.methods.head import head
from hftl.methods.lora import lora, lora_targets
from hftl.methods.plan import Plan
from hftl.methods.probe import probe
from hftl.models.load import Loaded


METHODS: dict[str, Callable[[Loaded, MethodConfig, int], Plan]] = {
    "probe": probe,
    "head": head,
    "lora": lora,
    "full": full,
    "gradual": gradual,
}

# Methods whose body stays frozen may end in the mean-pooled class; the others always save the stock class.
FROZEN_BODY = ("probe", "head")


def check_method(config: MethodConfig, loaded: Loaded) -> None:
    """Raise `ConfigError` when the method cannot be used on the model. It costs no forward pass."""
    check_blocks(config, loaded)
    if config.method == "lora":
        lora_targets(loaded, config)


def get_method(name: str) -> Callable[[Loaded, MethodConfig, int], Plan]:
    """Return the method called `name`. Raises `ConfigError` naming the ones there are."""
    if name not in METHODS:
        raise ConfigError(f"There is no method {name!r}; there are {', '.join(METHODS)}.{did_you_mean(name, METHODS)}")
    return METHODS[name]
