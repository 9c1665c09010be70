"""Splits that are not drawn alike: class shares, scores apart by more than chance, groups told by file names."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, fisher_exact

from hftl.doctor import doctor
from hftl.evaluation.bootstrap import unpaired_p
from hftl.evidence.shifts import class_shares
from tests.doctor.pictures import scene
from tests.runs import text_frame, tiny_run


def accuracy(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


@pytest.mark.parametrize(("first", "second"), [((18, 20), (120, 200)), ((60, 100), (61, 100)), ((40, 50), (150, 250))])
def test_two_sets_of_rows_against_fishers_exact_test(first, second):
    rows = [np.array([[1.0, 1.0]] * hits + [[0.0, 1.0]] * (n - hits)) for hits, n in (first, second)]
    expected = fisher_exact([[h, n - h] for h, n in (first, second)]).pvalue
    assert unpaired_p(*rows, accuracy) == pytest.approx(expected, abs=0.03)


def test_a_p_value_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        right = (rng.random(140) < 0.7).astype(float)
        rows = np.stack([right, np.ones(140)], axis=1)
        values.append(unpaired_p(rows[:40], rows[40:], accuracy, times=300))
    assert np.mean(np.array(values) < 0.05) <= 0.1
    assert 0.4 < np.mean(values) < 0.7  # scores of few rows tie often, which is on the safe side


def test_class_shares_against_scipy():
    train, test = np.array([100, 200, 300]), np.array([80, 60, 60])
    found = class_shares(train, test, ("a", "b", "c"))
    assert found["p"] == pytest.approx(chi2_contingency([train, test]).pvalue)
    assert [one["label"] for one in found["classes"]] == ["a", "c"]
    assert found["classes"][0] == {"label": "a", "train": pytest.approx(1 / 6), "test": pytest.approx(0.4)}
    rare = class_shares(np.array([100, 200, 300, 6, 5]), np.array([80, 60, 60, 4, 3]), ("a", "b", "c", "d", "e"))
    assert rare["p"] == pytest.approx(chi2_contingency([[*train, 11], [*test, 7]]).pvalue)
    assert [one["label"] for one in rare["classes"]] == ["a", "c"]
    assert class_shares(np.array([50, 60]), np.array([22, 20]), ("a", "b")) is None
    assert class_shares(np.array([1, 2]), np.array([1, 0]), ("a", "b")) is None
    assert class_shares(np.array([5, 0]), np.array([5, 0]), ("a", "b")) is None


def test_a_run_whose_test_rows_are_others(tmp_path):
    """Test rows with wrong labels, and of one class above all: both are said, and stand in report.json."""
    folder = tmp_path / "data"
    folder.mkdir()
    frame = text_frame(240)
    frame[:160].to_csv(folder / "train.csv", index=False)
    frame[160:200].to_csv(folder / "validation.csv", index=False)
    wrong = frame[200:].assign(label="class_0")
    pd.concat([wrong, wrong]).to_csv(folder / "test.csv", index=False)
    report = tiny_run("bert", "probe", tmp_path, data=str(folder)).report
    shares, (told,) = report["data"]["class_shares"], [n for n in report["warnings"] if "class shares" in n]
    assert shares["p"] < 1e-6
    assert {one["label"] for one in shares["classes"]} == {"class_0", "class_1", "class_2"}
    assert shares["classes"][0] == {"label": "class_0", "train": pytest.approx(1 / 3, abs=0.1), "test": 1.0}
    assert "'class_0'" in told
    (apart,) = [note for note in report["warnings"] if "that is more than chance" in note]
    assert apart.startswith("Accuracy ")
    assert "--group_column" in apart
    alike = tiny_run("bert", "probe", tmp_path, "alike", data=frame).report
    assert alike["data"]["class_shares"] is None
    assert not [note for note in alike["warnings"] if "more than chance" in note]


def objects(root: Path, splits: tuple[str, ...], own: bool) -> Path:
    """Images of six objects a class, four of each; with `own`, every split has objects of its own."""
    for i in range(12 * 4):
        number, view = divmod(i, 4)
        split = splits[(number if own else view) % len(splits)]
        folder = root / split / ("mug" if number % 2 else "cup")
        folder.mkdir(parents=True, exist_ok=True)
        scene(i, (48, 48)).save(folder / f"obj{number}_{view}.png")
    return root


def test_the_doctor_proposes_groups_by_file_names(tmp_path):
    def found(folder: Path):
        return {finding.check: finding for finding in doctor(str(folder))}["file_groups"]

    one = found(objects(tmp_path / "one", ("train",), own=True))
    assert (one.level, one.count) == ("INFO", 12)
    assert "--group_column file_name" in one.fix
    mixed = found(objects(tmp_path / "mixed", ("train", "test"), own=False))
    assert (mixed.level, mixed.count, mixed.by_split) == ("WARN", 48, {"train": 24, "test": 24})
    assert "12 groups lie in several splits" in mixed.fix
    assert found(objects(tmp_path / "apart", ("train", "test"), own=True)).level == "INFO"
    plain = tmp_path / "plain"
    for i in range(24):  # a name for each class, and a counter: no groups
        folder = plain / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(i, (48, 48)).save(folder / f"{'ab'[i % 2]}_{i}.png")
    assert found(plain).level == "PASS"
