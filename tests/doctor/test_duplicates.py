"""Inputs that stand more than once, held against plain loops."""

from itertools import combinations

import numpy as np
import pytest

from hftl.doctor.duplicates import text_digest
from hftl.doctor.findings import SHOWN_ROWS
from tests.doctor.planted import examined, frames, photo, photo_folder, rows, sentence


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Where is my card?", "  where IS my CARD? \n", True),
        ("two\tlines\r\nof text", "Two lines\u00a0of text", True),
        ("Straße", "STRASSE", True),
        ("one space", "one  space", False),
        ("a text", "a text!", False),
        ("\ud800 broken", "\ud800 Broken", True),
    ],
)
def test_what_is_folded(a, b, same):
    assert (text_digest(a) == text_digest(b)) is same


@pytest.mark.parametrize("empty", [None, "", " \n\t\u00a0"])
def test_nothing_is_like_nothing(empty):
    assert text_digest(empty) is None


def random_splits(seed):
    """Three splits of texts drawn from few, so that everything that can coincide does."""
    rng = np.random.default_rng(seed)
    draw = lambda n: [(f"Text {rng.integers(60)} ".upper(), f"c{rng.integers(3)}") for _ in range(n)]  # noqa: E731
    return {"train": draw(70), "validation": draw(20), "test": draw(25)}


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_a_plain_loop(seed):
    splits = random_splits(seed)
    found = examined(frames(**splits))
    before: list[str] = []
    repeats, crossing = {}, {}
    for name, split in splits.items():
        texts = [text for text, _ in split]
        repeats[name] = [i for i, text in enumerate(texts) if text in texts[:i]]
        crossing[name] = [i for i, text in enumerate(texts) if text in before]
        before += texts
    assert found["exact_duplicates"].by_split == {k: len(v) for k, v in repeats.items() if v}
    assert found["exact_duplicates"].rows == {k: v[:SHOWN_ROWS] for k, v in repeats.items() if v}
    assert found["cross_split_duplicates"].by_split == {k: len(v) for k, v in crossing.items() if v}
    assert found["cross_split_duplicates"].rows == {k: v[:SHOWN_ROWS] for k, v in crossing.items() if v}


@pytest.mark.parametrize("seed", range(4))
def test_conflicts_equal_a_plain_loop(seed):
    splits = random_splits(seed)
    finding = examined(frames(**splits))["conflicting_labels"]
    every = [(name, text, label) for name, split in splits.items() for text, label in split]
    inside, anywhere = set(), set()
    for (s, t, k), (s2, t2, k2) in combinations(every, 2):
        if t == t2 and k != k2:
            anywhere.add(t)
            if s == s2:
                inside.add((s, t))
    expected = {name: sum(s == name for s, _ in inside) for name in splits}
    expected["across splits"] = len(anywhere - {t for _, t in inside})
    assert finding.by_split == {k: v for k, v in expected.items() if v}
    assert finding.count == sum(expected.values())
    for name, listed in finding.rows.items():
        assert listed == [i for i, (text, _) in enumerate(splits[name]) if text in anywhere][:SHOWN_ROWS]


def test_clean_rows_pass():
    found = examined(frames(train=rows(200), validation=rows(40, seed=1), test=rows(40, seed=2)))
    assert {name: f.level for name, f in found.items() if f.level != "PASS"} == {}
    assert all(f.count == 0 and not f.rows and not f.mend for f in found.values())


def test_levels_follow_the_share():
    train, test = rows(400), rows(200, seed=1)
    one = examined(frames(train=train, test=[train[0], *test]))["cross_split_duplicates"]
    assert (one.level, one.count) == ("WARN", 1)
    three = examined(frames(train=train, test=[*train[:3], *test]))["cross_split_duplicates"]
    assert (three.level, three.rows) == ("FAIL", {"test": [0, 1, 2]})


def test_rows_are_bounded_and_counts_are_not():
    train = [*rows(60), *rows(60)]
    finding = examined(frames(train=train))["exact_duplicates"]
    assert finding.count == 60
    assert finding.rows == {"train": list(range(60, 60 + SHOWN_ROWS))}


def test_missing_and_empty_texts_are_no_duplicates():
    train = [*rows(40), (None, "c0"), (None, "c1"), ("  ", "c0"), ("", "c1")]
    found = examined(frames(train=train))
    assert found["exact_duplicates"].count == found["conflicting_labels"].count == 0


def test_texts_with_other_spaces_inside_are_near_duplicates():
    train, text = rows(40), sentence(7)
    found = examined(frames(train=[*train, (text, "c0")], test=[(text.replace(" ", "  "), "c0"), *rows(20, seed=1)]))
    assert found["cross_split_duplicates"].count == 0
    assert found["near_duplicates"].rows == {"test": [0]}


def test_equal_pixels_in_other_files(tmp_path):
    root = photo_folder(tmp_path / "photos")
    photo(900).save(root / "train" / "cat" / "a.png")
    photo(900).save(root / "train" / "dog" / "b.bmp")
    photo(901).save(root / "train" / "cat" / "c.png")
    photo(901).convert("RGBA").save(root / "test" / "cat" / "d.png")
    found = examined(root)
    assert found["exact_duplicates"].by_split == {"train": 1}
    assert found["conflicting_labels"].by_split == {"train": 1}
    assert found["cross_split_duplicates"].by_split == {"test": 1}
    # The same pixels in another shape are another image.
    flat = photo(902, 64, 48)
    flat.save(root / "train" / "cat" / "e.png")
    flat.transpose(2).rotate(0, expand=True).save(root / "train" / "cat" / "f.png")
    assert examined(root)["exact_duplicates"].by_split == {"train": 1}


def test_no_row_content_in_findings(tmp_path):
    train = [*rows(30), ("SECRET text", "c0"), ("secret TEXT", "c1"), ("", "c0")]
    root = photo_folder(tmp_path / "photos")
    (root / "train" / "cat" / "SECRET.png").write_bytes(b"broken")
    photo(3).save(root / "test" / "cat" / "SECRET.png")
    for data in (frames(train=train), root):
        assert "secret" not in str(examined(data)).lower()
