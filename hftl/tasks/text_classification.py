"""One label for one text."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset

from hftl.config import ModelConfig
from hftl.errors import ConfigError
from hftl.tasks.encoded import EncodedText
from hftl.tasks.task import Task


_CHUNK = 2048  # texts per tokenizer call
_LONG = 32  # characters per token that is kept, above which only the beginning of a text is tokenized
_MARGIN = 16  # tokens
_PROBE = "words stand on their own"
_NO_LIMIT = 100_000  # tokenizers that know no limit report a number beyond any model's


def fit_processor(model: Any, tokenizer: Any, datasets: list[Dataset], config: ModelConfig) -> list[str]:
    """Set `tokenizer.model_max_length` to the run's length, so that it is saved with the model.

    The length is `--max_seq_length`, else the longest text of `datasets`, at most what the model can read.
    Returns warnings (texts that are cut). Raises `ConfigError` for a length that the model cannot read.
    """
    limit = _model_limit(model, tokenizer)
    if config.max_seq_length is not None and not 4 <= config.max_seq_length <= limit:
        raise ConfigError(f"--max_seq_length {config.max_seq_length} is not between 4 and {limit}, the model's limit.")
    tokenizer.model_max_length = limit
    lengths = np.concatenate([_lengths(dataset, tokenizer) for dataset in datasets])
    longest = int(lengths.max())
    chosen = config.max_seq_length or max(4, min(longest, limit))
    tokenizer.model_max_length = chosen
    cut = int((lengths > chosen).sum())
    cut += int((lengths == limit).sum()) if chosen == limit else 0
    share = cut / len(lengths)
    return (
        [f"{cut} of {len(lengths)} texts ({share:.1%}) reach or pass {chosen} tokens and are cut there."]
        if cut
        else []
    )


def _model_limit(model: Any, tokenizer: Any) -> int:
    limits = [tokenizer.model_max_length]
    positions = getattr(model.config, "max_position_embeddings", None)  # many configs have no such field
    if positions and positions > 0:
        offset = 0
        for module in model.modules():
            # RoBERTa counts positions from padding_idx + 1, so that many of its positions are not usable.
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings == positions:
                offset = (module.padding_idx or -1) + 1
                break
        limits.append(positions - offset)
    limit = min(limits)
    return 512 if limit > _NO_LIMIT else int(limit)


def _lengths(dataset: Dataset, tokenizer: Any) -> np.ndarray:
    return np.array([len(ids) for ids in _tokenize(dataset["text"][:], tokenizer)], dtype=np.int64)


def _tokenize(texts: list[str], tokenizer: Any) -> list[list[int]]:
    ids: list[list[int]] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = [_beginning(text, tokenizer) for text in texts[start : start + _CHUNK]]
        ids += tokenizer(chunk, truncation=True, return_attention_mask=False)["input_ids"]
    return ids


def _beginning(text: str, tokenizer: Any) -> str:
    """Return as much of a very long text as decides its first `model_max_length` tokens; else the text itself.

    Where the tokenizer splits at spaces before it looks at words, what follows a space changes no word before it. The
    beginning must give more tokens than are kept, so that the last few, next to the cut, do not count.
    """
    size = _LONG * tokenizer.model_max_length
    if len(text) <= size or not _splits_at_spaces(tokenizer):
        return text
    while size < len(text):
        end = text.find(" ", size)
        if end < 0:
            return text
        ids = tokenizer(text[:end], truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
        if len(ids) > tokenizer.model_max_length + _MARGIN:
            return text[:end]
        size *= 2
    return text


def _splits_at_spaces(tokenizer: Any) -> bool:
    """Tell whether words are turned into tokens one by one, and the end of a long text is what is cut off."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers in Python have none
    if backend is None or backend.pre_tokenizer is None or tokenizer.truncation_side != "right":
        return False
    return len(backend.pre_tokenizer.pre_tokenize_str(_PROBE)) >= len(_PROBE.split())


def encode(dataset: Dataset, tokenizer: Any, augment: bool = False) -> EncodedText:
    """Tokenize the texts, cut at `tokenizer.model_max_length`. `augment` means nothing for text."""
    labels = dataset["label"][:] if "label" in dataset.column_names else [0] * len(dataset)
    return EncodedText(_tokenize(list(dataset["text"][:]), tokenizer), np.asarray(labels, dtype=np.int64))


def collator(tokenizer: Any, flip: bool = True, augment: str = "light") -> Any:
    """Return a function that pads a list of items to the longest of them.

    Raises `ConfigError` for a preset that was asked for: texts are not augmented (`light` is every run's default).
    """
    if augment not in ("light", "none"):
        raise ConfigError(f"--augment {augment} is for images: texts are not augmented.")

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = tokenizer.pad({"input_ids": [item["input_ids"] for item in items]}, return_tensors="pt")
        return {**batch, "labels": torch.tensor([item["labels"] for item in items])}

    return collate


def smallest_batch(model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """One text of a few tokens, enough to see which module runs when."""
    return dict(tokenizer(["a b"], return_tensors="pt"))


TEXT_CLASSIFICATION = Task(
    name="text-classification",
    summary="one label for one text",
    input_column="text",
    auto_model="AutoModelForSequenceClassification",
    auto_processor="AutoTokenizer",
    default_model="distilbert/distilbert-base-uncased",
    default_method="lora",
    best_metric="macro_f1",
    fit_processor=fit_processor,
    encode=encode,
    collator=collator,
    default_model_inputs=smallest_batch,
)
