"""The bootstrap for any score that is a function of sums, on scores that are not those of classes."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from hftl.evaluation.bootstrap import intervals, kinds_of, paired_differences, resampled_sums


def rmse(sums):
    return np.sqrt(sums[:, 1] / sums[:, 0])


def micro_f1(sums):
    hits, total = sums[:, 0], sums[:, 1]
    return 2 * hits / np.maximum(total, 1)


def squared_errors(rows, spread, seed):
    errors = np.random.default_rng(seed).normal(scale=spread, size=rows)
    return np.stack([np.ones(rows), errors**2], axis=1)


def test_equals_a_slow_loop():
    statistics = squared_errors(80, 2.0, 0)
    interval = intervals(statistics, {"rmse": rmse}, resamples=300, seed=5)["rmse"]
    rng, scores = np.random.default_rng(5), []
    for _ in range(300):
        rows = rng.integers(0, 80, 80)
        scores.append(np.sqrt(statistics[rows, 1].mean()))
    assert interval.value == pytest.approx(np.sqrt(statistics[:, 1].mean()))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))


def test_rows_of_equal_statistics_are_one_kind():
    rows = np.array([[0, 2.5], [1, 0], [0, 0], [0, 2.5], [1, 2.5], [1, 0], [0, 0]])
    kinds = kinds_of(sparse.csr_array(rows))
    assert len(kinds.counts) == 4
    np.testing.assert_array_equal(kinds.statistics.toarray()[kinds.of_row], rows)
    np.testing.assert_array_equal(kinds.counts[kinds.of_row], [2, 2, 2, 2, 1, 2, 2])
    assert kinds_of(np.zeros((3, 2))).counts.tolist() == [3]


def test_spans_that_a_row_has_several_of():
    rng = np.random.default_rng(0)
    true = rng.integers(1, 4, 400)
    good, bad = rng.binomial(true, 0.9), rng.binomial(true, 0.6)
    methods = [np.stack([hits, 2 * true], axis=1) for hits in (good, bad)]
    gap = paired_differences(*methods, {"f1": micro_f1}, {})["f1"]
    assert gap.label == "POSITIVE"
    assert gap.gap == pytest.approx((good.sum() - bad.sum()) / true.sum())
    assert gap.p < 0.001
    back = paired_differences(*methods[::-1], {"f1": micro_f1}, {})["f1"]
    assert (back.label, back.gap) == ("NEGATIVE", -gap.gap)
    assert paired_differences(methods[0], methods[0], {"f1": micro_f1}, {})["f1"].p == 1


def test_two_equally_good_models_seldom_get_a_verdict():
    labels = [
        paired_differences(
            squared_errors(60, 1.0, seed), squared_errors(60, 1.0, seed + 1000), {"rmse": rmse}, {}, resamples=300
        )["rmse"].label
        for seed in range(100)
    ]
    assert labels.count("NEUTRAL") >= 90


def test_a_draw_of_kinds_is_a_draw_of_rows():
    values, counts = np.array([[1.0, 0], [0, 2]]), [30, 10]
    sums = resampled_sums(values, counts, np.random.default_rng(0), times=4000)
    np.testing.assert_array_equal(sums[:, 0] + sums[:, 1] / 2, 40)
    assert sums[:, 0].mean() == pytest.approx(30, abs=0.3)
    assert sums[:, 0].std() == pytest.approx(np.sqrt(40 * 0.75 * 0.25), rel=0.1)


def test_scores_of_training_need_no_evaluate():
    code = (
        "import sys, numpy as np\n"
        "from hftl.tasks import CLASSES\n"
        "from hftl.tasks.scores import measure\n"
        "measure(CLASSES, np.array([0, 1]), np.array([0, 0]), 'ab')\n"
        "sys.exit('evaluate' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
