"""Classes that a mirror makes of each other: found by name and by features, in the run, the doctor and the advice."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hftl.config import build_config
from hftl.doctor import doctor
from hftl.evaluation.mirror import in_words, turned, turned_by_pixels
from hftl.evidence.advice import NO_FLIP
from hftl.prepare import prepare
from tests.runs import tiny_run
from tests.tiny import tiny_images


ANGLES = {"east": 0, "north": 90, "west": 180, "south": 270}


def arrows(folder: Path, per_class: int = 40) -> Path:
    """Arrows of many colours, sizes and places; no name says left or right."""
    rng = np.random.default_rng(0)
    for name, angle in ANGLES.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            ground, ink = (tuple(rng.integers(*ends, 3).tolist()) for ends in ((180, 256), (0, 90)))
            image = Image.new("RGB", (64, 64), ground)
            (x, y), half, width = rng.integers(26, 38, 2), int(rng.integers(10, 20)), int(rng.integers(2, 6))
            head = 0.7 * half
            draw = ImageDraw.Draw(image)
            draw.line([(x - half, y), (x + half, y)], fill=ink, width=width)
            draw.polygon([(x + half + 2, y), (x + half - head, y - head), (x + half - head, y + head)], fill=ink)
            image.rotate(angle, fillcolor=ground).save(folder / name / f"{i:03}.png")
    return folder


def patterns(seed: int, classes: int = 4, rows: int = 120, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Thumbs [rows, 8, 8]: a random pattern for each class and noise; and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return rng.normal(size=(classes, 8, 8))[labels] + noise * rng.normal(size=(rows, 8, 8)), labels


def test_names():
    said = turned(("turn Left", "turn right", "ahead", "bright", "left over"), None, np.empty(0))
    assert said == ["'turn Left' is like 'turn right' by name", "'turn right' is like 'turn Left' by name"]
    assert in_words([*said, *said]).endswith("'turn Left' by name, 'turn Left' is like 'turn right' by name, ...")
    assert turned(("east", "west"), None, np.empty(0)) == []


def test_classes_that_change_places_in_a_mirror():
    thumbs, labels = patterns(0)
    thumbs[labels == 1] = thumbs[labels == 0][:, :, ::-1]
    thumbs[labels == 3] += 3 * thumbs[labels == 2][:, :, ::-1] - 3 * thumbs[labels == 3]
    thumbs[labels == 3] = thumbs[labels == 3] + thumbs[labels == 3][:, :, ::-1]  # like itself in a mirror
    found = turned_by_pixels(thumbs, labels)
    assert {(name, like) for name, like, _ in found} >= {(0, 1), (1, 0)}
    assert 3 not in {name for name, _, _ in found}
    assert all(share > 0.5 for _, _, share in found)


def test_no_alarm_for_images_that_come_both_ways_round():
    """`ALPHA`: at most 1% of sets of which a mirror changes nothing but single images; of 200, 5 at the outside."""
    alarms = 0
    for seed in range(200):
        thumbs, labels = patterns(seed, noise=2.0)
        flipped = np.random.default_rng(1000 + seed).random(len(labels)) < 0.5
        thumbs[flipped] = thumbs[flipped][:, :, ::-1]
        alarms += bool(turned_by_pixels(thumbs, labels))
    assert alarms <= 5


def test_a_default_augmentation_does_not_mirror_drawn_arrows(tmp_path):
    """East and west are found, north and south are not; a typed augmentation mirrors, and is told so."""
    flags = {
        "data": str(arrows(tmp_path / "arrows")),
        "model": "efficientnet-lite0",
        "image_size": 64,
        "use_cpu": True,
    }
    for typed in (None, "light"):
        ready = prepare(build_config("image-classification", {**flags, "method": "full", "augment": typed}))
        (note,) = [note for note in ready.notes if "mirror" in note]
        assert "'west' is like 'east'" in note
        assert "north" not in note
        assert "south" not in note
        pixels = [{"pixels": np.tile(np.arange(64, dtype=np.uint8), (3, 64, 1)), "labels": 0, "augment": True}] * 40
        slopes = ready.collate(pixels)["pixel_values"].mean((1, 2)).diff(dim=1).mean(1)
        assert bool((slopes < 0).any()) is (typed is not None)  # some are mirrored only where that was typed
        assert ready.config.method.no_flip is (typed is None)
        assert ("--no_flip" in note) is (typed is not None)
        assert bool(ready.turned) is (typed is not None)
    for more in ({"no_flip": True}, {"augment": "none"}, {"method": "probe"}):
        ready = prepare(build_config("image-classification", {**flags, "method": "full", **more}))
        assert not [note for note in ready.notes if "mirror" in note]


@pytest.mark.parametrize("typed", [None, "light"])
def test_a_run_says_so(tmp_path, typed):
    data = str(tiny_images(tmp_path / "images", per_class=12, classes=("left", "right")))
    report = tiny_run("resnet", "full", tmp_path, data=data, augment=typed, evidence=typed is not None).report
    (note,) = [note for note in report["warnings"] if "mirror" in note]
    assert note.startswith("In a mirror 'left' is like 'right' by name, 'right' is like 'left' by name: ")
    assert ("does not mirror" in note) is (typed is None)
    if typed:
        assert NO_FLIP in [one["advice"] for one in report["evidence"]["verdict"]["advice"]]
        (finding,) = [one for one in report["evidence"]["doctor"] if one["check"] == "mirror_images"]
        assert (finding["level"], finding["count"]) == ("INFO", 2)


def test_the_doctor_looks_at_the_images_themselves(tmp_path):
    found = {finding.check: finding for finding in doctor(str(arrows(tmp_path / "arrows")))}["mirror_images"]
    assert (found.level, found.count) == ("INFO", 2)
    assert "'east' is like 'west'" in found.fix
    assert found.fix.endswith("add --no_flip.")
    plain = {finding.check: finding for finding in doctor(str(tiny_images(tmp_path / "plain")))}["mirror_images"]
    assert plain.level == "PASS"


def test_mirrored_digits():
    """Real digits: a mirrored 3 is nearest to another digit, a mirrored 0 stays a 0."""
    found = {finding.check: finding for finding in doctor("sample:digits")}["mirror_images"]
    assert found.level == "INFO"
    assert "'0' is like" not in found.fix
