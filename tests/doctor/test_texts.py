"""Checks of texts and labels, each on a table with one known fault."""

import json
import re
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hftl.doctor.findings import SHOWN_ROWS
from hftl.doctor.label_checks import ENOUGH, RARE, folded_name
from hftl.doctor.leaks import predictability
from hftl.doctor.near_texts import NEAR, jaccard, near_text_groups, normal_form
from hftl.names import METHOD_NAMES
from hftl.training import losses
from tests.doctor.tables import examined, sentence, table


TEXT_CHECKS = [
    "missing_values", "empty_or_truncated_texts", "exact_duplicates", "cross_split_duplicates", "near_duplicates",
    "conflicting_labels", "similar_class_names", "missing_classes", "imbalance", "too_few_rows", "sorted_rows",
    "leaky_feature",
]  # fmt: skip


def test_whole_data_pass_every_check():
    found = examined(table(80), method="full")
    assert list(found) == TEXT_CHECKS
    for finding in found.values():
        assert (finding.level, finding.count, finding.rows, finding.mend) == ("PASS", 0, {}, ""), finding


def test_duplicates_fold_case_and_space():
    data = table()
    data.loc[len(data)] = [f"  {sentence(4).upper()}\t", data["label"][4]]
    data.loc[len(data)] = [sentence(4).replace(" ", "\u00a0"), data["label"][4]]
    finding = examined(data)["exact_duplicates"]
    assert (finding.level, finding.count, finding.rows) == ("WARN", 2, {"train": [60, 61]})


def test_rows_are_bounded_and_the_count_is_not():
    data = pd.concat([table(100)] * 3, ignore_index=True)
    finding = examined(data)["exact_duplicates"]
    assert finding.count == finding.by_split["train"] == 200
    assert finding.rows == {"train": list(range(100, 100 + SHOWN_ROWS))}


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


def slow_near_groups(texts: list[str]) -> set[frozenset[int]]:
    """All pairs, with Python's sets: the definition."""
    shingles = [{t[i : i + 5] for i in range(max(1, len(t) - 4))} for t in map(normal_form, texts)]
    group = list(range(len(texts)))
    for a, b in combinations(range(len(texts)), 2):
        if len(shingles[a] & shingles[b]) >= NEAR * len(shingles[a] | shingles[b]):
            group = [group[a] if g == group[b] else g for g in group]
    return {frozenset(np.flatnonzero(np.array(group) == g).tolist()) for g in group}


def test_near_duplicates_equal_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghijklmnop"), 60)) for _ in range(150)]
    for i in range(150):  # copies with 1 to 12 changed letters
        letters = list(texts[i])
        for place in rng.choice(len(letters), 1 + i % 12, replace=False):
            letters[place] = "z"
        texts.append("".join(letters))
    fast = near_text_groups(texts)
    found = {frozenset(np.flatnonzero(fast == g).tolist()) for g in fast}
    slow = slow_near_groups(texts)
    assert 200 < len(slow) < 299  # some of the copies are near, some are not
    assert found == slow


def test_jaccard_equals_sets():
    texts = [normal_form(sentence(i)) for i in range(30)] + ["ab", "ab c", "aaaaaaaaaa"]
    left, right = np.array(list(combinations(range(len(texts)), 2))).T
    sets = [{t[i : i + 5] for i in range(max(1, len(t) - 4))} for t in texts]
    expected = [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in zip(left, right, strict=True)]
    assert jaccard(texts, left, right) == pytest.approx(expected)


def test_near_duplicates_leave_exact_ones_out():
    data = table()
    data.loc[len(data)] = [sentence(1), data["label"][1]]
    data.loc[len(data)] = [f"{sentence(2)}!", data["label"][2]]
    finding = examined(data)["near_duplicates"]
    assert (finding.count, finding.rows) == (1, {"train": [61]})


