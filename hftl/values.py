"""Values of flags as they are typed, and the fields of transformers.TrainingArguments: neither takes a heavy import."""

import ast
import importlib.util
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from hftl.errors import ConfigError, did_you_mean


KIND_WORDS = {int: "a whole number", float: "a number", bool: "true or false (or on, off)", tuple: "names"}
KIND_WORDS |= {str: "one value", Path: "one value"}
TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
FEWEST_SIZES = 3  # of a curve: as many as its law has parameters
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
    "sizes": (FEWEST_SIZES, 20),
    "draws": (1, 20),
    "max_steps": (1, math.inf),
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
    if (
        not isinstance(value, int | float) or low <= value <= high or (name, value) == ("max_steps", -1)
    ):  # -1: by epochs
        return
    above = "0 (not itself)" if low == _TINY else f"{low:g}"
    below = "" if high == math.inf else " to 1 (not itself)" if high == 1 - _TINY else f" to {high:g}"
    raise ConfigError(f"--{name} is a number from {above}{below or ' on'}, not {value}.")


@cache
def _body(module: str) -> list[ast.stmt]:
    """Return the statements of a module of transformers, parsed from its source, since importing it takes seconds."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).parent.joinpath(f"{module}.py").read_text(encoding="utf-8")).body


def _classes(module: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _body(module) if isinstance(node, ast.ClassDef)}


def trackers() -> list[str]:
    """Return the names that `report_to` may have, all and none apart."""
    assigned = (node for node in _body("integrations/integration_utils") if isinstance(node, ast.Assign))
    table: Any = next(node.value for node in assigned if ast.unparse(node.targets[0]) == "INTEGRATION_TO_CALLBACK")
    return [key.value for key in table.keys]


def trainer_fields() -> dict[str, str]:
    """Return the fields of TrainingArguments with their types."""
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in _classes("training_args")["TrainingArguments"].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def training_values(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the values of TrainingArguments fields by their types. Raises `ConfigError` for those that have none such.

    Whether they go together, `Trainer` says (`hftl.training.arguments`).
    """
    fields = trainer_fields()
    values = {name: _training_value(name, fields[name], value) for name, value in typed.items()}
    for name, value in values.items():
        check_bounds(name, value)
    return values


def _training_value(name: str, annotation: str, value: Any) -> Any:
    types = [part.strip() for part in annotation.split("|") if part.strip() != "None"]
    kind = {"int": int, "float": float, "bool": bool}.get(types[0] if len(types) == 1 else "")
    if kind is not None:
        return typed_value(name, kind, value)
    if types == ["list[str]"]:
        return list(value) if isinstance(value, list | tuple) else [str(value)]
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list | tuple) and "list[" in annotation:
        return [str(one) for one in value]
    if "bool" in types and str(value).lower() in TRUTH:
        return convert(bool, value)
    text = typed_value(name, str, value)
    choices = _choices(name, types[0])
    if choices and text not in choices:
        raise ConfigError(f"--{name} is one of {', '.join(choices)}, not {text!r}.{did_you_mean(text, choices)}")
    return text


def _choices(name: str, kind: str) -> list[str]:
    """Return the values that a field names, or those of an enumeration of transformers; none for another kind."""
    fields = (node for node in _classes("training_args")["TrainingArguments"].body if isinstance(node, ast.AnnAssign))
    field = next(node for node in fields if isinstance(node.target, ast.Name) and node.target.id == name)
    for node in ast.walk(field):
        for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(value, ast.List):
                return list(ast.literal_eval(value))
    classes = _classes("training_args") | (_classes("trainer_utils") if kind[0].isupper() else {})
    body = classes[kind].body if kind in classes else []
    return [str(n.value.value) for n in body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)]


def typed_value(name: str, kind: type, value: Any) -> Any:
    """Return the value of a flag as `kind`. Raises `ConfigError`."""
    try:
        return convert(kind, value)
    except (TypeError, ValueError, OverflowError):
        got = "nothing" if value is True else repr(value)
        raise ConfigError(f"--{name} needs {KIND_WORDS[kind]}, but got {got}.") from None


def is_share(text: str) -> bool:
    """Is it a number between 0 and 1?"""
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def check_export(format: str = "onnx", max_drop: float = 0.0) -> None:
    """Raise `ConfigError` for a format of `hftl export` that there is not, or a `max_drop` that is no share."""
    if format != "onnx":
        raise ConfigError(f"hftl exports to onnx, not to {format!r}. Use --format onnx.")
    if not (isinstance(max_drop, int | float) and math.isfinite(max_drop) and max_drop <= 1):
        raise ConfigError(f"--max_drop {max_drop} is not a share of accuracy, such as 0.01 for one point.")
