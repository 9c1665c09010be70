"""Values of flags: from text to the right type, and within the range that makes sense."""

import math
from typing import Any

from hftl.errors import ConfigError


# Of flags whose value could be read and yet make no sense; (low, high) are themselves allowed.
_TINY = 1e-12
_BOUNDS: dict[str, tuple[float, float]] = {
    "validation_size": (_TINY, 1 - _TINY),
    "test_size": (_TINY, 1 - _TINY),
    "max_train_samples": (1, math.inf),
    "max_eval_samples": (1, math.inf),
    "seed": (0, 2**32 - 1),
    "layer_decay": (_TINY, 1),
    "train_top": (1, math.inf),
    "thaw_to": (1, math.inf),
    "thaw_every": (_TINY, math.inf),
    "cache_views": (1, math.inf),
    "shots": (1, math.inf),
    "seeds": (1, 100),
    "lora_r": (1, math.inf),
    "lora_alpha": (1, math.inf),
    "lora_dropout": (0, 1 - _TINY),
    "early_stopping_patience": (1, math.inf),
    "learning_rate": (0, math.inf),
    "num_train_epochs": (_TINY, math.inf),
    "target_precision": (_TINY, 1 - _TINY),
    "per_device_train_batch_size": (1, math.inf),
    "per_device_eval_batch_size": (1, math.inf),
    "gradient_accumulation_steps": (1, math.inf),
    "logging_steps": (_TINY, math.inf),
    "eval_steps": (_TINY, math.inf),
    "save_steps": (_TINY, math.inf),
    "save_total_limit": (1, math.inf),
    "warmup_steps": (0, math.inf),
    "weight_decay": (0, math.inf),
    "max_grad_norm": (0, math.inf),
    "max_steps": (-1, math.inf),
    "adam_beta1": (0, 1 - _TINY),
    "adam_beta2": (0, 1 - _TINY),
    "adam_epsilon": (0, math.inf),
    "label_smoothing_factor": (0, 1),
    "neftune_noise_alpha": (0, math.inf),
    "dataloader_num_workers": (0, 64),
}


def check_bounds(name: str, value: Any) -> None:
    """Raise `ConfigError` for a number outside of its flag's range."""
    low, high = _BOUNDS.get(name, (-math.inf, math.inf))
    if not isinstance(value, int | float) or low <= value <= high:
        return
    above = "0 (not itself)" if low == _TINY else f"{low:g}"
    below = "" if high == math.inf else " to 1 (not itself)" if high == 1 - _TINY else f" to {high:g}"
    raise ConfigError(f"--{name} is a number from {above}{below or ' on'}, not {value}.")


KIND_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false (or on, off)",
    str: "one value",
    tuple: "names",
}
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def convert(kind: type, value: Any) -> Any:
    """Return `value`, as typed in Python, YAML or a shell, as `kind`. Raises TypeError or ValueError."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in _TRUTH:
            raise ValueError(value)
        return _TRUTH[str(value).lower()]
    if kind is tuple and value is not True and value != "":
        return tuple(str(v) for v in value) if isinstance(value, list | tuple) else tuple(str(value).split(","))
    if isinstance(value, list | tuple | dict | bool) or value == "":  # a flag without a value is True
        raise TypeError(value)
    if kind is int and isinstance(value, float) and value != int(value):
        raise ValueError(value)
    return kind(value)
