"""Integrated gradients at a layer of a model, without touching the model; and which layer that is for texts and images.

Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks"; captum computes the integral. Its own
`LayerIntegratedGradients` runs the baseline's token ids, by which RoBERTa numbers positions, and hooks the served model,
where a prediction in another thread would meet the hook. Here the hook sits on a copy of the module tree that shares the
weights, made for each call: no lock is needed, and nothing of the model changes.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hftl.errors import DataError, ModelError, did_you_mean
from hftl.predict import Predictor


Batch = dict[str, torch.Tensor]
# Cells of the best map per side: what EfficientNet, ResNet and ViT-B/16 have at 224 pixels. On EfficientNet-Lite0
# the maps of 14 cells had better deletion and insertion curves (Petsiuk et al. 2018, RISE) than those of 7, 28, 56 and
# of the pixels, and than Grad-CAM (Selvaraju et al. 2017) at any of them.
CELLS = 14
# Padding shifts its grid; the last axis of the other two is no place.
_NO_MAPS = (nn.ConstantPad2d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Linear, nn.LayerNorm)


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


def layer_output(model: nn.Module, layer: nn.Module, batch: Batch) -> torch.Tensor:
    """Return what `layer` puts out for `batch`. Raises `ModelError` for a layer that is never called."""
    outputs: list[Any] = []
    with layer.register_forward_hook(lambda _, __, out: outputs.append(out)), torch.no_grad():
        model(**batch)
    if not outputs:
        raise ModelError(f"{type(model).__name__} does not use its {type(layer).__name__}, so it cannot be explained.")
    return outputs[0]


def logits_from(model: nn.Module, layer: nn.Module, batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """Return the logits [n, labels] with `values` [n, ...] in place of what `layer` puts out.

    `batch` is one row; what the model reads beside the layer (masks, positions) stays that row's.
    """
    rows = {name: value.expand(len(values), *value.shape[1:]) for name, value in batch.items()}
    with layer.register_forward_hook(lambda *_: values):
        return model(**rows).logits


def log_odds(
    model: nn.Module, layer: nn.Module, batch: Batch, label: int, link: str = "softmax"
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from values of `layer` [n, ...] to log p / (1 - p) of one label, [n]; of a number, to itself.

    Unlike a logit of classes it does not change when all logits rise together, and unlike a probability it does not go
    flat where the model is sure.
    """

    def score(values: torch.Tensor) -> torch.Tensor:
        logits = logits_from(model, layer, batch, values)
        if link != "softmax":  # of the sigmoid, the logit is the log-odds
            return logits[:, label]
        others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        return logits[:, label] - others.logsumexp(1)

    return score


def integrate(
    score: Callable[[torch.Tensor], torch.Tensor],
    end: torch.Tensor,
    starts: Sequence[torch.Tensor],
    steps: int,
    rows: int,
) -> PathIntegral:
    """Integrate the gradient of `score` ([n, ...] -> [n]) from each of `starts` to `end` [1, ...], and average.

    `steps` are points of Gauss-Legendre quadrature per start, `rows` of which run at once.
    Raises `ModelError` when the result is not finite.
    """
    from captum.attr import IntegratedGradients  # takes half a second

    gradients = IntegratedGradients(score)
    parts = [gradients.attribute(end, start, n_steps=steps, internal_batch_size=rows).detach() for start in starts]
    attributions = (sum(parts) / len(parts))[0].double().cpu()
    with torch.no_grad():
        scores = score(torch.cat([end, *starts])).double()
    change = float(scores[0] - scores[1:].mean())
    if not torch.isfinite(attributions).all():
        raise ModelError("The model's gradients are not finite, so this answer cannot be explained.")
    return PathIntegral(attributions, change, float(attributions.sum()) - change)


