"""Images that say which mask is theirs, and folders of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from hftl.config import DataConfig
from hftl.data.load import load_task


def put(folder: Path, image: str, mask: str | None, number: int, masks=Image.fromarray, images=Image.fromarray):
    """Write an image whose every pixel is its number, and a mask of 0 and 1 of which as many pixels are 1."""
    for name in filter(None, (image, mask)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    ids = np.zeros((8, 10), np.uint8)
    ids.flat[: number + 1] = 1
    images(np.full((8, 10, 3), number, np.uint8)).save(folder / image)
    if mask is not None:
        masks(ids).save(folder / mask)


def load(folder, **flags):
    return load_task("image-segmentation", DataConfig(data=str(folder), **flags))


def sizes(folder, **flags):
    """Load a folder; every image has to come with its own mask. Return the source's rows of each split by their origin."""
    task, splits = load(folder, **flags)
    found: dict[str, int] = {}
    for name in ("train", "validation", "test"):
        table = getattr(splits, name)
        for image, mask in zip(table["image"][:], task.output.gather(table["label"][:]), strict=True):
            assert (mask == 1).sum() == np.asarray(Image.open(image["path"]).convert("RGB"))[0, 0, 0] + 1
        origin = next(
            (one for one in ("train", "val", "test") if f"source's {one}" in splits.origins[name].lower()), "train"
        )
        found[origin] = found.get(origin, 0) + len(table)
    return found
