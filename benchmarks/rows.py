"""The rows and models that every benchmark shares."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from hftl.config import DataConfig
from hftl.data.load import load_splits
from hftl.models.find import find_checkpoint


MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Text:
    """Texts with their labels, tokenised as every contender gets them."""

    data: DatasetDict  # what hftl is given
    labels: tuple[str, ...]
    tokens: dict[str, list[list[int]]]
    targets: dict[str, np.ndarray]
    tokenizer: Any
    checkpoint: str
    max_length: int

    def model(self) -> Any:
        """A fresh stock classifier."""
        return AutoModelForSequenceClassification.from_pretrained(self.checkpoint, num_labels=len(self.labels))


def wikipedia(train: int, test: int, max_length: int, repeat: int = 1, shots: int | None = None) -> Text:
    """`train` rows of sample:wikipedia-topics, each `repeat` times, and `test` rows to measure accuracy on.

    With `shots`, so many rows of every class to train on.
    """
    config = DataConfig(
        data="sample:wikipedia-topics",
        max_train_samples=train,
        max_eval_samples=test,
        validation_size=0.05,
        shots=shots,
    )
    splits = load_splits("text", config)
    checkpoint = find_checkpoint(MODEL, None).path
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    names, data, tokens, targets = splits.labels, {}, {}, {}
    for part in ("train", "validation", "test"):
        table = getattr(splits, part)
        texts, ids = list(table["text"][:]), list(table["label"][:])
        if part == "train":
            texts, ids = texts * repeat, ids * repeat
        data[part] = Dataset.from_dict({"text": texts, "label": [names[i] for i in ids]})
        tokens[part] = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
        targets[part] = np.asarray(ids)
    return Text(DatasetDict(data), names, tokens, targets, tokenizer, checkpoint, max_length)


def twelve_blocks(text: Text, folder: str) -> str:
    """Write a BERT of MiniLM's width with twelve blocks and random weights, with the same tokenizer."""
    config = AutoConfig.from_pretrained(text.checkpoint, num_hidden_layers=12)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    text.tokenizer.save_pretrained(folder)
    return folder
