"""Checks of labels, each on a table with one known fault."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hftl.doctor.label_checks import folded_name, runs_by_chance
from tests.command import shell
from tests.doctor.tables import examined, table


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
    assert "'Mood 0' is 'mood 0'" in finding.fix


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
    assert "'c'" in finding.fix


def test_imbalance_says_the_weights():
    rng = np.random.default_rng(1)
    data = table(260).assign(label=rng.permutation(["a"] * 200 + ["b"] * 39 + ["c"] * 21))
    finding = examined(data)["imbalance"]
    assert (finding.level, finding.count) == ("WARN", 2)
    weights = 260 / (3 * np.array([200, 39, 21]))  # "balanced" of scikit-learn
    assert f"{weights.min():.2f} to {weights.max():.2f}" in finding.fix
    assert "--class_weights auto" in finding.fix
    even = table(240).assign(label=rng.permutation(["a"] * 200 + ["b"] * 40))
    assert examined(even)["imbalance"].level == "PASS"  # exactly five times


def test_the_checks_load_no_torch(tmp_path):
    done = shell(["-c", "import sys, hftl.doctor.label_checks; assert 'torch' not in sys.modules"], tmp_path)
    assert done.code == 0, done.err


def test_too_few_rows():
    data = table(40)
    assert examined(data, method="probe")["too_few_rows"].level == "PASS"
    finding = examined(data, method="full")["too_few_rows"]
    assert (finding.level, finding.count) == ("WARN", 2)
    data.loc[len(data)] = ["alone in the world", "single"]
    finding = examined(data, method="probe")["too_few_rows"]
    assert (finding.level, finding.rows) == ("FAIL", {"train": [40]})


def test_runs_by_chance_equal_a_simulation():
    rng = np.random.default_rng(0)
    for counts in (np.array([5, 5]), np.array([30, 8, 2, 1]), np.full(40, 2)):
        labels = np.repeat(np.arange(len(counts)), counts)
        runs = [1 + (np.diff(rng.permutation(labels)) != 0).sum() for _ in range(8000)]
        mean, deviation = runs_by_chance(counts)
        assert mean == pytest.approx(np.mean(runs), abs=4 * deviation / 8000**0.5)
        assert deviation == pytest.approx(np.std(runs), rel=0.05)


@pytest.mark.parametrize(("classes", "each"), [(2, 10), (1000, 2), (77, 20)])
def test_sorted_rows_of_any_number_of_classes(classes, each):
    data = table(classes * each, classes).sort_values("label")
    assert examined(data)["sorted_rows"].level == "WARN"
    assert examined(data.sample(frac=1, random_state=0))["sorted_rows"].level == "PASS"


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
