"""Where in a text model to look: what its first layer reads of every token."""

from typing import Any

import torch
from torch import nn

from hftl.demo.integrated_gradients import Batch, layer_output


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
    hook = words.register_forward_hook(lambda *_: other)
    try:
        values: torch.Tensor = layer_output(model, layer, batch)
    finally:
        hook.remove()
    return values
