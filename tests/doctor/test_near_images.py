"""Near-duplicate images: re-encoded, resized and lightened copies are found, other pictures are not."""

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageEnhance
from scipy.fft import dctn

from hftl.doctor.images import NEAR, THUMB, correlation, look_at, near_image_groups, perceptual_hash
from tests.doctor.pictures import folder, scene
from tests.doctor.tables import examined


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return PILImage.open(io.BytesIO(buffer.getvalue()))


CHANGES = {
    "jpeg": lambda image: jpeg(image, 40),
    "smaller": lambda image: image.resize((100, 75)),
    "larger": lambda image: image.resize((320, 240)),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L"),
}


def facts_of(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return look_at({"bytes": buffer.getvalue(), "path": None})


def groups(images):
    facts = [facts_of(image) for image in images]
    small = np.array([min(fact.width, fact.height) < THUMB for fact in facts])
    return near_image_groups([fact.thumb for fact in facts], small)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(change):
    originals = [scene(i, (200, 150)) for i in range(30)]
    group = groups([*originals, *(CHANGES[change](image) for image in originals)])
    found = sum(group[i] == group[i + 30] for i in range(30))
    assert found >= 29
    assert len(set(group.tolist())) == 60 - found  # and nothing else is joined


def test_other_pictures_are_apart():
    assert len(set(groups([scene(i) for i in range(300)]).tolist())) == 300


def test_mirrored_and_turned_pictures_are_apart():
    image = scene(1)
    assert (
        len(set(groups([image, image.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT), image.rotate(90)]).tolist())) == 3
    )


def test_flat_images_are_in_no_group():
    flat = [PILImage.new("RGB", (64, 64), (i, i, i)) for i in range(0, 200, 10)]
    assert len(set(groups(flat).tolist())) == len(flat)


def test_small_images_must_be_more_alike():
    digit = scene(5, (20, 20))
    pixels = np.asarray(digit).astype(float)
    noisy = PILImage.fromarray(
        np.clip(pixels + np.random.default_rng(0).normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    )
    thumbs = [facts_of(image).thumb for image in (digit, noisy)]
    value = correlation(np.stack(thumbs), np.array([0]), np.array([1]))[0]
    assert NEAR < value < 0.99
    as_small, as_large = (
        near_image_groups(thumbs, np.array([True, True])),
        near_image_groups(thumbs, np.array([False, False])),
    )
    assert as_small[0] != as_small[1]
    assert as_large[0] == as_large[1]


def test_hash_and_correlation_equal_their_definitions():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    for image, bits in zip(pixels, perceptual_hash(pixels), strict=True):
        low = dctn(image.astype(float), norm="ortho")[:8, :8].ravel()
        np.testing.assert_array_equal(bits, low > np.median(low[1:]))
    left, right = np.array(list(combinations(range(6), 2))).T
    expected = [np.corrcoef(pixels[i].ravel(), pixels[j].ravel())[0, 1] for i, j in zip(left, right, strict=True)]
    assert correlation(pixels, left, right) == pytest.approx(expected, abs=1e-5)


def test_none_within_six_bits_is_missed():
    # A picture and copies that differ more and more: the groups are those of all pairs, compared one by one.
    rng = np.random.default_rng(1)
    pixels = []
    for i in range(40):
        base = np.asarray(scene(i, (32, 32)).convert("L")).astype(float)
        pixels += [np.clip(base + rng.normal(0, s, base.shape), 0, 255).astype(np.uint8) for s in (0, 5, 15, 30)]
    stack = np.stack(pixels)
    bits = perceptual_hash(stack)
    left, right = np.array(list(combinations(range(len(stack)), 2))).T
    near = ((bits[left] != bits[right]).sum(axis=1) <= 6) & (correlation(stack, left, right) >= NEAR)
    expected = np.arange(len(stack))
    for i, j in zip(left[near], right[near], strict=True):
        expected[expected == expected[j]] = expected[i]
    group = near_image_groups(pixels, np.zeros(len(pixels), dtype=bool))
    assert near.sum() > 30
    for i, j in zip(left, right, strict=True):
        assert (group[i] == group[j]) == (expected[i] == expected[j])


@pytest.mark.parametrize("count", [0, 1])
def test_few_images(count):
    assert len(near_image_groups([np.zeros((32, 32), dtype=np.uint8)] * count, np.zeros(count, dtype=bool))) == count


def test_finding_names_the_later_split(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "test", seed=1)
    jpeg(scene(0), 60).save(tmp_path / "test" / "cat" / "zz.jpg", quality=60)
    finding = examined(tmp_path)["near_duplicates"]
    assert (finding.level, finding.count, finding.rows) == ("WARN", 1, {"test": [8]})
