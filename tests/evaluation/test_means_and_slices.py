"""Means of neighbours against scikit-learn, and slices by any score."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from hftl.evaluation.label_scores import SCORES as LABEL_SCORES
from hftl.evaluation.label_scores import label_statistics
from hftl.evaluation.neighbours import neighbour_means
from hftl.evaluation.number_scores import SCORES, number_statistics
from hftl.evaluation.slices import by_quantiles, by_values, score_slices


def test_means_are_scikit_learns():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)), rng.normal(size=200)
    y += 3 * x[:, 0]
    answers = {}
    for k in (1, 5, 10, 20):
        model = KNeighborsRegressor(k, metric="cosine")
        alone = [model.fit(np.delete(x[:150], i, 0), np.delete(y[:150], i)).predict(x[[i]])[0] for i in range(150)]
        answers[((alone - y[:150]) ** 2).sum()] = model.fit(x[:150], y[:150]).predict(x[150:])
    np.testing.assert_allclose(neighbour_means(x[:150], y[:150], x[150:]), answers[min(answers)])


def test_means_of_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4))
    y = (x[:, :2] > 0).astype(int)
    found = neighbour_means(x[:80], y[:80], x[80:])
    assert found.shape == (20, 2)
    assert ((found >= 0.5) == y[80:]).mean() > 0.8
    assert neighbour_means(x[:1], y[:1], x).tolist() == [y[0].tolist()] * 100


def numbers(rows, rng):
    targets = rng.normal(size=rows)
    return targets + 0.5 * rng.normal(size=rows), targets


def test_a_worse_slice_is_found_and_no_other():
    rng = np.random.default_rng(0)
    answers, targets = numbers(600, rng)
    groups = np.array(list("abc")).repeat(200)
    answers[:200] += rng.normal(size=200)
    statistics = number_statistics(answers, targets)
    for name, smaller in (("r2", False), ("rmse", True)):
        slices = score_slices([by_values("group", groups)], statistics, SCORES[name], smaller=smaller, resamples=200)
        assert {s.name: s.weak for s in slices} == {"a": True, "b": False, "c": False}
        assert all(s.low < s.value < s.high and s.count == 200 for s in slices)
        alone = number_statistics(answers[:200], targets[:200]).sum(axis=0)[None]
        assert slices[[s.name for s in slices].index("a")].value == pytest.approx(SCORES[name](alone)[0])
    assert score_slices([by_values("mode", ["RGB"] * 600)], statistics, SCORES["r2"]) == []


def test_few_wrong_rows_are_no_proof():
    targets = np.ones((100, 1), dtype=int)
    answers = targets.copy()
    answers[:2] = 0
    groups = by_values("group", ["few"] * 2 + ["many"] * 98)
    found = score_slices([groups], label_statistics(answers, targets), LABEL_SCORES["exact"], resamples=50)
    assert not any(s.weak for s in found)


@pytest.mark.parametrize("rows", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_slices_of_one_strength_are_seldom_called_weak(rows):
    rng, called, times = np.random.default_rng(0), 0, 150
    for _ in range(times):
        answers, targets = numbers(rows, rng)
        groupings = [by_quantiles("length", rng.random(rows)), by_values("source", rng.integers(0, 12, rows))]
        found = score_slices(groupings, number_statistics(answers, targets), SCORES["rmse"], smaller=True, resamples=2)
        called += any(s.weak for s in found)
    assert called / times < 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)