def test_missing_values():
    data = table()
    data.loc[[4, 8], "text"] = None
    data.loc[[8, 9], "label"] = None
    finding = examined(data)["missing_values"]
    assert (finding.level, finding.count, finding.rows) == ("FAIL", 3, {"train": [4, 8, 9]})
    unlabelled = {"train": table(), "test": table().assign(label=None)}
    assert examined(unlabelled)["missing_values"].level == "PASS"  # as test splits on the Hub often are


def test_empty_and_truncated_texts():
    data = table(200)
    data.loc[[3, 5], "text"] = [" ", "\n\t"]
    finding = examined(data)["empty_or_truncated_texts"]
    assert (finding.level, finding.rows) == ("FAIL", {"train": [3, 5]})
    long = [(sentence(i) + " ") * (2 + i % 6) for i in range(200)]
    assert examined(table(200).assign(text=long))["empty_or_truncated_texts"].level == "PASS"
    cut = [text[:120] for text in long]
    finding = examined(table(200).assign(text=cut))["empty_or_truncated_texts"]
    assert (finding.level, finding.count) == ("WARN", sum(len(text) == 120 for text in cut))
    dots = [*long[:-1], (sentence(7) * 9)[: max(map(len, long))].rstrip() + "..."]
    finding = examined(table(200).assign(text=dots))["empty_or_truncated_texts"]
    assert finding.rows == {"train": [199]}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Billing", "billing", True), ("card lost", "card_lost", True), ("card-lost", "Card Lost ", True),
        ("A", "A-", False), ("1", "-1", False), ("1-2", "12", False), ("c", "c++", False), ("ﬁre", "fire", True),
        ("1 star", "1star", True), ("billing", "filing", False),
    ],
)  # fmt: skip
def test_class_names(a, b, same):
    assert (folded_name(a) == folded_name(b)) is same


def test_similar_class_names():
    data = table()
    data.loc[[10, 20], "label"] = ["Mood 0", "mood_1"]
    finding = examined(data)["similar_class_names"]
    assert (finding.level, finding.count, finding.rows) == ("FAIL", 2, {"train": [10, 20]})
    assert "'Mood 0' is 'mood 0'" in finding.mend


def test_missing_classes():
    train, test = table(60, 3), table(20, 2)
    assert examined({"train": train, "test": test})["missing_classes"].level == "WARN"  # one that test lacks
    strange = test.copy()
    strange.loc[4, "label"] = "mood 9"
    finding = examined({"train": train, "test": strange})["missing_classes"]
    assert (finding.level, finding.count, finding.rows) == ("FAIL", 2, {"test": [4]})
    assert examined(table(30, 1))["missing_classes"].level == "FAIL"
    declared = Dataset.from_dict({"text": table()["text"].tolist(), "label": [0, 1] * 30})
    declared = declared.cast_column("label", ClassLabel(names=["a", "b", "c"]))
    finding = examined(DatasetDict(train=declared))["missing_classes"]
    assert (finding.level, finding.count) == ("WARN", 1)
    assert "'c'" in finding.mend


def test_imbalance_says_the_weights():
    rng = np.random.default_rng(1)
    data = table(260).assign(label=rng.permutation(["a"] * 200 + ["b"] * 39 + ["c"] * 21))
    finding = examined(data)["imbalance"]
    assert (finding.level, finding.count) == ("WARN", 2)
    weights = 260 / (3 * np.array([200, 39, 21]))  # "balanced" of scikit-learn
    assert f"{weights.min():.2f} to {weights.max():.2f}" in finding.mend
    assert "--class_weights auto" in finding.mend
    assert RARE == losses.RARE
    even = table(240).assign(label=rng.permutation(["a"] * 200 + ["b"] * 40))
    assert examined(even)["imbalance"].level == "PASS"  # exactly five times


def test_too_few_rows():
    data = table(40)
    assert set(ENOUGH) == set(METHOD_NAMES)
    assert examined(data, method="probe")["too_few_rows"].level == "PASS"
    finding = examined(data, method="full")["too_few_rows"]
    assert (finding.level, finding.count) == ("WARN", 2)
    data.loc[len(data)] = ["alone in the world", "single"]
    finding = examined(data, method="probe")["too_few_rows"]
    assert (finding.level, finding.rows) == ("FAIL", {"train": [40]})


