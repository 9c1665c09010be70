"""Checks of images: equal and alike, broken, tiny and odd ones, and what their files give away."""

import numpy as np
from PIL import Image as PILImage

from tests.doctor.pictures import folder, scene
from tests.doctor.tables import examined


def test_whole_images_pass(tmp_path):
    found = examined(folder(tmp_path / "x"), method="probe")
    assert {f.check: f.level for f in found.values() if f.level != "PASS"} == {}
    assert {"broken_images", "tiny_or_odd_images"} <= set(found)


def test_odd_images(tmp_path):
    root = folder(tmp_path / "x")
    sixteen = np.random.default_rng(0).integers(0, 65536, (40, 40)).astype(np.uint16)
    PILImage.fromarray(sixteen).save(root / "cat" / "za.png")
    scene(50).convert("L").save(root / "cat" / "zb.png")  # grey is no oddity
    scene(51).convert("RGBA").save(root / "cat" / "zc.png")
    scene(52).save(root / "cat" / "zd.gif", save_all=True, append_images=[scene(53), scene(54)])
    scene(55, (1, 1)).save(root / "cat" / "ze.png")
    scene(56, (5000, 3)).save(root / "cat" / "zf.png")
    PILImage.new("RGB", (40, 40), (9, 9, 9)).save(root / "cat" / "zg.png")
    found = examined(root)
    assert found["tiny_or_odd_images"].rows == {"train": [8, 10, 11, 12, 13, 14]}
    for said in ("mode I;16", "mode RGBA", "several frames", "2: a side below 32", "5 times as long", "one colour"):
        assert said in found["tiny_or_odd_images"].fix
    assert found["broken_images"].level == "PASS"


def test_broken_images_are_counted_without_their_names(tmp_path):
    root = folder(tmp_path / "x")
    whole = (root / "cat" / "a0.png").read_bytes()
    (root / "dog" / "zsecret.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "zztop.jpg").write_text("no image")
    (root / "dog" / "zzzero.png").write_bytes(b"")
    finding = examined(root)["broken_images"]
    assert (finding.level, finding.count, finding.rows) == ("FAIL", 3, {"train": [16, 17, 18]})
    assert "zsecret" not in finding.fix
    assert "1 empty or not there" in finding.fix


def test_missing_images_and_paths(tmp_path):
    scene(0).save(tmp_path / "a.png")
    rows = ["a.png", "gone.png", None]
    (tmp_path / "t.csv").write_text(
        "path,label\n" + "".join(f"{r or ''},{k}\n" for r, k in zip(rows, "xyx", strict=True))
    )
    found = examined(tmp_path / "t.csv", task="image-classification")
    assert found["missing_values"].rows == {"train": [2]}
    assert found["broken_images"].rows == {"train": [1]}
    assert "1 empty or not there" in found["broken_images"].fix


def test_file_names_and_sizes_leak(tmp_path):
    root = tmp_path / "x"
    for code, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(30):
            scene(100 * code + i, (96 + 40 * code, 96)).save(root / name / f"{'IMG' if code else 'scan'}_{i}.png")
    finding = examined(root)["leaky_feature"]
    assert finding.level == "WARN"
    assert "wording of the file name" in finding.fix
    assert "width of the image" in finding.fix
    assert "height" not in finding.fix


def test_file_names_alone_are_no_warning(tmp_path):
    root = tmp_path / "x"
    for code, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(30):
            scene(100 * code + i, (96, 96)).save(root / name / f"{name}_{i}.bmp")
    finding = examined(root)["leaky_feature"]
    assert (finding.level, finding.count) == ("INFO", 1)
    assert "hftl reads no file names" in finding.fix


def test_an_empty_class_folder_is_a_finding(tmp_path):
    root = folder(tmp_path / "x")
    (root / "cow").mkdir()
    finding = examined(root)["missing_classes"]
    assert (finding.level, finding.count) == ("FAIL", 1)
    assert "'cow'" in finding.fix
