"""The methods: which weights learn, when, at which rate. To add one, write its file and add its line to `METHODS`."""

from hftl.config import MethodConfig
from hftl.errors import ConfigError, did_you_mean
from hftl.methods.full import FULL
from hftl.methods.gradual import GRADUAL
from hftl.methods.head import HEAD
from hftl.methods.lora import LORA
from hftl.methods.plan import Loaded, Method
from hftl.methods.probe import PROBE
from hftl.methods.wise import WISE


METHODS: dict[str, Method] = {
    "probe": PROBE,
    "head": HEAD,
    "lora": LORA,
    "full": FULL,
    "gradual": GRADUAL,
    "wise": WISE,
}
FROZEN_BODY = tuple(name for name, method in METHODS.items() if method.frozen_body)


def get_method(name: str) -> Method:
    """Return the method called `name`. Raises `ConfigError` naming the ones there are."""
    if name not in METHODS:
        raise ConfigError(f"There is no method {name!r}; there are {', '.join(METHODS)}.{did_you_mean(name, METHODS)}")
    return METHODS[name]


def check_name(name: object) -> None:
    """Raise `ConfigError` for a method that there is not. None is the task's own default."""
    if name is not None:
        get_method(str(name))


def check_method(config: MethodConfig, loaded: Loaded) -> None:
    """Raise `ConfigError` when the method cannot be used on the model. It costs no forward pass."""
    get_method(str(config.method)).refuse(loaded, config)
