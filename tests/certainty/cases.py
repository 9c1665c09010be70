"""Logits whose true probabilities are known, for the tests of certainty."""

import json
from typing import Any

import numpy as np
from scipy.special import softmax


def drawn_logits(
    rows: int, classes: int, seed: int = 0, strength: float = 4.0, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [rows, classes] and labels drawn from them, so that dividing by `temperature` calibrates them exactly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * strength
    reached = softmax(logits, axis=1).cumsum(axis=1) < rng.random((rows, 1))
    return logits * temperature, np.minimum(reached.sum(axis=1), classes - 1)


def plain(value: Any) -> Any:
    """What JSON makes of it; raises for anything that JSON does not know, NaN included."""
    return json.loads(json.dumps(value, allow_nan=False))
