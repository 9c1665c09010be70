"""Flags that make no sense together are refused before anything is loaded."""

from hftl.config import RunConfig
from hftl.errors import ConfigError


def check_combination(config: RunConfig) -> None:
    """Raise `ConfigError` for a flag that the chosen method does not read, or that contradicts another."""
    method, name = config.method, config.method.method
    for flag, value, methods in (
        ("train_top", method.train_top, ("full", "lora")),
        ("train_norms", method.train_norms or None, ("full",)),
        ("train_bias", method.train_bias or None, ("full",)),
        ("thaw_to", method.thaw_to, ("gradual",)),
        ("thaw_every", method.thaw_every, ("gradual",)),
        ("layer_decay", method.layer_decay, ("full", "gradual")),
    ):
        if value is not None and name not in methods:
            raise ConfigError(f"--{flag} is for --method {' and '.join(methods)}, not for {name}.")
    if method.thaw_every is not None and "num_train_epochs" in config.training:
        raise ConfigError("--thaw_every sets the epochs of each stage, --num_train_epochs shares them out: give one.")
    if name == "probe" and method.init_head == "random":
        raise ConfigError("--init_head random makes no sense with --method probe, which is that head.")
    for flag, given in (("control", config.control != "none"), ("retain", config.retain is not None)):
        if given and not config.evidence:
            raise ConfigError(
                f"--{flag} is a part of the evidence, which --evidence off skips: leave one of them out."
            )
