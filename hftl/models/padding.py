"""What a text model makes of padding: a batch must answer as its rows alone do, or no figure of a run can be trusted."""

from typing import Any

import torch

from hftl.errors import ModelError


_SHORT, _LONG = "a b", "a b c d e f g h i j k l"
# Relative to the largest logit. fp32 leaves 1e-6 between batches of other shapes; what reads padding leaves percents.
_TOLERANCE = 1e-3


def settle_padding(model: Any, tokenizer: Any, name: str) -> list[str]:
    """Compare a short text alone with the same text beside a long one, and return notes of what had to be changed.

    Where they differ, the tokenizer's padding token and then the right side are tried; both are saved with the model.
    Raises `ModelError` for a model whose answers depend on padding whatever is done: `pipeline`, evaluation and
    training pad differently, so that the model that was measured would not be the one that is used.
    """
    if not _depends(model, tokenizer):
        return []
    config = model.config.get_text_config()
    if config.pad_token_id != tokenizer.pad_token_id:
        config.pad_token_id = tokenizer.pad_token_id
        if not _depends(model, tokenizer):
            return [f"The config's padding token is now the tokenizer's ({tokenizer.pad_token_id}): they differed."]
    if tokenizer.padding_side == "left":
        tokenizer.padding_side = "right"
        if not _depends(model, tokenizer):
            return ["The saved tokenizer pads on the right: padded on the left, this model answers differently."]
    raise ModelError(
        f"{name} answers a text differently when it is padded beside a longer one (a property of {config.model_type}, "
        "or of its tokenizer): no batch could be trusted. Choose another model."
    )


def _depends(model: Any, tokenizer: Any) -> bool:
    """Does the answer to a short text change beyond rounding when it is padded?"""
    with torch.no_grad():
        alone = _logits(model, tokenizer, [_SHORT])[0]
        beside = _logits(model, tokenizer, [_SHORT, _LONG])[0]
    gap, size = float((alone - beside).abs().max()), float(alone.abs().max())
    return gap > _TOLERANCE * size  # not so where they are no numbers: the features say that better


def _logits(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    ids = tokenizer(texts, truncation=True)["input_ids"]
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    logits: torch.Tensor = model(**{k: v.to(model.device) for k, v in batch.items()}).logits
    return logits


def states_by_token(model: Any, tokenizer: Any) -> bool:
    """Does the body put out one state for every token of the text, whose mean can be a head's input?

    Not so: encoder-decoders, whose bodies want the decoder's input too, and bodies that shorten the sequence (Funnel).
    """
    if model.config.is_encoder_decoder:
        return False
    seen: list[torch.Tensor] = []
    hook = model.base_model.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    ids = torch.tensor([tokenizer(_LONG, truncation=True)["input_ids"]], device=model.device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        model.train(was_training)
        hook.remove()
    return seen[-1].shape[:2] == ids.shape
