"""The data and the stages of a run in plain values."""

from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from hftl.data.splits import Splits
from hftl.methods.plan import Plan, Stage
from hftl.models.layers import is_under
from hftl.tasks.image_classification import image_side


BINS = 8
_CHUNK = 2048  # texts per tokenizer call
_SAMPLE = 200  # images looked at


def describe_data(splits: Splits) -> dict[str, Any]:
    """Rows and origin of each split, and the labels with their number of training rows."""
    counts = np.bincount(np.asarray(splits.train["label"][:]), minlength=len(splits.labels))
    return {
        "name": splits.name,
        "rows": {part: len(getattr(splits, part)) for part in ("train", "validation", "test")},
        "origins": splits.origins,
        "labels": [{"id": i, "label": label, "train_rows": int(counts[i])} for i, label in enumerate(splits.labels)],
        "skipped": list(splits.skipped),
    }


def describe_tokens(splits: Splits, tokenizer: Any, encoded: list[np.ndarray]) -> dict[str, Any]:
    """Lengths of the train and validation texts before any cut, and what is cut at the tokenizer's length.

    `encoded` are the lengths of both after the cut: only texts that reach it have to be tokenized once more.
    """
    texts = [*splits.train["text"][:], *splits.validation["text"][:]]
    lengths = np.concatenate(encoded)
    reach = np.flatnonzero(lengths >= int(tokenizer.model_max_length))
    lengths[reach] = list(_lengths([texts[i] for i in reach], tokenizer))
    used = int(tokenizer.model_max_length)
    low, high = int(lengths.min()), int(lengths.max())
    edges = np.unique(np.linspace(low, high + 1, min(BINS, high - low + 1) + 1).astype(int))
    counts = np.histogram(lengths, edges)[0]
    cut = int((lengths > used).sum())
    return {
        "texts": len(texts),
        "min": low,
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": high,
        "histogram": [
            {"from": int(a), "to": int(b) - 1, "texts": int(n)}
            for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
        "max_seq_length": used,
        "truncated": cut,
        "truncated_share": cut / len(texts),
    }


def _lengths(texts: list[str], tokenizer: Any) -> Iterator[int]:
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for ids in tokenizer(chunk, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]:
            yield len(ids)


def describe_images(train: Dataset, processor: Any) -> dict[str, Any]:
    """Sizes and modes of a sample of the training images as they are stored, and the size they will have."""
    rows = train.select(range(0, len(train), max(1, len(train) // _SAMPLE)))
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    for value in rows["image"][:]:
        with Image.open(BytesIO(value["bytes"]) if value["bytes"] is not None else value["path"]) as image:
            sizes[image.size] += 1
            modes[image.mode] += 1
    short = [min(size) for size in sizes.elements()]
    return {
        "sampled": len(rows),
        "short_side": {"min": min(short), "median": float(np.median(short)), "max": max(short)},
        "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in sizes.most_common(BINS)],
        "other_sizes": max(0, len(sizes) - BINS),
        "modes": dict(modes.most_common()),
        "image_size": image_side(processor),
    }


def learns(plan: Plan, stage: Stage) -> str:
    """Say in words what learns in `stage`: "the top 2 of 6 blocks and the head"."""
    layers = plan.layers
    names = [name.removeprefix(plan.path) for name in stage.trainable]
    body = [name for name in names if not is_under(name, layers.above)]
    inside = {i for name in body for i, module in enumerate(layers.modules) if is_under(name, (module,))}
    stem = any(not is_under(name, layers.modules) for name in body)
    parts = [*(["the stem"] if stem else []), *([_blocks(sorted(inside), len(layers.modules))] if inside else [])]
    if not parts:
        return "the head"
    where = " and ".join(parts)
    if any(group.name == "adapters" for group in stage.groups):
        return f"adapters in {where}, and the head"
    if stage.name in ("norms", "biases", "norms and biases"):
        return f"the {stage.name} of {where}, and the head"
    return f"{', '.join(parts)} and the head"


def _blocks(inside: list[int], n: int) -> str:
    if len(inside) == n:
        return f"all {n} blocks"
    if inside == list(range(n - len(inside), n)):
        return f"the top {len(inside)} of {n} blocks"
    return f"blocks {', '.join(str(i + 1) for i in inside)} of {n}"
