"""The data and the stages of a run in plain values."""

from typing import Any

import numpy as np

from hftl.data.splits import Splits
from hftl.methods.plan import Plan, Stage
from hftl.models.layers import is_under


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
