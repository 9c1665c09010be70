"""Test rows for the card, only when the user asks for them: `--include_examples N`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from hftl.errors import ConfigError
from hftl.report.visible import shorten
from hftl.run_data import Artifact, run_splits
from hftl.tasks import get_task


FOLDER = "examples"
_TEXT_CHARACTERS, _PIXELS = 400, 256  # what a card can show


@dataclass(frozen=True)
class Example:
    """A row of the data that becomes public."""

    label: str
    text: str | None  # as it is published, cut to what a card can show
    image: PILImage.Image | None  # at most 256 pixels a side; only its pixels are published
    file: str | None  # of the image, in the published folder

    @property
    def line(self) -> str:
        """What becomes public, in a line."""
        if self.text is not None:
            return f"{self.label}: {self.text}"
        assert self.image is not None
        return f"{self.label}: {self.file}, {self.image.width} x {self.image.height} pixels"


def choose_examples(artifact: Artifact, count: int, data: str | None = None) -> tuple[Example, ...]:
    """Return `count` test rows of the run, spread evenly over the split; none for 0.

    Raises `ConfigError` for a negative count or a model without a run, and `DataError` when the data are not there.
    """
    if count < 0:
        raise ConfigError(f"--include_examples needs a number of rows, 0 or more, but got {count}.")
    if count == 0:
        return ()
    if artifact.run is None or artifact.report is None:
        raise ConfigError("--include_examples needs the run folder, whose config.yaml names the data.")
    inputs = get_task(str(artifact.report["task"])).inputs
    splits = run_splits(artifact.run, data)
    table = splits.test
    rows = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int))
    sample = table.select(rows)
    names = [splits.labels[int(i)] for i in sample["label"][:]]
    return tuple(
        _example(inputs.show(value), name, i)
        for i, (value, name) in enumerate(zip(sample[inputs.columns[0]][:], names, strict=True), 1)
    )


def _example(content: str | PILImage.Image, label: str, number: int) -> Example:
    if isinstance(content, str):
        return Example(label, shorten(content, _TEXT_CHARACTERS, 6)[0], None, None)
    image = content.convert("RGB")
    image.thumbnail((_PIXELS, _PIXELS))
    return Example(label, None, image, f"{FOLDER}/{number}.png")


def write_examples(folder: Path, examples: tuple[Example, ...]) -> None:
    """Write the images of the examples as PNG files without any metadata."""
    for example in examples:
        if example.image is not None and example.file is not None:
            path = folder / example.file
            path.parent.mkdir(exist_ok=True)
            bare = PILImage.new("RGB", example.image.size)
            bare.paste(example.image)  # pixels alone: no EXIF, no comments
            bare.save(path, format="PNG")
