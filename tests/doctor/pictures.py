"""Small images that behave as photos do, in class folders and in tables."""

from pathlib import Path

import numpy as np
from PIL import Image as PILImage


def scene(seed: int, size: tuple[int, int] = (96, 96)) -> PILImage.Image:
    """Random shapes at all scales, their strength falling with the frequency as in natural images."""
    rng = np.random.default_rng(seed)
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) + 1 / max(size)
    waves = np.fft.fft2(rng.normal(size=(3, height, width)) * 0.5 + rng.normal(size=(1, height, width)))
    pixels = np.fft.ifft2(waves / frequency**1.2).real
    low, high = pixels.min(), pixels.max()
    scaled = (pixels - low) / (high - low) if high > low else pixels * 0
    return PILImage.fromarray(np.round(255 * scaled).astype(np.uint8).transpose(1, 2, 0))


def folder(root: Path, count: int = 8, classes: tuple[str, ...] = ("cat", "dog"), seed: int = 0) -> Path:
    """Class folders, no two images of which are alike."""
    for code, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            scene(10_000 * seed + 100 * code + i).save(root / name / f"{'abcdefghij'[(i * 7) % 10]}{i}.png")
    return root
