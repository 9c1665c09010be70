"""Workers that load the rows: augmentation differs in every epoch, and the number and life of workers changes nothing."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from hftl.training.order import Numbered


class Drawn(Dataset):
    """Rows that hold what was drawn for them."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, float]:
        return {"value": float(torch.rand(()))}


def epochs(**options: object) -> list[list[tuple[float, int]]]:
    rows = Numbered(Drawn(), seed=3)
    loader = DataLoader(rows, batch_size=2, collate_fn=list, **options)
    seen = []
    for epoch in range(3):
        rows.epoch.fill_(epoch)
        seen.append([(item["value"], item["draw"]) for batch in loader for item in batch])
    return seen


@pytest.mark.parametrize("persistent", [False, True])
def test_draws_follow_the_epoch(persistent: bool) -> None:
    alone = epochs()
    assert len({value for epoch in alone for value, _ in epoch}) == 18
    assert epochs(num_workers=2, persistent_workers=persistent) == alone
