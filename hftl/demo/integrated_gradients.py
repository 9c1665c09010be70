"""Integrated gradients at any layer of a model, without touching the model.

The method is Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks"; captum computes the integral.
captum's own `LayerIntegratedGradients` is not used, for two reasons. It measures the output of the baseline by running
the baseline's token ids, and RoBERTa numbers its positions by them, so that the end of the path and that output differ.
And it hooks the served model: a prediction in another thread would meet the hook. Here the hook sits on a copy of the
module tree that shares the weights, made for each call: no lock is needed, and nothing of the model changes.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hftl.errors import ModelError


Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class PathIntegral:
    """What each value of a layer adds to the output of one label."""

    attributions: torch.Tensor  # as the layer's output for one row, without the row's own dimension
    change: float  # output of the input minus mean output of the starts, in log-odds
    gap: float  # sum of the attributions minus `change`: 0 for an exact integral (the axiom of completeness)


def share_weights(model: nn.Module) -> Any:
    """Return a copy of the module tree with the very same parameters and buffers: its hooks are its own."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo).eval()


def log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """Return log p / (1 - p) of one label, [n], for logits [n, labels].

    Unlike a logit it does not change when all logits rise together, and unlike a probability it does not go flat where
    the model is sure.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(1)


def layer_output(model: nn.Module, layer: nn.Module, batch: Batch) -> Any:
    """Return what `layer` puts out for `batch`. Raises `ModelError` for a layer that is never called."""
    seen: list[Any] = []
    hook = layer.register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        with torch.no_grad():
            model(**batch)
    finally:
        hook.remove()
    if not seen:
        raise ModelError(f"{type(model).__name__} does not use its {type(layer).__name__}, so it cannot be explained.")
    return seen[0]


def rest_of_model(model: nn.Module, layer: nn.Module, batch: Batch) -> tuple[Callable, Any]:
    """Return a function from values of `layer` [n, ...] to logits [n, labels], and the hook to remove after use.

    `batch` is one row; what the model reads beside the layer (masks, positions) stays that row's.
    """
    held: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda *_: held[-1])

    def run(values: torch.Tensor) -> torch.Tensor:
        held[:] = [values]
        rows = {name: value.expand(len(values), *value.shape[1:]) for name, value in batch.items()}
        logits: torch.Tensor = model(**rows).logits
        return logits

    return run, hook


def integrate(
    model: nn.Module, layer: nn.Module, batch: Batch, starts: Sequence[torch.Tensor], label: int, steps: int, rows: int
) -> PathIntegral:
    """Integrate the gradient of the label's log-odds from the values `starts` of `layer` to those of `batch`.

    `model` must be a copy from `share_weights`, with `layer` in it; `batch` is one row, and so is each start. `steps`
    are points of Gauss-Legendre quadrature per start, `rows` of which run at once. Several starts are averaged.
    Raises `ModelError` when the result is not finite.
    """
    from captum.attr import IntegratedGradients  # takes half a second

    values = layer_output(model, layer, batch)
    run, hook = rest_of_model(model, layer, batch)
    gradients = IntegratedGradients(lambda v: log_odds(run(v), label))
    try:
        total = torch.zeros_like(values)
        for start in starts:
            total += gradients.attribute(values, start, n_steps=steps, internal_batch_size=rows).detach()
        with torch.no_grad():
            ends = log_odds(run(torch.cat([values, *starts])), label).double()
    finally:
        hook.remove()
    attributions = (total / len(starts))[0].double().cpu()
    change = float(ends[0] - ends[1:].mean())
    if not torch.isfinite(attributions).all():
        raise ModelError("The model's gradients are not finite, so this answer cannot be explained.")
    return PathIntegral(attributions, change, float(attributions.sum()) - change)
