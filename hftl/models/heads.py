"""Heads: where they read their features, the mean-pooled one, and a temperature folded into the last Linear."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hftl.errors import ModelError
from hftl.models.layers import is_under, run_once
from hftl.models.pooled import MeanPooledConfig, MeanPooledForSequenceClassification


_TEXT = "a b c d e f g h i j k l"


def output_linears(
    model: Any, head: tuple[str, ...], num_labels: int, batch: dict[str, torch.Tensor]
) -> tuple[str, ...]:
    """Return the names of the head's Linears whose mean is the logits: one for nearly every model.

    Two for those distilled from a teacher (DeiT, LeViT, SwiftFormer). It is tried on `batch`, not guessed from names.
    Raises `ModelError` when the logits are anything else, since no solution could be written into such a head.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == num_labels and is_under(name, head)
    ]
    for outputs in (tuple(names[-1:]), tuple(names)):
        if outputs and _make_logits(model, outputs, batch):
            return outputs
    raise ModelError(
        f"{type(model).__name__} does not end in a Linear layer that puts out its logits, so hftl cannot replace its "
        "head. Choose another model."
    )


def _make_logits(model: Any, outputs: tuple[str, ...], batch: dict[str, torch.Tensor]) -> bool:
    """Are the logits the mean of what these Linears put out? Tried with random numbers, since new heads may be zero."""
    put_out: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(0)  # of its own: the run's random numbers stay as they are

    def replace(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        put_out.append(torch.randn(out.shape, generator=generator).to(out))
        return put_out[-1]

    hooks = [model.get_submodule(name).register_forward_hook(replace) for name in outputs]
    logits = run_once(model, batch, hooks).logits
    if len(put_out) != len(outputs):
        return False
    counts = counted_tokens(model, batch)
    by_token = logits.dim() > 2  # a head of tokens, whose outputs are the logits as they are
    mean = torch.stack([out if by_token else pick_features(out, counts) for out in put_out]).mean(0)
    mean = mean.movedim(-1, 1) if mean.dim() == 4 else mean  # of a map
    return logits.shape == mean.shape and torch.allclose(logits, mean, atol=1e-5)


def without_bias(model: nn.Module, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the poolings whose head has no bias: "native" where the last of its Linears lacks one (or peft's copy of it)."""
    if not outputs:
        return ()
    names = [name.rpartition(".")[2] for name, _ in model.get_submodule(outputs[-1]).named_parameters()]
    return () if "bias" in names else ("native",)


def pool_mean(model: Any, labels: tuple[str, ...]) -> MeanPooledForSequenceClassification:
    """Return `model`'s encoder under a new mean-pooled Linear head; the encoder's weights are copied."""
    # to_dict names the dtype that the weights have; the copy is fp32 like the model it came from. It also names the
    # folder that the checkpoint was read from, which stays private.
    fields = {k: v for k, v in model.base_model.config.to_dict().items() if k != "_name_or_path"}
    config = MeanPooledConfig(
        encoder={**fields, "dtype": None},
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        **{
            name: getattr(model.config, name)
            for name in ("problem_type", "input_columns")
            if hasattr(model.config, name)
        },
    )
    pooled = MeanPooledForSequenceClassification(config)
    body, own = model.base_model.state_dict(), pooled.encoder.state_dict()
    pooled.encoder.load_state_dict({k: v for k, v in body.items() if k in own})
    return pooled.eval()


def counted_tokens(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Return which tokens ([n, tokens]) a decoder counts; None for images, and for a mean-pooled head.

    It tells padding by its id, not by the mask: an end mark that is also the padding token does not count.
    """
    tokens = batch.get("input_ids")
    padding = None if tokens is None else getattr(model.config.get_text_config(), "pad_token_id", None)
    return None if padding is None else tokens != padding  # a mean-pooled head has no such field


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


def states_by_token(model: Any, tokenizer: Any) -> bool:
    """Does the body put out one state for every token of the text, whose mean can be a head's input?

    Not so: encoder-decoders, whose bodies want the decoder's input too, and bodies that shorten the sequence (Funnel).
    """
    if model.config.is_encoder_decoder:
        return False
    seen: list[torch.Tensor] = []
    hook = model.base_model.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    ids = torch.tensor([tokenizer(_TEXT, truncation=True)["input_ids"]])
    run_once(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [hook])
    return seen[-1].shape[:2] == ids.shape


def unfold_scale(model: nn.Module, output: str, centre: float, deviation: float) -> None:
    """Make the Linear named `output` put out x `deviation` + `centre` for what it put out before, in place.

    A head that was trained on standardised numbers answers in their own units then. `centre` is 0 for a head without
    bias.
    """
    linear: Any = model.get_submodule(output)
    with torch.no_grad():
        linear.weight.mul_(deviation)
        if linear.bias is not None:
            linear.bias.mul_(deviation).add_(centre)


def fold_temperature(model: nn.Module, output: str, temperature: float) -> None:
    """Divide weight and bias of the Linear named `output` by `temperature`, in place.

    The Linear puts out the logits, so they become logits / T for every input: exact for softmax (Guo et al. 2017), and
    the predicted class stays. `output` is a name in `model.named_modules()`; of a model with adapters it is that of the
    copy that peft trains (`Plan.output`), and folding before the merge keeps the adapter folder equal to the model.

    Raises `ModelError` when it is no Linear, or its weight is used elsewhere too.
    """
    linear = model.get_submodule(output)
    if not isinstance(linear, nn.Linear):
        raise ModelError(f"{type(model).__name__} has no Linear layer {output!r} to fold a temperature into.")
    own = [p for p in (linear.weight, linear.bias) if p is not None]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if any(parameter is p for p in own) and name.rpartition(".")[0] != output:
            raise ModelError(f"{output} shares its weight with {name}: a temperature in it would change both.")
    with torch.no_grad():
        for tensor in own:
            tensor.div_(temperature)
