"""What each block of a model puts out for the retention rows, pooled to one vector a row."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hftl.models.layers import is_under
from hftl.models.load import Loaded
from hftl.training.features import Encoded, Passer
from hftl.training.replay import first_tensor


FINAL = "final"


def block_states(
    model: Any, loaded: Loaded, encoded: Encoded, collate: Callable, *, bf16: bool, use_cpu: bool, title: str
) -> dict[str, np.ndarray]:
    """Return {"block 1": [n, d], ..., "final": [n, d]} in fp32: every block's output and the final features.

    Token states are averaged over the tokens that are not padding, maps over their places. The final features are for
    texts the mean of the body's last states, for images what the last Linear reads. `model` is `loaded.model`, before
    or after training, or another model around the same body. Blocks whose output has no row per input are left out.
    """
    seen: dict[str, torch.Tensor] = {}
    body = model.base_model
    hooks = [
        body.get_submodule(name).register_forward_hook(
            lambda _, __, out, key=f"block {i}": seen.update({key: first_tensor(out)})
        )
        for i, name in enumerate(_inside_body(loaded), start=1)
    ]
    if loaded.model.main_input_name == "pixel_values" or body is model:
        output = model.get_submodule(loaded.output)
        hooks.append(output.register_forward_pre_hook(lambda _, args: seen.update(final=args[0])))
    else:
        hooks.append(body.register_forward_hook(lambda _, __, out: seen.update(final=out[0])))

    def read(_: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mask, rows = batch.get("attention_mask"), len(batch["labels"])
        return {
            key: pool(value, mask)
            for key, value in seen.items()
            if isinstance(value, torch.Tensor) and len(value) == rows
        }

    try:
        return Passer(collate, use_cpu, bf16).outputs(model, encoded, read, title)
    finally:
        for hook in hooks:
            hook.remove()


def _inside_body(loaded: Loaded) -> list[str]:
    """Names of the block modules as the body knows them."""
    start = next((f"{name}." for name, m in loaded.model.named_modules() if name and m is loaded.model.base_model), "")
    return [name.removeprefix(start) for name in loaded.layers.modules]


def pool(value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return [n, d] of token states [n, tokens, d], averaged where `mask` [n, tokens] is 1, or maps [n, d, h, w]."""
    if value.dim() == 4:
        return value.float().mean((2, 3))
    if value.dim() == 3 and mask is not None and mask.shape == value.shape[:2]:
        weights = mask.unsqueeze(-1).float()
        return (value.float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    if value.dim() == 3:
        return value.float().mean(1)
    return value.flatten(1)


def tensor_hashes(model: Any) -> dict[str, str]:
    """Return the sha256 of every parameter and buffer, by name."""
    return {
        name: hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()
        for name, tensor in model.state_dict().items()
    }


def body_hashes(model: Any, head: tuple[str, ...]) -> dict[str, str]:
    """Return the sha256 of every parameter and buffer of the body, by its name there, without those of the head."""
    start = next((f"{name}." for name, m in model.named_modules() if name and m is model.base_model), "")
    inside = {name.removeprefix(start): name for name in model.state_dict() if name.startswith(start)}
    hashes = tensor_hashes(model.base_model)
    return {name: digest for name, digest in hashes.items() if not is_under(inside[name], head)}
