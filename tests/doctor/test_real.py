"""Known answers on real data, where this machine has them (counted independently when the data were packed)."""

from pathlib import Path

import pandas as pd
import pytest

from tests.doctor.tables import examined
from tests.small_data import load


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def real(name: str):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    return examined(SHARED / name)


@pytest.mark.parametrize(("name", "count"), [("banking77", 6), ("clinc150", 2), ("medical_abstracts", 4)])
def test_test_texts_that_stand_in_train(name, count):
    finding = real(name)["cross_split_duplicates"]
    assert (finding.by_split["test"], len(finding.rows["test"])) == (count, count)


def test_conflicting_labels_of_medical_abstracts():
    finding = real("medical_abstracts")["conflicting_labels"]
    assert finding.by_split["train"] == 85


def test_pixel_identical_images_of_trashnet():
    found = real("trashnet")
    assert found["conflicting_labels"].count == 3
    assert sum(map(len, found["conflicting_labels"].rows.values())) == 6
    assert found["broken_images"].level == "PASS"


def test_fixed_medical_abstracts(tmp_path):
    real("medical_abstracts")
    found = examined(SHARED / "medical_abstracts", fix=tmp_path / "out")
    left = examined(tmp_path / "out")
    assert left["conflicting_labels"].by_split == {"test": 24}  # what only test holds stays
    assert left["cross_split_duplicates"].level == "PASS"
    assert left["exact_duplicates"].by_split == {"test": found["exact_duplicates"].by_split["test"]}
    train, test = (pd.read_parquet(SHARED / "medical_abstracts" / f"{split}.parquet") for split in ("train", "test"))
    tested = set(test["text"].str.casefold().str.strip())
    kept = 0
    for text, labels in train.groupby(train["text"].str.casefold().str.strip())["label"]:
        settled = 2 * labels.value_counts().max() > len(labels)
        kept += settled and text not in tested
    assert len(pd.read_parquet(tmp_path / "out" / "train.parquet")) == kept
    splits = load(tmp_path / "out")
    assert len(splits.train) + len(splits.validation) == kept
    assert len(splits.test) == 578
