"""What a baseline counts in a pair of texts: the terms of each, those of both, and how much the two have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from hftl.evaluation.text_features import learn_texts, text_features


Pairs = Sequence[tuple[str, str]]
_BLOCKS = 3  # of terms: of the first text, of the second, of both


def learn_pairs(pairs: Pairs, classes: int) -> tuple[dict[str, np.ndarray], dict[str, Any], Any] | None:
    """Return the arrays and settings of `text_features` for all texts of the pairs, and the rows; None for nothing to
    count.
    """
    learned = learn_texts([text for pair in pairs for text in pair], classes * _BLOCKS)
    if learned is None:
        return None
    arrays, settings, _ = learned
    return arrays, settings, pair_features(arrays, settings)(pairs)


def pair_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[Pairs], Any]:
    """Return the function pairs -> sparse [n, d]: the terms by weight, then cosine, shared words and lengths.

    The last three are what tells a paraphrase from another text whatever its words are (as in the overlap baselines of
    Dagan, Glickman and Magnini 2005 for entailment).
    """
    of_texts = text_features(arrays, settings)

    def features(pairs: Pairs) -> Any:
        first, second = (of_texts([pair[side] for pair in pairs]) for side in (0, 1))
        both = first.multiply(second)
        alike = [_alike(*pair) for pair in pairs]
        numbers = np.column_stack([np.asarray(both.sum(axis=1)).ravel(), np.array(alike).reshape(len(pairs), 2)])
        scale = np.float32(_BLOCKS**-0.5)
        return sparse.hstack([first * scale, second * scale, both * scale, numbers], format="csr").astype(np.float32)

    return features


def _alike(first: str, second: str) -> tuple[float, float]:
    """Return the share of words that are in both (Jaccard), and how alike the lengths are, 0 to 1 each."""
    a, b = set(first.lower().split()), set(second.lower().split())
    shared = len(a & b) / max(1, len(a | b))
    return shared, min(len(first), len(second)) / max(1, len(first), len(second))
