"""The values of flags: how they are typed, and which of them make sense."""

import math
from pathlib import Path
from typing import Any

from hftl.errors import ConfigError


KIND_WORDS = {int: "a whole number", float: "a number", bool: "true or false (or on, off)", tuple: "names"}
KIND_WORDS |= {str: "one value", Path: "one value"}
TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
# Of flags whose value could be read and yet make no sense; (low, high) are themselves allowed.
_TINY = 1e-12
_COUNTS = (
    "max_train_samples max_eval_samples train_top thaw_to cache_views shots lora_r lora_alpha early_stopping_patience "
    "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps save_total_limit"
)
_ABOVE_0 = "thaw_every num_train_epochs logging_steps eval_steps save_steps"
_FROM_0 = "learning_rate warmup_steps weight_decay max_grad_norm adam_epsilon neftune_noise_alpha"
_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_COUNTS.split(), (1, math.inf)),
    **dict.fromkeys(_ABOVE_0.split(), (_TINY, math.inf)),
    **dict.fromkeys(_FROM_0.split(), (0, math.inf)),
    **dict.fromkeys(("validation_size", "test_size", "target_precision"), (_TINY, 1 - _TINY)),
    **dict.fromkeys(("lora_dropout", "adam_beta1", "adam_beta2"), (0, 1 - _TINY)),
    **dict.fromkeys(("layer_decay", "keep"), (_TINY, 1)),
    "label_smoothing_factor": (0, 1),
    **dict.fromkeys(("seed", "draw_seed"), (0, 2**32 - 3)),  # up to 2 is added
    "seeds": (1, 100),
    "max_steps": (-1, math.inf),
    "dataloader_num_workers": (0, 64),
}


def convert(kind: type, value: Any) -> Any:
    """Return `value`, as typed in Python, YAML or a shell, as `kind`. Raises TypeError or ValueError."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in TRUTH:
            raise ValueError(value)
        return TRUTH[str(value).lower()]
    if kind is tuple and value is not True and value != "":
        return tuple(str(v) for v in value) if isinstance(value, list | tuple) else tuple(str(value).split(","))
    if isinstance(value, list | tuple | dict | bool) or value == "":  # a flag without a value is True
        raise TypeError(value)
    if kind is int and isinstance(value, float) and value != int(value):
        raise ValueError(value)
    return kind(str(value)) if kind is Path else kind(value)


def check_bounds(name: str, value: Any) -> None:
    """Raise `ConfigError` for a number outside of its flag's range."""
    low, high = _BOUNDS.get(name, (-math.inf, math.inf))
    if not isinstance(value, int | float) or low <= value <= high:
        return
    above = "0 (not itself)" if low == _TINY else f"{low:g}"
    below = "" if high == math.inf else " to 1 (not itself)" if high == 1 - _TINY else f" to {high:g}"
    raise ConfigError(f"--{name} is a number from {above}{below or ' on'}, not {value}.")


def is_share(text: str) -> bool:
    """Is it a number between 0 and 1?"""
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False
