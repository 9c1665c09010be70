"""Copies of a row stay on one side of a cut, and data without copies are cut as ever."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hftl.config import DataConfig
from hftl.data.load import load_splits
from hftl.data.splits import cut
from hftl.tasks.inputs.text import text_digest
from tests.runs import text_frame
from tests.tiny import tiny_images


def parts(data: object) -> dict[str, set[int]]:
    splits = load_splits("text", DataConfig(data=data))
    return {name: set(getattr(splits, name)["row"][:]) for name in ("train", "validation", "test")}


def test_copies_of_texts_stay_together() -> None:
    frame = text_frame(200)
    copies = frame.sample(60, random_state=1).assign(text=lambda f: "  " + f["text"].str.upper())
    data = pd.concat([frame, copies], ignore_index=True)
    keys = data["text"].map(text_digest)
    found = parts(data)
    assert sum(map(len, found.values())) == len(data)
    sides = [set(keys.iloc[sorted(rows)]) for rows in found.values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert len(found["test"]) > 30


def test_data_without_copies_are_cut_as_ever() -> None:
    data = text_frame(200)
    codes = np.unique(data["label"], return_inverse=True)[1]
    kept, test = cut(codes, 3, 0.2, 42)
    rest, validation = cut(codes[kept], 3, 0.1, 43)
    assert parts(data) == {"test": set(test), "validation": set(kept[validation]), "train": set(kept[rest])}


def test_copies_of_image_files_stay_together(tmp_path: Path) -> None:
    folder = tiny_images(tmp_path / "images", per_class=12)
    for image in sorted(folder.rglob("*.png"))[::2]:
        image.with_name(f"copy-{image.name}").write_bytes(image.read_bytes())
    splits = load_splits("image", DataConfig(data=str(folder)))
    contents = [
        {Path(row["image"]["path"]).read_bytes() for row in getattr(splits, name)}
        for name in ("train", "validation", "test")
    ]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]


def test_one_text_alone_is_still_cut() -> None:
    data = pd.DataFrame({"text": ["the same"] * 40, "label": ["a", "b"] * 20})
    assert all(parts(data).values())


@pytest.mark.parametrize("text", ["", None, "  "])
def test_nothing_is_no_copy(text: str | None) -> None:
    assert text_digest(text) is None
