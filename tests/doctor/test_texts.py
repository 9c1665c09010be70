"""Checks of texts, each on a table with one known fault; sizes at the edge."""

import pandas as pd

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
        assert (finding.level, finding.count, finding.rows, finding.fix) == ("PASS", 0, {}, ""), finding


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
