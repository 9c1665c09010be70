"""The quick look at the splits of a run."""

from hftl.doctor import doctor_splits, images
from hftl.tasks import TASKS
from tests.doctor.pictures import folder, scene
from tests.doctor.tables import by_name, sentence, table
from tests.small_data import load


def test_rows_are_those_of_the_source():
    data = table(120)
    data.loc[len(data)] = [sentence(7), data["label"][7]]
    splits = load(data)
    found = by_name(doctor_splits(splits, TASKS["text-classification"], "probe"))
    place = {row: split for split in ("train", "validation", "test") for row in getattr(splits, split)["row"][:]}
    again = found["exact_duplicates" if place[7] == place[120] else "cross_split_duplicates"]
    assert again.count == 1
    assert next(iter(again.rows.values()))[0] in (7, 120)
    assert [f.check for f in found.values() if f.level != "PASS"] == [again.check]


def test_images_are_equal_when_their_files_are(tmp_path):
    root = folder(tmp_path / "x", 20)
    (root / "cat" / "z.png").write_bytes((root / "dog" / "a0.png").read_bytes())
    found = by_name(doctor_splits(load(root, "image"), TASKS["image-classification"], "probe"))
    assert found["conflicting_labels"].count == 1
    assert found["exact_duplicates"].count + found["cross_split_duplicates"].count == 1
    assert found["near_duplicates"].count == 0


def test_large_sets_of_images_are_not_decoded(tmp_path, monkeypatch):
    root = folder(tmp_path / "x", 20)
    scene(3).resize((64, 64)).save(root / "cat" / "z.png")
    splits = load(root, "image")
    assert by_name(doctor_splits(splits, TASKS["image-classification"]))["near_duplicates"].count == 1
    monkeypatch.setattr(images, "_QUICK_PIXELS", 1000)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: 1 / 0)
    found = by_name(doctor_splits(splits, TASKS["image-classification"]))
    assert "near_duplicates" not in found
    assert found["exact_duplicates"].level == "PASS"


def test_skipped_images_are_counted(tmp_path):
    root = folder(tmp_path / "x", 20)
    (root / "cat" / "z.png").write_bytes(b"")
    finding = by_name(doctor_splits(load(root, "image"), TASKS["image-classification"]))["broken_images"]
    assert (finding.level, finding.count) == ("FAIL", 1)
