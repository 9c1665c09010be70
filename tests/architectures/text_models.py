"""Tiny random checkpoints of the text architectures that transformers can classify with, beyond those of tests.tiny."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from tests.tiny import MAX_LENGTH, TEXT_FAMILIES, WORDS, build


_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.15,  # at this width, the usual 0.02 leaves the layers with next to no effect
}
_DECODER = {**_SIZES, "num_key_value_heads": 2}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}


@dataclass(frozen=True)
class Recipe:
    """How one architecture is made: configuration, class of the base checkpoint, and its tokenizer."""

    sizes: dict[str, Any]
    base: str = "AutoModelForMaskedLM"
    marks: tuple[str, str] = ("<s>", "</s>")  # what the tokenizer puts before and after a text; "" for nothing
    pads: bool = True  # has the tokenizer a padding token of its own?
    side: str = "right"


_LM, _SEQ = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
RECIPES: dict[str, Recipe] = {
    "xlm-roberta": Recipe({**_SIZES, "max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1}),
    "albert": Recipe({**_SIZES, "embedding_size": 16}),
    "electra": Recipe({**_SIZES, "embedding_size": 16}),
    "squeezebert": Recipe({**_SIZES, "embedding_size": 32}),
    "mpnet": Recipe({**_SIZES, "max_position_embeddings": MAX_LENGTH + 2}),
    "modernbert": Recipe({**_SIZES, "global_attn_every_n_layers": 2, "local_attention": 16}),
    "longformer": Recipe({**_SIZES, "max_position_embeddings": MAX_LENGTH + 2, "attention_window": [8, 8]}),
    "big_bird": Recipe({**_SIZES, "block_size": 4, "num_random_blocks": 1}),
    "funnel": Recipe(
        {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1], "num_decoder_layers": 1}
    ),
    "convbert": Recipe({**_SIZES, "embedding_size": 32}),
    "xlnet": Recipe({"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "initializer_range": 0.15}, "AutoModel", ("", "</s>"), side="left"),
    "bart": Recipe(
        {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
            "max_position_embeddings": MAX_LENGTH, "init_std": 0.15,
        },
        _SEQ,
    ),
    "t5": Recipe({**_T5, "feed_forward_proj": "relu"}, _SEQ, ("", "</s>")),
    "mt5": Recipe({**_T5, "feed_forward_proj": "gated-gelu"}, _SEQ, ("", "</s>")),
    "gpt2": Recipe({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": MAX_LENGTH}, _LM, ("", ""), pads=False),
    "opt": Recipe(
        {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": MAX_LENGTH},
        _LM, ("</s>", ""),
    ),
    "llama": Recipe(_DECODER, _LM, ("<s>", ""), pads=False),
    "qwen2": Recipe({**_DECODER, "use_sliding_window": False}, _LM, ("", "")),
    "mistral": Recipe(_DECODER, _LM, ("<s>", ""), side="left"),
    "gpt_neox": Recipe(_SIZES, _LM, ("", ""), pads=False),
    "gemma": Recipe({**_DECODER, "head_dim": 8}, _LM, ("<s>", "")),
    "phi": Recipe(_SIZES, _LM, ("", ""), pads=False),
}  # fmt: skip
FAMILIES = (*TEXT_FAMILIES, *RECIPES)
BIASLESS = ("gpt2", "opt", "llama", "qwen2", "mistral", "gpt_neox", "gemma", "phi")  # stock heads: Linear(bias=False)


def build_text(family: str, folder: Path, *, side: str | None = None, **overrides: Any) -> Path:
    """Write a tiny checkpoint of `family` with its tokenizer, and return its folder.

    `side` is the tokenizer's padding side where it is not the family's; `overrides` go to the configuration.
    """
    if family in TEXT_FAMILIES:
        return build(family, folder, **overrides)
    recipe = RECIPES[family]
    tokenizer = _tokenizer(recipe, side or recipe.side)
    marks = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    config = transformers.AutoConfig.for_model(family, **{**marks, **recipe.sizes, **overrides})
    model = _seeded(lambda: getattr(transformers, recipe.base).from_config(config))
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _seeded(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def _tokenizer(recipe: Recipe, side: str) -> Any:
    """Whole words of `tests.tiny`, single letters for the rest, and the family's marks around a text."""
    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *(w for w in WORDS if len(w) > 1)]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    core = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    before, after = recipe.marks
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(), special_tokens=[(m, vocab[m]) for m in recipe.marks if m]
    )
    pad = {"pad_token": "<pad>"} if recipe.pads else {}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=MAX_LENGTH, padding_side=side, bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>", **pad,
    )  # fmt: skip
