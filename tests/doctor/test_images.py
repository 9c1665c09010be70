"""Checks of images: equal and alike, broken, tiny and odd ones, and what their files give away."""

import io

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageEnhance

from hftl.doctor.image_facts import _ENDS
from hftl.doctor.near_images import correlation, near_image_groups, perceptual_hash
from tests.doctor.tables import examined


def scene(seed: int, size: tuple[int, int] = (96, 96)) -> PILImage.Image:
    """Soft shapes, as in a photo: noise has no likeness to be found."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return PILImage.fromarray(coarse).resize(size, PILImage.Resampling.BICUBIC)


def folder(root, count: int = 8, classes=("cat", "dog")):
    for code, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            scene(100 * code + i).save(root / name / f"{'abcdefghij'[(i * 7) % 10]}{i}.png")
    return root


def test_whole_images_pass(tmp_path):
    found = examined(folder(tmp_path / "x"), method="probe")
    assert {f.check: f.level for f in found.values() if f.level != "PASS"} == {}
    assert {"broken_images", "tiny_or_odd_images"} <= set(found)


def test_pixels_decide_what_is_equal(tmp_path):
    root = folder(tmp_path / "x")
    scene(0).save(root / "cat" / "z.bmp")  # row 8: the pixels of row 0 in another format
    scene(1).save(root / "dog" / "z.tif")  # row 17: under the other label
    found = examined(root)
    assert (found["exact_duplicates"].count, found["exact_duplicates"].rows) == (2, {"train": [8, 17]})
    assert (found["conflicting_labels"].count, found["conflicting_labels"].level) == (1, "FAIL")


@pytest.mark.parametrize(
    ("change", "near"),
    [
        (lambda image: image.resize((64, 64)), True),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.15), True),
        (lambda image: image.convert("L"), True),
        (lambda image: image.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT), False),
        (lambda image: image.rotate(90), False),
    ],
)
def test_near_images(tmp_path, change, near):
    root = folder(tmp_path / "x")
    change(scene(3)).save(root / "cat" / "z.jpg", quality=70)
    finding = examined(root)["near_duplicates"]
    assert finding.rows == ({"train": [8]} if near else {})


def test_near_images_equal_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    images = [np.asarray(scene(i, (32, 32)).convert("L")) for i in range(120)]
    noisy = [
        np.clip(image + rng.normal(0, 3 + i % 30, image.shape), 0, 255).astype(np.uint8)
        for i, image in enumerate(images)
    ]
    pixels = np.stack([*images, *noisy])
    group = near_image_groups(list(pixels), np.zeros(len(pixels), dtype=bool))
    bits = perceptual_hash(pixels)
    near = np.array([(bits[i] != bits[i + 120]).sum() <= 6 for i in range(120)])
    near &= [np.corrcoef(pixels[i].ravel(), pixels[i + 120].ravel())[0, 1] >= 0.97 for i in range(120)]
    assert 10 < near.sum() < 110
    assert ((group[:120] == group[120:]) == near).all()
    pairs = np.arange(119)
    expected = [np.corrcoef(pixels[i].ravel(), pixels[i + 1].ravel())[0, 1] for i in pairs]
    assert correlation(pixels, pairs, pairs + 1) == pytest.approx(expected, abs=1e-5)


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
        assert said in found["tiny_or_odd_images"].mend
    assert found["broken_images"].level == "PASS"


def test_broken_images_are_counted_without_their_names(tmp_path):
    root = folder(tmp_path / "x")
    whole = (root / "cat" / "a0.png").read_bytes()
    (root / "dog" / "zsecret.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "zztop.jpg").write_text("no image")
    (root / "dog" / "zzzero.png").write_bytes(b"")
    finding = examined(root)["broken_images"]
    assert (finding.level, finding.count, finding.rows) == ("FAIL", 3, {"train": [16, 17, 18]})
    assert "zsecret" not in finding.mend
    assert "1 cut off" in finding.mend


def test_missing_images_and_paths(tmp_path):
    scene(0).save(tmp_path / "a.png")
    rows = ["a.png", "gone.png", None]
    (tmp_path / "t.csv").write_text(
        "path,label\n" + "".join(f"{r or ''},{l}\n" for r, l in zip(rows, "xyx", strict=True))
    )
    found = examined(tmp_path / "t.csv", task="image-classification")
    assert found["missing_values"].rows == {"train": [2]}
    assert found["broken_images"].rows == {"train": [1]}
    assert "1 not there" in found["broken_images"].mend


def test_file_names_and_sizes_leak(tmp_path):
    root = tmp_path / "x"
    for code, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(30):
            scene(100 * code + i, (96 + 40 * code, 96)).save(root / name / f"{'IMG' if code else 'scan'}_{i}.png")
    finding = examined(root)["leaky_feature"]
    assert "wording of the file name" in finding.mend
    assert "width of the image" in finding.mend
    assert "height" not in finding.mend


def test_an_empty_class_folder_is_a_finding(tmp_path):
    root = folder(tmp_path / "x")
    (root / "cow").mkdir()
    finding = examined(root)["missing_classes"]
    assert (finding.level, finding.count) == ("FAIL", 1)
    assert "'cow'" in finding.mend


def stored(images: list[bytes], labels: list[str]) -> Dataset:
    features = Features({"image": Image(decode=False), "label": Value("string")})
    return Dataset.from_dict(
        {"image": [{"bytes": b, "path": None} for b in images], "label": labels}, features=features
    )


def bmp(middle: int) -> bytes:
    """An image that differs from its likes only far from the beginning and the end of the file."""
    pixels = np.zeros((300, 300, 3), dtype=np.uint8)
    pixels[150, 150] = middle
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "BMP")
    assert buffer.tell() > 3 * _ENDS
    return buffer.getvalue()
