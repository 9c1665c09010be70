"""Tables with known faults, and how to look at what the doctor says of them."""

import numpy as np
import pandas as pd

from hftl.doctor import Finding, doctor


# fmt: off
WORDS = (
    "river", "engine", "sun", "letter", "garden", "window", "copper", "doctor", "paper", "winter", "music", "bread",
    "bottle", "mountain", "shadow", "silver", "market", "island", "castle", "button", "planet", "sugar", "thunder",
)
# fmt: on


def sentence(number: int) -> str:
    """A text that shares few runs of characters with that of another number."""
    return " ".join(
        WORDS[(number * 7 + number // 23 * step + step * step) % len(WORDS)] for step in range(1, 7)
    ) + str(number * number)


def table(rows: int = 60, classes: int = 2) -> pd.DataFrame:
    """Texts with nothing wrong about them, under labels in a random order."""
    order = np.random.default_rng(0).permutation(rows)
    labels = [f"mood {i % classes}" for i in order]
    return pd.DataFrame({"text": [sentence(i) for i in range(rows)], "label": labels})


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def examined(data, **flags) -> dict[str, Finding]:
    return by_name(doctor(data, **flags))
