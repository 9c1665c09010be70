"""Flags that make no sense together are refused before anything is loaded."""

from hftl.config import RunConfig
from hftl.errors import ConfigError
from hftl.methods import METHODS, get_method


def check_combination(config: RunConfig) -> None:
    """Raise `ConfigError` for a flag that the chosen method does not read, or that contradicts another."""
    method, name = config.method, config.method.method
    for flag in sorted({flag for one in METHODS.values() for flag in one.flags}):
        readers = [one.name for one in METHODS.values() if flag in one.flags]
        if getattr(method, flag) not in (None, False) and name not in readers:
            raise ConfigError(f"--{flag} is for --method {' and '.join(readers)}, not for {name}.")
    if method.thaw_every is not None and "num_train_epochs" in config.training:
        raise ConfigError("--thaw_every sets the epochs of each stage, --num_train_epochs shares them out: give one.")
    if method.init_head == "random" and get_method(str(name)).needs_probe:
        raise ConfigError(f"--init_head random makes no sense with --method {name}, which is made of the probe.")
    for flag, given in (("control", config.control != "none"), ("retain", config.retain is not None)):
        if given and not config.evidence:
            raise ConfigError(
                f"--{flag} is a part of the evidence, which --evidence off skips: leave one of them out."
            )