def test_sorted_rows():
    data = table(90, 3)
    assert examined(data)["sorted_rows"].level == "PASS"
    finding = examined(data.sort_values("label"))["sorted_rows"]
    assert (finding.level, finding.count) == ("WARN", 90)
    rng = np.random.default_rng(0)
    shuffled = [examined(data.sample(frac=1, random_state=i))["sorted_rows"].level for i in range(30)]
    assert set(shuffled) == {"PASS"}
    nearly = data.sort_values("label").reset_index(drop=True)
    nearly.loc[rng.choice(90, 9, replace=False), "label"] = "mood 0"
    assert examined(nearly)["sorted_rows"].level == "WARN"


def test_leaks():
    data = table(300, 3)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 1000, 300)
    assert examined(data.assign(number=noise, word=noise.astype(str)))["leaky_feature"].level == "PASS"
    code = data["label"].map({"mood 0": "x", "mood 1": "y", "mood 2": "z"})
    path = [f"scan_{c}_{i}" for i, c in enumerate(code)]  # no value twice, but the pattern tells
    score = code.map({"x": 0.0, "y": 5.0, "z": 10.0}) + rng.random(300)
    finding = examined(data.assign(code=code, path=path, score=score, number=noise))["leaky_feature"]
    assert (finding.level, finding.count) == ("WARN", 3)
    assert re.findall(r"column '(\w+)'", finding.mend) == ["code", "path", "score"]
    longer = [
        t + " and more of it" * (label == "mood 1") for t, label in zip(data["text"], data["label"], strict=True)
    ]
    assert "length of the text" in examined(data.assign(text=longer))["leaky_feature"].mend


def test_predictability_is_held_out():
    labels = np.random.default_rng(0).integers(0, 2, 400)
    accuracy, majority = predictability([f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)], labels)
    assert accuracy == majority  # values that never come again tell nothing
    assert predictability(labels.tolist(), labels)[0] == 1.0
    assert majority == pytest.approx(np.bincount(labels).max() / 400, abs=0.01)


def test_findings_hold_no_rows_content():
    data = table(60)
    data.loc[len(data)] = ["the secret of row sixty", "mood 0"]
    data.loc[len(data)] = ["the secret of row sixty", "mood 1"]
    data.loc[len(data)] = ["the secret of row sixty!", "mood 1"]
    said = json.dumps([asdict(finding) for finding in examined(data).values()])
    assert "secret" not in said


def test_edges():
    two = examined(pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}))
    assert [name for name, f in two.items() if f.level == "FAIL"] == ["too_few_rows"]
    assert examined(pd.DataFrame({"text": ["a", "b"], "label": [None, None]}))["missing_values"].count == 2
    assert examined(pd.DataFrame({"text": [None, None], "label": ["a", "b"]}))["missing_values"].count == 2
    same = examined(pd.DataFrame({"text": ["the same"] * 20_000, "label": ["x", "y"] * 10_000}))
    assert (same["exact_duplicates"].count, same["conflicting_labels"].count) == (19_999, 1)
    assert same["near_duplicates"].count == 0
    huge = "lorem ipsum dolor " * 150_000
    big = examined(pd.DataFrame({"text": [f"{huge}{i}" for i in range(4)], "label": ["x", "y"] * 2}))
    assert (big["exact_duplicates"].count, big["near_duplicates"].count) == (0, 3)
    many = pd.DataFrame(
        {"text": [sentence(i) for i in range(4000)], "label": [f"class {i % 1000}" for i in range(4000)]}
    )
    assert examined(many, method="probe")["too_few_rows"].count == 1000


def test_one_template_is_one_group():
    texts = [f"your order {i:05d} has been shipped and will arrive within three working days" for i in range(3000)]
    group = near_text_groups(texts)
    assert np.bincount(group).max() > 2990
