"""Fold a temperature into the head, so that plain `pipeline()` puts out the calibrated probabilities."""

import math

import torch
from torch import nn

from hftl.errors import ModelError


def fold_temperature(model: nn.Module, output: str, temperature: float) -> None:
    """Divide weight and bias of the Linear named `output` by `temperature`, in place.

    The Linear puts out the logits, so they become logits / T for every input: exact for softmax (Guo et al. 2017), and
    the predicted class stays. `output` is a name in `model.named_modules()`; of a model with adapters it is that of the
    copy that peft trains (`Plan.output`), and folding before the merge keeps the adapter folder equal to the model.

    Raises `ModelError` when there is no such Linear, when its weight is used elsewhere too, or when the temperature is
    not a finite number above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ModelError(f"A temperature is a finite number above 0, got {temperature}.")
    modules = dict(model.named_modules())
    linear = modules.get(output)
    if not isinstance(linear, nn.Linear):
        raise ModelError(f"{type(model).__name__} has no Linear layer {output!r} to fold a temperature into.")
    own = [p for p in (linear.weight, linear.bias) if p is not None]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if any(parameter is p for p in own) and name.rpartition(".")[0] != output:
            raise ModelError(f"{output} shares its weight with {name}: a temperature in it would change both.")
    with torch.no_grad():
        for tensor in own:
            tensor.div_(temperature)
