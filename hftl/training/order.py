"""The order of the rows, and the draws of augmentation: both follow from the seed, the epoch and the rows alone.

torch's global generator would do for one process that nobody stops. A run that goes on in the middle of an epoch has
not drawn what the epoch began with. Processes whose dropout drew different amounts would each cut the rows in another
way, so that some rows would come twice in an epoch and others not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler


@contextmanager
def draws_from(*numbers: int) -> Iterator[None]:
    """Let the CPU's generator start from `numbers` while the block runs; after it, it goes on as before."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(hash(numbers))  # torch.manual_seed would reset the GPUs as well
    try:
        yield
    finally:
        torch.set_rng_state(before)


class Numbered(Dataset):
    """Training rows that say their number, so that a bad batch can be named, and the seed of their augmentation."""

    def __init__(self, rows: Any, seed: int):
        self.rows, self.seed = rows, seed
        # The number of the epoch. In shared memory: workers that live on from epoch to epoch hold a copy of all else.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        numbers = (self.seed, int(self.epoch), index)
        with draws_from(*numbers):  # which stored view
            return {**self.rows[index], "row": index, "draw": hash(numbers)}


class SeededEpochs(TrainerCallback):
    """Tells rows and sampler which epoch it is. The samplers of torch and accelerate know it already."""

    def __init__(self, rows: Numbered):
        self._rows = rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        epoch = int(state.epoch or 0)
        self._rows.epoch.fill_(epoch)
        batches = train_dataloader.batch_sampler
        sampler = getattr(batches, "batch_sampler", batches).sampler  # on several processes accelerate wraps it
        if isinstance(sampler, LengthGroupedSampler):
            sampler.generator = torch.Generator().manual_seed(self._rows.seed + epoch)


class MixedLengths(LengthGroupedSampler):
    """Rows of like length in a batch, as its parent has them, and the batches in random order.

    The parent's go from long to short, over and over: on a few hundred rows the steps follow the lengths, which cost 1.4
    points of F1 on restaurant8k (docs/log.md, 2026-11-28). The longest row stays in the first batch: what it takes is the most.
    """

    def __iter__(self) -> Iterator[int]:
        rows = torch.tensor(list(super().__iter__()))
        first, *others = rows.split(self.batch_size)
        last = [others.pop()] if others and len(others[-1]) < self.batch_size else []
        order = torch.randperm(len(others), generator=self.generator)
        yield from torch.cat([first, *(others[i] for i in order), *last]).tolist()


class Together(Sampler[int]):
    """Row numbers in groups of `size`: of as many strata as have room for two rows each, all alike often.

    An epoch is whole steps of `per_step` rows, so that every process has its share of each. The rows follow from the
    seed and the epoch, which the data loader tells; a stratum of too few rows has them more than once.
    """

    def __init__(self, strata: np.ndarray, size: int, per_step: int, seed: int):
        self.rows = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
        self.size, self.seed, self.epoch = size, seed, 0
        self.count = -(-len(strata) // per_step) * per_step

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        """Go on with the rows of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        for _ in range(self.count // self.size):
            strata = np.resize(rng.permutation(len(self.rows))[: self.size // 2], self.size)
            for stratum, times in zip(*np.unique(strata, return_counts=True), strict=True):
                yield from np.resize(rng.permutation(self.rows[stratum]), times).tolist()
