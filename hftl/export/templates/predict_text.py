"""Label texts: python predict.py "a text" "another text". Needs onnxruntime and tokenizers."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def feeds(texts, _):
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    for text in texts:  # each runs on its own, so that none is padded
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}