def explained_label(predictor: Predictor, model: Any, batch: Batch, label: str | None) -> int:
    """Return the number of `label`, by default of the one predicted for `batch`. Raises `DataError` if there is none."""
    if label is None:
        with torch.no_grad():
            return int(model(**batch).logits[0].argmax())
    if label not in predictor.labels:
        raise DataError(f"The model has no label {label!r}.{did_you_mean(label, predictor.labels)}")
    return predictor.labels.index(label)


def embedding_layer(model: Any, batch: Batch) -> nn.Module:
    """Return the module that turns tokens into [n, tokens, hidden]: words, positions and their layer norm.

    That is the module around the word embeddings, as in BERT and its kin; where there is none, the word embeddings.
    Behind the norm, because before it the path can begin at a point where the norm jumps: DeBERTa's padding is the
    vector 0 and nothing is added to it, so that all of the change lies in the first instant, which no sum sees.
    """
    words = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is words)
    around = model.get_submodule(name.rpartition(".")[0])
    if around is model or around is model.base_model:
        return words  # type: ignore[no-any-return]
    out = layer_output(model, around, batch)
    is_states = isinstance(out, torch.Tensor) and out.dim() == 3 and out.shape[:2] == batch["input_ids"].shape
    return around if is_states else words  # type: ignore[no-any-return]


def emptied(model: Any, layer: nn.Module, batch: Batch, ids: torch.Tensor) -> torch.Tensor:
    """Return the values of `layer` for `batch` with the word embeddings of `ids` in place of its own.

    Positions stay those of `batch`: RoBERTa's would change with the ids.
    """
    words = model.get_input_embeddings()
    with torch.no_grad():
        other = words(ids)
    with words.register_forward_hook(lambda *_: other):
        return layer_output(model, layer, batch)


class FromPixels(nn.Module):
    """An image model whose input goes through a module of its own, so that the pixels are a layer like any other."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.pixels = nn.Identity()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> Any:
        """Return what the model puts out for [n, channels, height, width]."""
        return self.model(pixel_values=self.pixels(pixel_values))


def spatial_layer(model: FromPixels, batch: Batch, other: Batch) -> nn.Module:
    """Return the layer [n, channels, rows, columns] of `model` that is closest to `CELLS` a side; of equals, the last.

    Only a layer through which everything flows will do, or the integral would miss what flows beside it (the shortcut
    around a residual block). The test: with the layer's values for the row `other` put into a run of the row `batch`,
    the logits are those of `other`. A vision transformer answers with its patch embedding, since its later layers mix
    the class token in; the pixels pass the test in every model, and are the last resort.
    """
    with torch.no_grad():
        expected = model(**other).logits
    for layer in _maps(model, batch):
        with torch.no_grad():
            logits = logits_from(model, layer, batch, layer_output(model, layer, other))
        if torch.allclose(logits, expected, rtol=1e-3, atol=1e-3):
            return layer
    return model.pixels


def _maps(model: FromPixels, batch: Batch) -> list[nn.Module]:
    """Return the modules that put out a map of places and run once, best first."""
    outputs: dict[nn.Module, list[Any]] = defaultdict(list)
    with ExitStack() as hooks, torch.no_grad():
        for module in model.model.modules():
            hooks.enter_context(module.register_forward_hook(lambda m, _, out: outputs[m].append(out)))
        model(**batch)
    height, width = batch["pixel_values"].shape[-2:]
    ranked: list[tuple[float, int, nn.Module]] = []
    for order, (module, (out, *again)) in enumerate(outputs.items()):
        is_map = isinstance(out, torch.Tensor) and out.dim() == 4 and not isinstance(module, _NO_MAPS)
        if again or not is_map or min(out.shape[2:]) < 2:
            continue
        rows, columns = out.shape[2:]
        if abs(math.log(rows * width / (columns * height))) < 0.1:  # the shape of the image
            ranked.append((abs(math.log(rows / CELLS)), -order, module))
    return [module for _, _, module in sorted(ranked, key=lambda r: r[:2])]
