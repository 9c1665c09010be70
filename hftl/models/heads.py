"""Heads: where the classifier reads its features, and the mean-pooled head for when the stock one cannot express it."""

from typing import Any

import torch
from torch import nn

from hftl.errors import ModelError
from hftl.models.pooled import MeanPooledConfig, MeanPooledForSequenceClassification


def last_linear(model: nn.Module, head: tuple[str, ...], num_labels: int) -> str:
    """Return the name of the head's Linear that puts out the logits. Raises `ModelError` when there is none."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == num_labels
        and any((name + ".").startswith(h + ".") for h in head)
    ]
    if not found:
        raise ModelError(f"{type(model).__name__} does not end in a Linear layer, so hftl cannot replace its head.")
    return found[-1]


def output_parameters(model: nn.Module, output: str) -> tuple[str, ...]:
    """Names of the weight and, where it has one, the bias of the Linear `output`; decoders' heads have no bias."""
    return tuple(f"{output}.{name}" for name, _ in model.get_submodule(output).named_parameters())


def without_bias(model: nn.Module, output: str) -> tuple[str, ...]:
    """Return the poolings whose head has no bias: "native" where the Linear `output` lacks one (or peft's copy of it)."""
    names = [name.rpartition(".")[2] for name, _ in model.get_submodule(output).named_parameters()]
    return () if "bias" in names else ("native",)


def pool_mean(model: Any, labels: tuple[str, ...]) -> MeanPooledForSequenceClassification:
    """Return `model`'s encoder under a new mean-pooled Linear head. The encoder's weights are shared, not copied."""
    # to_dict names the dtype that the weights have; the copy is fp32 like the model it came from. It also names the
    # folder that the checkpoint was read from, which is nobody's business.
    fields = {k: v for k, v in model.base_model.config.to_dict().items() if k != "_name_or_path"}
    config = MeanPooledConfig(
        encoder={**fields, "dtype": None},
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    pooled = MeanPooledForSequenceClassification(config)
    kept = {k: v for k, v in model.base_model.state_dict().items() if k in pooled.encoder.state_dict()}
    pooled.encoder.load_state_dict(kept)
    return pooled.eval()


def pick_features(value: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
    """Return [n, d] from the input of the last Linear: itself, or for decoder-style heads that score every token
    ([n, tokens, d]), the state of the last token that `counts` ([n, tokens]), which is the one whose score is taken.
    """
    if value.dim() == 2:
        return value
    if value.dim() == 3 and counts is not None:
        last = counts.cumsum(1).argmax(1)
        return value[torch.arange(len(value), device=value.device), last]
    return value.flatten(1)
