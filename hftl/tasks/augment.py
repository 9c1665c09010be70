"""The light image augmentation: a random shift, scale and mirror, on batches, without torchvision."""

import math

import torch
import torch.nn.functional as F


MAX_SHIFT = 1 / 16  # of the side: 4 pixels of 64
MAX_SCALE = 1.1


def augment_batch(images: torch.Tensor, flip: bool) -> torch.Tensor:
    """Shift by up to 1/16 of the side, scale by up to 1.1 either way, and mirror half of them when `flip`.

    `images` is [n, channels, height, width]; edges repeat. Random numbers come from torch's global generator, which
    Trainer saves and restores, so that a resumed run draws the same ones.
    """
    n = len(images)
    shift = (torch.rand(n, 2) * 2 - 1) * 2 * MAX_SHIFT  # affine_grid counts from -1 to 1
    scale = torch.exp((torch.rand(n) * 2 - 1) * math.log(MAX_SCALE))
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = scale * mirror
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
