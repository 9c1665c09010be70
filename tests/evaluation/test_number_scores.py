"""Scores of numbers against scikit-learn and scipy, also where the numbers are large or all equal."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from hftl.errors import DataError
from hftl.evaluation.bootstrap import intervals, paired_differences
from hftl.evaluation.number_scores import (
    COMPARED,
    SCORES,
    conformal_width,
    coverage,
    number_statistics,
    spearman,
)
from hftl.tasks import NUMBER
from hftl.tasks.scores import worst_rows


def scores_of(answers, targets):
    sums = np.asarray(number_statistics(answers, targets).sum(axis=0))[None]
    return {name: float(score(sums)[0]) for name, score in SCORES.items()}


def some_numbers(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=rows)
    return 0.7 * targets + 0.5 * rng.normal(size=rows), targets


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (2000, 1), (1e9, 1), (-1e6, 1e-3), (0, 1e-8), (0, 1e8)])
def test_equal_scikit_learn_far_from_zero_too(offset, scale):
    answers, targets = (offset + scale * values for values in some_numbers())
    assert scores_of(answers, targets) == pytest.approx(
        {
            "r2": r2_score(targets, answers),
            "rmse": root_mean_squared_error(targets, answers),
            "mae": mean_absolute_error(targets, answers),
            "pearson": np.corrcoef(answers, targets)[0, 1],
        },
        rel=1e-9,
    )


def test_equal_values_have_no_correlation():
    varied = np.arange(4.0)
    for same in (0.0, 0.1, 1e9 + 0.1):
        constant = np.full(4, same)
        scores = scores_of(varied, constant)
        assert (scores["r2"], scores["pearson"]) == (0, 0)
        assert scores_of(constant, varied)["pearson"] == 0
        assert spearman(constant, varied).value == 0
        bounds = intervals(number_statistics(varied, constant), SCORES, resamples=50)
        assert all(np.isfinite([b.low, b.high]).all() for b in bounds.values())
    assert scores_of([3.0], [1.0]) == {"r2": 0, "rmse": 2, "mae": 2, "pearson": 0}
    assert intervals(number_statistics([3.0], [1.0]), SCORES, resamples=50)["mae"].low == 2
    two = np.repeat([0.1, 0.3], [199, 1])  # resamples of one value alone
    assert np.isfinite(intervals(number_statistics(two, two), SCORES, resamples=200)["r2"].low)


def test_refuses_what_does_not_pair_up():
    for answers, targets in (([1.0], [1.0, 2.0]), ([], []), ([np.nan], [1.0]), ([1.0], [np.inf])):
        with pytest.raises(DataError):
            number_statistics(answers, targets)
    assert number_statistics([[1.0], [2.0]], [1.0, 2.0]).shape == (2, 8)


def test_a_better_model_has_the_smaller_error():
    answers, targets = some_numbers(400)
    worse = answers + np.random.default_rng(1).normal(size=400)
    gaps = paired_differences(number_statistics(answers, targets), number_statistics(worse, targets), SCORES, {})
    assert (gaps["r2"].label, gaps["rmse"].label) == ("POSITIVE", "NEGATIVE")
    assert list(gaps) == list(COMPARED)


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_equals_scipy(seed):
    answers, targets = some_numbers(60, seed)
    for pair in ((answers, targets), (answers.round(), targets.round())):
        interval = spearman(*pair)
        assert interval.value == pytest.approx(stats.spearmanr(*pair).statistic)
        assert interval.low < interval.value < interval.high
    z, reach = np.arctanh(interval.value), 1.959964 * np.sqrt((1 + interval.value**2 / 2) / 57)
    assert (interval.low, interval.high) == pytest.approx((np.tanh(z - reach), np.tanh(z + reach)))
    perfect = spearman(targets, targets)
    assert (perfect.value, perfect.high) == (1, 1)
    assert 0.99 < perfect.low < 1
    assert spearman([1, 2, 3], [1, 2, 3]).low == -1


def test_conformal_width_is_the_rank_that_it_should_be():
    assert conformal_width(np.arange(1, 20), 0.95) == 19
    assert conformal_width(np.arange(1, 19), 0.95) is None
    assert conformal_width(-np.arange(1, 100), 0.9) == 90
    assert conformal_width(np.arange(1, 20), 0.55) == 11  # 20 x .55 is a little more than 11 in floats
    assert conformal_width([], 0.9) is None


def test_conformal_width_covers():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        residuals = rng.standard_t(3, 51)
        inside.append(abs(residuals[50]) <= conformal_width(residuals[:50], 0.9))
    assert np.mean(inside) == pytest.approx(46 / 51, abs=0.02)
    found = coverage(np.zeros(10), np.arange(10), 4.0)
    assert found.value == 0.5
    assert found.low < 0.2


def test_worst_rows():
    rows = worst_rows(NUMBER, np.array([[1.0], [2.0], [9.0]]), np.array([1.0, 5.0, 8.0]), 5)
    assert rows == [
        {"row": 1, "true": 5.0, "predicted": 2.0, "loss": 3.0},
        {"row": 2, "true": 8.0, "predicted": 9.0, "loss": 1.0},
    ]
    assert worst_rows(NUMBER, np.array([[1.0]]), np.array([0.0]), 0) == []


def test_scores_of_one_row_are_no_shares():
    """Of a single row nothing can be drawn but itself; an error of 1 is no share of rows that are right."""
    scores = intervals(number_statistics([3.0], [4.0]), SCORES)
    assert {name: (s.value, s.low, s.high) for name, s in scores.items()} == {
        "r2": (0, 0, 0), "rmse": (1, 1, 1), "mae": (1, 1, 1), "pearson": (0, 0, 0),
    }  # fmt: skip
