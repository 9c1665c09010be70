"""Features of patches, or what is answered about them, with the shares of the classes in each."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hftl.tasks.outputs.names import late
from hftl.tasks.ragged import Ragged


_NEAR = 5_000  # patches among which neighbours are looked for


@dataclass(frozen=True, eq=False)
class Patches(Ragged):
    """Some patches of each image: image i has `values[starts[i]:starts[i + 1]]`, and `shares` [n, classes] alike."""

    shares: np.ndarray

    def __getitem__(self, index: Any) -> Any:
        """Return the features of one image, or with an array [m] of their numbers several as new `Patches`."""
        if not isinstance(index, np.ndarray):
            return super().__getitem__(index)
        rows = super().__getitem__(index)
        shares = Ragged(self.shares, self.starts)[index]
        return Patches(rows.values, rows.starts, shares.values)  # type: ignore[union-attr]

    def __matmul__(self, matrix: np.ndarray) -> "Patches":
        return replace(self, values=self.values @ matrix)

    def __add__(self, term: np.ndarray) -> "Patches":
        return replace(self, values=self.values + term)


def counted(outputs: Any) -> Any:
    """Return the pixel counts of each row as they are, and of logits of patches the same in patches, [n, 3 classes]."""
    if isinstance(outputs, Patches):
        return late("mask_probe", "patch_counts")(outputs.values, outputs.shares, outputs.starts)
    return outputs


def nearest(train: Patches, targets: Any, test: Patches) -> np.ndarray:
    """Return what the most similar of some train patches answer, in patches: see `counted`."""
    rows = np.random.default_rng(0).permutation(len(train.values))[:_NEAR]
    known, classes = np.asarray(train.values)[rows], train.shares[rows].argmax(axis=1)
    found = late("neighbours", "nearest_neighbours")(known, classes, np.asarray(test.values))
    answers: np.ndarray = counted(replace(test, values=np.eye(test.shares.shape[1])[found]))
    return answers
