"""What the body of a model that answers pixels says of patches, with the shares of the classes in each."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object

from hftl.evaluation.mask_probe import patches_of
from hftl.tasks.patches import Patches
from hftl.tasks.task import NOT_ASKED
from hftl.training.features import Batch, Encoded, Passer
from hftl.training.windows import filled, places_of


def patch_shares(mask: torch.Tensor, classes: int, size: tuple[int, int]) -> torch.Tensor:
    """Return the share of each class in every patch of a mask [height, width], [*size, classes].

    Pixels that are not asked belong to none, so that the shares of a patch add up to what is asked of it.
    """
    asked = torch.where(mask == NOT_ASKED, classes, mask)
    maps = F.one_hot(asked, classes + 1)[..., :classes].permute(2, 0, 1).float()
    return F.adaptive_avg_pool2d(maps, size).permute(1, 2, 0)


def patch_features(passer: Passer, model: Any, encoded: Encoded, classes: int, title: str) -> dict[str, np.ndarray]:
    """Return what the linear decoder `model` reads of at most `PATCHES` patches of all rows, in order of rows.

    "native" is [n, d], "shares" [n, classes], "counts" how many patches each row has. Which patches are taken is drawn
    for each row from its number, so that it is the same on several processes.
    """
    seen: list[torch.Tensor] = []  # of a batch; of an image in windows several for one row
    taken: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def use(rows: list[int], _: Any, batch: Batch) -> None:
        maps, masks = torch.cat(seen).float(), batch["labels"]
        seen.clear()
        if encoded.window is not None:
            maps, masks = maps[None], windows_of(masks, encoded.window)[None]
        else:
            maps, masks = maps[:, None], masks[:, None]
        size = (maps.shape[2], maps.shape[3])
        places = maps.shape[1] * size[0] * size[1]
        counts = patches_of(len(encoded), places)
        for row, states, parts in zip(rows, maps, masks, strict=True):
            drawn = np.sort(np.random.default_rng(row).permutation(places)[: counts[row]])
            shares = torch.stack([patch_shares(mask, classes, size) for mask in parts])
            taken[row] = tuple(value.flatten(0, 2).cpu().numpy()[drawn] for value in (states, shares))  # type: ignore[assignment]

    hook = model.classifier.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        if passer.run(model, encoded, use, title) > 1:
            for others in gather_object([taken]):
                taken.update(others)
    finally:
        hook.remove()
    values, shares = zip(*(taken[row] for row in range(len(encoded))), strict=True)
    counts = np.array([len(one) for one in values])
    return {"native": np.concatenate(values), "shares": np.concatenate(shares), "counts": counts}


def windows_of(masks: torch.Tensor, side: int) -> torch.Tensor:
    """Return the windows of a mask [1, height, width], in the order in which images are read, [windows, side, side]."""
    height, width = masks.shape[-2:]
    mask = filled(masks[0], side, NOT_ASKED)
    return torch.stack([mask[y : y + side, x : x + side] for y, x in places_of(height, width, side)])


def as_patches(arrays: dict[str, np.ndarray]) -> Patches:
    """Return what `patch_features` found, by row."""
    return Patches(arrays["native"], np.concatenate([[0], np.cumsum(arrays["counts"])]), arrays["shares"])
