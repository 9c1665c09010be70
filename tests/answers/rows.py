"""Tables whose columns speak for each kind of answer, with something to learn in them."""

from typing import Any

import numpy as np
import pandas as pd

from tests.tiny import tiny_text_rows


COLOURS = ("blue", "green", "red")


def labelled(n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Texts with several colours, or none."""
    rows, rng = tiny_text_rows(n, 3, seed), np.random.default_rng(seed)
    sets = [[] if rng.random() < 0.1 else sorted({COLOURS[c], COLOURS[rng.integers(3)]}) for _, c in rows]
    return pd.DataFrame({"text": [text for text, _ in rows], "labels": sets})


def measured(n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Texts with a warmth, in units that are far from 0."""
    rng = np.random.default_rng(seed)
    rows = [(text, 1000 + 40 * c + float(rng.normal(0, 5))) for text, c in tiny_text_rows(n, 3, seed)]
    return pd.DataFrame(rows, columns=["text", "warmth"]).rename(columns={"warmth": "score"})


def paired(n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Two texts each, of one class or not."""
    first, second = tiny_text_rows(n, 3, seed), tiny_text_rows(n, 3, seed + 1)
    return pd.DataFrame(
        [(a, b, "same" if c == d else "other") for (a, c), (b, d) in zip(first, second, strict=True)],
        columns=["sentence1", "sentence2", "label"],
    )


TABLES: dict[str, Any] = {"labels": labelled, "number": measured, "pair": paired}
