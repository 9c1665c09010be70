from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import binomtest

from hftl.errors import DataError
from hftl.evaluation.bootstrap import proportion_interval
from hftl.evaluation.slices import MISSING, OTHER, Grouping, by_quantiles, by_values, right_slices
from tests.certainty.cases import plain


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (7, 10), (0, 50), (950, 1000), (99_990, 100_000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_proportion_interval_is_the_exact_one(hits, rows, level):
    interval = proportion_interval(hits, rows, level)
    expected = binomtest(hits, rows).proportion_ci(level, method="exact")
    assert interval.value == hits / rows
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (2, 1), (-1, 3)])
def test_proportion_of_nothing_is_refused(hits, rows):
    with pytest.raises(DataError):
        proportion_interval(hits, rows)


def test_quantiles_of_different_values_are_of_equal_size():
    lengths = np.random.default_rng(0).permutation(np.arange(1, 101))
    grouping = by_quantiles("text length", lengths, "characters")
    assert grouping.names == tuple(f"{low} to {low + 24} characters" for low in (1, 26, 51, 76))
    np.testing.assert_array_equal(grouping.codes, (lengths - 1) // 25)


def test_equal_values_stay_together():
    grouping = by_quantiles("size", [7, 7, 7, 7, 7, 9, 12, 12.5])
    assert grouping.names == ("7", "9", "12 to 12.5")
    assert grouping.codes.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]
    assert by_quantiles("size", [3] * 5, "px").names == ("3 px",)
    assert by_quantiles("size", [], "px").names == ()
    assert by_quantiles("size", [1, 2, 3], parts=1).names == ("1 to 3",)


def test_numbers_that_are_missing_are_a_slice():
    grouping = by_quantiles("age", [np.nan, 1, 2, np.nan], parts=2)
    assert (grouping.names, grouping.codes.tolist()) == (("1", "2", MISSING), [2, 0, 1, 2])
    assert by_quantiles("age", [np.nan]).names == (MISSING,)


def test_values_by_frequency():
    values = ["web", "mail", None, "web", 3, float("nan"), "web", "mail", "=cmd()", ""]
    grouping = by_values("source", values, limit=3)
    assert grouping.names == ("web", MISSING, "mail", OTHER)
    assert grouping.codes.tolist() == [0, 2, 1, 0, 3, 1, 0, 2, 3, 3]
    assert by_values("source", values).names == ("web", MISSING, "mail", "", "3", "=cmd()")
    assert by_values("source", []).names == ()


def test_long_values_are_cut():
    texts = ["x" * 3_000_000 + "a", "x" * 3_000_000 + "b"]
    grouping = by_values("source", texts)
    assert len(set(grouping.codes.tolist())) == 2
    assert {len(name) for name in grouping.names} == {80}


def test_scores_of_slices():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, 1000)
    lengths = rng.integers(1, 500, 1000)
    source = rng.choice(["good", "bad"], 1000, p=[0.9, 0.1])
    wrong = np.where(source == "bad", rng.random(1000) < 0.5, rng.random(1000) < 0.1)
    predicted = np.where(wrong, (truth + 1) % 5, truth)
    found = right_slices([by_quantiles("length", lengths), by_values("source", source)], predicted == truth)
    assert [s.by for s in found] == ["length"] * 4 + ["source"] * 2
    by_name = {s.name: s for s in found}
    for name in ("good", "bad"):
        right = (predicted == truth)[source == name]
        expected = proportion_interval(int(right.sum()), len(right))
        assert (by_name[name].count, by_name[name].value) == (len(right), right.mean())
        assert (by_name[name].low, by_name[name].high) == (expected.low, expected.high)
    assert [s.name for s in found if s.weak] == ["bad"]
    assert sum(s.count for s in found[:4]) == 1000
    assert plain([asdict(s) for s in found])[5]["name"] == "bad"


def test_chance_alone_makes_no_slice_weak():
    false = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = np.zeros(200, dtype=int)
        predicted = (rng.random(200) > 0.9).astype(int)
        groupings = [by_quantiles("a", rng.random(200)), by_values("b", rng.integers(0, 30, 200).tolist(), limit=30)]
        false += any(s.weak for s in right_slices(groupings, predicted == truth))
    assert false / 300 <= 0.05


def test_one_wrong_row_is_no_weak_slice():
    truth = np.zeros(1000, dtype=int)
    predicted = (np.arange(1000) % 20 == 0).astype(int)  # 95% are right, the first row is not
    found = right_slices([by_values("source", ["new"] + ["old"] * 999)], predicted == truth)
    assert [(s.name, s.count, s.weak) for s in found] == [("old", 999, False), ("new", 1, False)]


def test_what_compares_nothing_is_left_out():
    right = np.array([True, True])
    assert right_slices([by_values("mode", ["RGB", "RGB"])], right) == []
    assert right_slices([], right) == []
    assert right_slices([by_values("mode", [])], right[:0]) == []
    unused = Grouping("part", np.array([0, 2]), ("a", "never", "b"))
    assert [s.name for s in right_slices([unused], right)] == ["a", "b"]
