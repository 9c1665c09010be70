"""Known answers on real data, where this machine has them (counted independently when the data were packed)."""

from pathlib import Path

import pytest

from tests.doctor.tables import examined


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
