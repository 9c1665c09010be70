"""Where in an image model to look: a layer whose values are places of the image, and through which everything goes."""

import math
from typing import Any

import torch
from torch import nn

from hftl.demo.integrated_gradients import Batch, layer_output, rest_of_model


# Cells of the wanted map per side: what EfficientNet, ResNet and ViT-B/16 have at 224 pixels. On EfficientNet-Lite0
# the maps of 14 cells had better deletion and insertion curves (Petsiuk et al. 2018, RISE) than those of 7, 28, 56 and
# of the pixels, and than Grad-CAM (Selvaraju et al. 2017) at any of them.
CELLS = 14
_PADDING = (nn.ConstantPad2d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d)  # their grids are shifted
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)  # their last axis is no place


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
        wanted = model(**other).logits
    for layer in _candidates(model, batch):
        values = layer_output(model, layer, other)
        run, hook = rest_of_model(model, layer, batch)
        try:
            with torch.no_grad():
                if torch.allclose(run(values), wanted, rtol=1e-3, atol=1e-3):
                    return layer
        finally:
            hook.remove()
    return model.pixels


def _candidates(model: FromPixels, batch: Batch) -> list[nn.Module]:
    """Return the modules that put out a map of places and run once, best first."""
    seen: list[tuple[nn.Module, Any]] = []
    hooks = [m.register_forward_hook(lambda m, _, out: seen.append((m, out))) for m in model.modules()]
    try:
        with torch.no_grad():
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    calls: dict[nn.Module, int] = {}
    for module, _ in seen:
        calls[module] = calls.get(module, 0) + 1
    height, width = batch["pixel_values"].shape[-2:]
    ranked: list[tuple[float, int, nn.Module]] = []
    for order, (module, out) in enumerate(seen):
        if not isinstance(out, torch.Tensor) or isinstance(module, (*_PADDING, *_CHANNELS_LAST)):
            continue
        if module is model.pixels or out.dim() != 4 or calls[module] > 1 or min(out.shape[2:]) < 2:
            continue
        rows, columns = out.shape[2:]
        if abs(math.log(rows * width / (columns * height))) < 0.1:  # the shape of the image
            ranked.append((abs(math.log(rows / CELLS)), -order, module))
    return [module for _, _, module in sorted(ranked, key=lambda r: r[:2])]
