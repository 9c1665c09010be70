"""Rows as a model reads them."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class EncodedText(torch.utils.data.Dataset):
    """Token ids per row; padding happens per batch in the collator."""

    token_ids: list[list[int]]
    labels: np.ndarray  # [n] int64

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.token_ids[index], "labels": int(self.labels[index])}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, [n]."""
        return np.array([len(ids) for ids in self.token_ids])

    def fingerprint(self) -> str:
        """Hash of every token of every row, in order."""
        digest = hashlib.sha256()
        for ids in self.token_ids:
            digest.update(np.asarray([len(ids), *ids], dtype=np.int64).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class EncodedImages(torch.utils.data.Dataset):
    """Resized pixels per row, before rescaling and normalisation."""

    pixels: np.ndarray  # [n, channels, height, width] uint8 (or float32 when the processor is not affine in it)
    labels: np.ndarray  # [n] int64
    augment: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixels": self.pixels[index], "labels": int(self.labels[index]), "augment": self.augment}

    @property
    def lengths(self) -> np.ndarray:
        """Equal for all rows: images have one size."""
        return np.ones(len(self.pixels), dtype=np.int64)

    def fingerprint(self) -> str:
        """Hash of every pixel."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        for start in range(0, len(self.pixels), 256):
            digest.update(np.ascontiguousarray(self.pixels[start : start + 256]).tobytes())
        return digest.hexdigest()
