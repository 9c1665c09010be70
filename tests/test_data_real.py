"""Real sets of texts and images, where this machine has them."""

from pathlib import Path

import pandas as pd
import pytest

from hftl.config import build_config
from hftl.data.images import decode_image
from hftl.data.load import load_task
from tests.small_data import load


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "classes"), [("banking77", 77), ("clinc150", 151), ("medical_abstracts", 5), ("mr_polarity", 2)]
)
def test_real_texts(name, classes):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    splits = load(SHARED / name, max_train_samples=500, max_eval_samples=200)
    assert len(splits.labels) == classes
    assert len(splits.train) == 500
    assert splits.origins["test"].startswith("the source's test split")
    source = pd.read_parquet(SHARED / name / "train.parquet")
    for row in splits.train.select(range(20)):
        assert source["text"][row["row"]] == row["text"]
        assert source["label"][row["row"]] == splits.labels[row["label"]]


@pytest.mark.parametrize(("name", "classes"), [("trashnet", 6), ("sign_digits", 10), ("bccd_cells", 3)])
def test_real_images(name, classes, monkeypatch):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    # Decoding every image is what the other tests are about; here it would take most of the time.
    monkeypatch.setattr("hftl.data.images.decode_image", lambda value: None)
    splits = load(SHARED / name, "image", max_train_samples=60, max_eval_samples=30)
    assert len(splits.labels) == classes
    assert (len(splits.train), len(splits.test)) == (60, 30)
    decode_image(splits.train[0]["image"])


@pytest.mark.parametrize(("name", "types"), [("wnut17", 6), ("restaurant8k_slots", 5)])
def test_real_tags(name, types):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    flags = {"data": str(SHARED / name), "max_train_samples": 300, "max_eval_samples": 100}
    _, splits = load_task("token-classification", build_config("token-classification", flags).data)
    assert splits.labels[0] == "O"
    assert len(splits.labels) == 2 * types + 1
    source = pd.read_parquet(SHARED / name / "train.parquet")
    for row in splits.train.select(range(20)):
        assert [*source["tokens"][row["row"]]] == row["words"]
        assert [*source["tags"][row["row"]]] == [splits.labels[i] for i in row["label"]]
