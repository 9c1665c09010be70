"""Inputs that stand more than once, held against plain loops."""

import json
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PILImage

from hftl.doctor.findings import SHOWN_ROWS
from hftl.tasks.inputs.text import text_digest
from tests.doctor.pictures import folder, scene
from tests.doctor.tables import examined, sentence, table


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
    splits = {"train": draw(70), "validation": draw(20), "test": draw(25)}
    return splits, {name: pd.DataFrame(rows, columns=["text", "label"]) for name, rows in splits.items()}


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_a_plain_loop(seed):
    splits, data = random_splits(seed)
    found = examined(data)
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
    splits, data = random_splits(seed)
    finding = examined(data)["conflicting_labels"]
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


def test_levels_follow_the_share():
    whole = table(600)
    train, test = whole[:400], whole[400:]
    one = examined({"train": train, "test": pd.concat([train[:1], test])})["cross_split_duplicates"]
    assert (one.level, one.count) == ("WARN", 1)
    three = examined({"train": train, "test": pd.concat([test, train[:3]])})["cross_split_duplicates"]
    assert (three.level, three.rows) == ("FAIL", {"test": [200, 201, 202]})


def test_rows_are_bounded_and_counts_are_not():
    finding = examined(pd.concat([table(100)] * 3, ignore_index=True))["exact_duplicates"]
    assert finding.count == finding.by_split["train"] == 200
    assert finding.rows == {"train": list(range(100, 100 + SHOWN_ROWS))}


def test_missing_and_empty_texts_are_no_duplicates():
    faulty = pd.DataFrame({"text": [None, None, "  ", ""], "label": ["mood 0", "mood 1"] * 2})
    found = examined(pd.concat([table(), faulty]))
    assert found["exact_duplicates"].count == found["conflicting_labels"].count == 0


def test_texts_with_other_spaces_inside_are_near_duplicates():
    train, test = table(80)[:60], table(80)[60:].reset_index(drop=True)
    test.loc[3, "text"] = sentence(7).replace(" ", "  ")
    found = examined({"train": train, "test": test})
    assert found["cross_split_duplicates"].count == 0
    assert found["near_duplicates"].rows == {"test": [3]}


def test_pixels_decide_what_is_equal(tmp_path):
    for split in ("train", "test"):
        folder(tmp_path / split, 9, seed=len(split))
    train, test = tmp_path / "train", tmp_path / "test"
    scene(900).save(train / "cat" / "z1.png")
    scene(900).save(train / "dog" / "z1.bmp")
    scene(901).save(train / "cat" / "z2.png")
    scene(901).convert("RGBA").save(test / "cat" / "z2.png")
    scene(902, (64, 48)).save(train / "cat" / "z3.png")  # the same bytes of pixels in another shape
    PILImage.frombytes("RGB", (48, 64), scene(902, (64, 48)).tobytes()).save(train / "cat" / "z4.png")
    found = examined(tmp_path)
    assert (found["exact_duplicates"].count, found["exact_duplicates"].rows) == (1, {"train": [22]})
    assert (found["conflicting_labels"].count, found["conflicting_labels"].rows) == (1, {"train": [9, 22]})
    assert (found["cross_split_duplicates"].count, found["cross_split_duplicates"].rows) == (1, {"test": [9]})


def test_duplicates_fold_case_and_space():
    data = table()
    data.loc[len(data)] = [f"  {sentence(4).upper()}\t", data["label"][4]]
    data.loc[len(data)] = [sentence(4).replace(" ", "\u00a0"), data["label"][4]]
    finding = examined(data)["exact_duplicates"]
    assert (finding.level, finding.count, finding.rows) == ("WARN", 2, {"train": [60, 61]})
    assert "such as train 4 and train 60" in finding.fix


def test_copies_across_splits():
    whole = table(300)
    splits = {"train": whole[:200], "validation": whole[200:240], "test": whole[240:]}
    train = pd.concat([splits["train"], whole[200:201], whole[240:242]])  # one of validation, two of test
    validation = pd.concat([splits["validation"], whole[241:243]])  # one of these also stands in train
    finding = examined({"train": train, "validation": validation, "test": splits["test"]})["cross_split_duplicates"]
    # validation: its first row and row 241, which stands in train; test: rows 240 and 241 (train), 242 (validation)
    assert finding.rows == {"validation": [0, 40], "test": [0, 1, 2]}
    assert (finding.count, finding.level) == (5, "FAIL")
    few = {"train": train[:201], "validation": splits["validation"], "test": pd.concat([splits["test"]] * 9)}
    assert examined(few)["cross_split_duplicates"].count == 1


def test_conflicting_labels_count_inputs():
    data = table()
    for row, label in ((3, "mood 0"), (3, "mood 1"), (9, "mood 0"), (9, "mood 1"), (5, data["label"][5])):
        data.loc[len(data)] = [sentence(row), label]
    finding = examined(data)["conflicting_labels"]
    copies = {row for row in range(len(data)) if data["text"][row] in (sentence(3), sentence(9))}
    assert (finding.count, finding.level, set(finding.rows["train"])) == (2, "FAIL", copies)
    assert len(copies) == 6
    across = {"train": table(), "test": pd.DataFrame({"text": [sentence(3)], "label": ["mood 0"]})}
    across["train"].loc[3, "label"] = "mood 1"
    finding = examined(across)["conflicting_labels"]
    assert (finding.count, finding.by_split) == (1, {"across splits": 1})


def test_near_duplicates_leave_exact_ones_out():
    data = table()
    data.loc[len(data)] = [sentence(1), data["label"][1]]
    data.loc[len(data)] = [f"{sentence(2)}!", data["label"][2]]
    finding = examined(data)["near_duplicates"]
    assert (finding.count, finding.rows) == (1, {"train": [61]})


def test_findings_hold_no_rows_content():
    data = table(60)
    data.loc[len(data)] = ["the secret of row sixty", "mood 0"]
    data.loc[len(data)] = ["the secret of row sixty", "mood 1"]
    data.loc[len(data)] = ["the secret of row sixty!", "mood 1"]
    said = json.dumps([asdict(finding) for finding in examined(data).values()])
    assert "secret" not in said
