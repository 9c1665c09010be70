"""Rows as the graph's inputs, through the task's own code."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from hftl.predict import Predictor
from hftl.progress import progress


_CHUNK = 256


def single_feeds(predictor: Predictor, table: Dataset) -> list[dict[str, np.ndarray]]:
    """Return the graph's inputs per row, each a batch of one: nothing is padded."""
    encoded = predictor.task.encode(table.select_columns(list(predictor.task.inputs.columns)), predictor.processor)
    collate = predictor.task.collator(predictor.processor)
    return [_numpy(collate([encoded[i]])) for i in range(len(encoded))]


def stacker(predictor: Predictor) -> Callable[[Sequence[dict[str, np.ndarray]]], dict[str, np.ndarray]]:
    """Return a function that makes one batch of single rows; texts are padded to the longest."""
    if not predictor.task.inputs.padded:
        return lambda rows: {"pixel_values": np.concatenate([row["pixel_values"] for row in rows])}

    def stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        ids = [row["input_ids"][0].tolist() for row in rows]
        return _numpy(predictor.processor.pad({"input_ids": ids}, return_tensors="pt"))

    return stack


def torch_probabilities(model: Any, feeds: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Return [n, labels] of the fp32 model on the CPU: a GPU may round its products to fewer bits."""
    with torch.inference_mode():
        rows = [model(**{k: torch.from_numpy(v) for k, v in feed.items()}).logits for feed in feeds]
    return torch.cat(rows).double().softmax(-1).numpy()


def probabilities(session: Any, feeds: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """Return [n, labels]; every row runs on its own, as in predict.py."""
    return np.concatenate([session.run(["probabilities"], feed)[0] for feed in feeds])


def predicted_ids(predictor: Predictor, sessions: Sequence[Any], table: Dataset) -> list[np.ndarray]:
    """Return the class ids [n] that each session answers; only some rows are in memory at a time."""
    found: list[list[np.ndarray]] = [[] for _ in sessions]
    for start in progress(range(0, len(table), _CHUNK), "accuracy", f"{_CHUNK} rows"):
        feeds = single_feeds(predictor, table.select(range(start, min(start + _CHUNK, len(table)))))
        for ids, session in zip(found, sessions, strict=True):
            ids.append(probabilities(session, feeds).argmax(-1))
    return [np.concatenate(ids) for ids in found]


def _numpy(batch: Any) -> dict[str, np.ndarray]:
    wanted = ("input_ids", "attention_mask", "pixel_values")
    return {key: batch[key].numpy() for key in wanted if key in batch}
