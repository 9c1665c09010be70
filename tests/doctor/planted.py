"""Data with faults at known places."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as PILImage

from hftl.doctor import Finding, doctor


WORDS = np.array([f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstvxz"])


def sentence(seed: int, words: int = 8) -> str:
    """A text that resembles no other: eight random words of 240."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def rows(count: int, classes: int = 2, seed: int = 0) -> list[tuple[str | None, str | None]]:
    """Clean rows, in random order of classes but equally many of each."""
    order = np.random.default_rng(seed).permutation(np.arange(count) % classes)
    return [(sentence(1000 * seed + i), f"c{k}") for i, k in enumerate(order)]


def frames(**splits: list[tuple[Any, Any]]) -> dict[str, pd.DataFrame]:
    return {
        name: pd.DataFrame({"text": [t for t, _ in found], "label": [k for _, k in found]}, dtype=object)
        for name, found in splits.items()
    }


def examined(data: Any, **flags: Any) -> dict[str, Finding]:
    """The findings by check; every check has one."""
    findings = doctor(data, **flags)
    found = {finding.check: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def photo(seed: int, width: int = 64, height: int = 48) -> PILImage.Image:
    """A smooth random picture, as photos are: sharp noise would be alike only to itself."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return PILImage.fromarray(small).resize((width, height), PILImage.Resampling.BICUBIC)


def photo_folder(root: Path, splits: tuple[str, ...] = ("train", "test"), count: int = 12) -> Path:
    """Class folders "cat" and "dog" in each split; no two pictures are the same."""
    seed = 0
    for split in splits:
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                photo(seed).save(root / split / name / f"{i:03d}.png")
                seed += 1
    return root
