"""Whether data hold texts or images, when no task is named."""

import pandas as pd
import pytest
from datasets import Dataset

from hftl.config import DataConfig
from hftl.doctor.reading import open_source
from hftl.errors import DataError
from tests.doctor.pictures import folder, scene
from tests.doctor.tables import table


def kind(data, **columns):
    return open_source(data, None, DataConfig(data=data, **columns)).records.kind.name


def test_texts(tmp_path):
    assert kind(table()) == "text"
    assert kind({"train": table().rename(columns={"text": "anything"})}) == "text"
    assert kind("sample:wikipedia-topics") == "text"
    table().to_csv(tmp_path / "train.csv", index=False)
    scene(0).save(tmp_path / "plot.png")  # a picture beside a table does not make it a folder of images
    assert kind(tmp_path) == "text"


def test_images(tmp_path):
    root = folder(tmp_path / "x")
    assert kind(root) == "image"
    (root / "meta.json").write_text('[{"text": "about these images", "label": "none"}]')
    assert kind(root) == "image"
    assert kind(Dataset.from_dict({"image": [scene(i) for i in range(8)], "label": ["a", "b"] * 4})) == "image"
    assert kind("sample:digits") == "image"
    paths = [str(path) for path in sorted(root.rglob("*.png"))]
    rows = pd.DataFrame({"file_name": paths, "label": ["a", "b"] * (len(paths) // 2)})
    assert kind(rows) == "image"


def test_columns_that_are_named_decide():
    rows = {"picture": [scene(i) for i in range(8)], "text": [f"text {i}" for i in range(8)], "label": ["a", "b"] * 4}
    assert kind(Dataset.from_dict(rows)) == "text"
    assert kind(Dataset.from_dict(rows), image_column="picture") == "image"


def test_neither(tmp_path):
    with pytest.raises(DataError, match="no text column"):
        kind(pd.DataFrame({"a": [1, 2], "label": ["x", "y"]}))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no files of data"):
        kind(tmp_path / "none")
