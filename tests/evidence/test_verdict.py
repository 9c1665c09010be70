import tracemalloc
from dataclasses import replace
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from hftl.evaluation import bootstrap, verdict
from hftl.evaluation.verdict import paired_p
from hftl.tasks.outputs.labels import LABELS
from hftl.tasks.scores import compare
from tests.evidence.populations import population
from tests.paired import compare_paired


def drawn(rows, seed=0, classes=4, accuracy=0.85, gap=0.08):
    return population(classes, accuracy, gap, 0.5, skewed=True).draw(rows, np.random.default_rng(seed))


def rows_with(wins, losses, same):
    """Two classes; rows that the method alone has right, the baseline alone, and both."""
    method = np.repeat([1, 0, 1], [wins, losses, same])
    baseline = np.repeat([0, 1, 1], [wins, losses, same])
    return method, baseline, np.ones_like(method)


@pytest.mark.parametrize("seed", range(3))
def test_gaps_equal_sklearn(seed):
    method, baseline, true = drawn(300, seed)
    found = compare_paired(method, baseline, true, resamples=50)
    assert found.gap == pytest.approx(np.mean(method == true) - np.mean(baseline == true), abs=1e-12)
    labels = np.unique(true)  # every class is true at least once here
    f1 = [f1_score(true, p, labels=labels, average="macro", zero_division=0) for p in (method, baseline)]
    assert found.beside["macro_f1"].gap == pytest.approx(f1[0] - f1[1], abs=1e-12)


@pytest.mark.parametrize(("rows", "kind"), [(1, "UNDECIDED"), (49, "UNDECIDED"), (50, "EQUIVALENT")])
def test_a_few_rows_never_show_that_two_models_are_equally_good(rows, kind):
    """Two models that answer another label than the true one: F1 is 0 for both, whichever rows are drawn."""
    wrong, true = np.tile([1, 0], (rows, 1)), np.tile([0, 1], (rows, 1))
    found = compare(replace(LABELS, made_up=None), wrong, wrong, true, ("a", "b"))
    assert (found.gap, found.low, found.high, found.kind) == (0, 0, 0, kind)


def test_interval_of_accuracy_equals_a_slow_loop():
    method, baseline, true = drawn(150, gap=0.2)
    p = np.append((method == true).astype(int) - (baseline == true).astype(int), 0)
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(20_000):
        rows = rng.integers(0, 151, 150)  # the last is the made-up row: a coin says whose it is
        made_up = int((rows == 150).sum())
        gaps.append((p[rows].sum() + 2 * rng.binomial(made_up, 0.5) - made_up) / 150)
    low, high = np.quantile(gaps, [0.025, 0.975])
    found = compare_paired(method, baseline, true, resamples=20_000)
    assert found.p < 0.05  # else the interval is stretched
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.007)  # one row of 150


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (6, 0), (1, 9), (20, 9), (40, 15)])
def test_mcnemar_is_the_binomial_test_with_half_of_what_was_seen(wins, losses):
    method, baseline, true = rows_with(wins, losses, 60)
    expected = 1.0
    if wins + losses:
        # two-sided: both (5, 0) and (0, 5) are what was seen, each counted half
        expected = binomtest(wins, wins + losses, 0.5).pvalue - comb(wins + losses, wins) / 2 ** (wins + losses)
    assert paired_p(method == true, baseline == true) == pytest.approx(expected)
    found = compare_paired(method, baseline, true)
    assert found.p == pytest.approx(expected)
    assert (found.label == "NEUTRAL") == (found.low <= 0 <= found.high)
    assert found.label == "NEUTRAL" or expected < 0.05


def test_swap_p_of_macro_f1_equals_a_slow_loop():
    method, baseline, true = drawn(60, seed=4, gap=0.15)
    gap = f1_score(true, method, average="macro") - f1_score(true, baseline, average="macro")
    rng, extreme = np.random.default_rng(0), 0
    for _ in range(1500):
        swap = rng.random(60) < 0.5
        a, b = np.where(swap, baseline, method), np.where(swap, method, baseline)
        other = f1_score(true, a, average="macro") - f1_score(true, b, average="macro")
        extreme += abs(other) >= abs(gap) - 1e-12
    found = compare_paired(method, baseline, true, resamples=4000)
    assert found.beside["macro_f1"].p == pytest.approx(extreme / 1500, abs=0.04)


def test_turned_round_it_says_the_opposite():
    method, baseline, true = drawn(1000, gap=0.1)
    one, other = compare_paired(method, baseline, true), compare_paired(baseline, method, true)
    assert (one.label, other.label) == ("POSITIVE", "NEGATIVE")
    assert one.gap == pytest.approx(-other.gap)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.005)
    assert one.p == pytest.approx(other.p)


@pytest.mark.parametrize(
    ("method", "baseline", "true"),
    [
        ([1], [0], [1]),
        ([0], [1], [1]),
        ([0], [0], [0]),
        ([1, 1], [0, 0], [1, 1]),
        ([0, 1], [1, 0], [0, 1]),
        ([2], [3], [4]),
    ],
)
def test_one_or_two_rows_show_nothing(method, baseline, true):
    found = compare_paired(np.array(method), np.array(baseline), np.array(true))
    for score in (found, found.beside["macro_f1"]):
        assert score.label == "NEUTRAL"
        assert -1 <= score.low <= 0 <= score.high <= 1
        assert score.low <= score.gap <= score.high
        assert score.p >= 0.24


@pytest.mark.parametrize("rows", [3, 50, 1000])
def test_identical_predictions_are_neutral_within_the_rule_of_three(rows):
    method, _, true = drawn(rows)
    found = compare_paired(method, method, true)
    assert (found.label, found.gap, found.p, found.beside["macro_f1"].gap, found.beside["macro_f1"].p) == (
        "NEUTRAL",
        0,
        1,
        0,
        1,
    )
    assert -3 / rows <= found.low < 0 < found.high <= 3 / rows


def test_one_class_that_both_have_right():
    ones = np.ones(40, dtype=int)
    found = compare_paired(ones, ones, ones)
    assert (found.label, found.gap, found.beside["macro_f1"].gap) == ("NEUTRAL", 0, 0)


def test_any_ids_will_do_and_the_order_of_rows_does_not_matter_much():
    method, baseline, true = drawn(400)
    names = np.array([-100, 7, 10**12, 10**13])
    found = compare_paired(method, baseline, true)
    assert compare_paired(names[method], names[baseline], names[true]) == found
    assert compare_paired(method, baseline, true) == found
    assert compare_paired(method, baseline, true, seed=1) != found


def test_chunks_do_not_change_the_result(monkeypatch):
    rows = drawn(201)
    whole = compare_paired(*rows, resamples=100)
    for draws in (1, 201 * 7):
        monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", draws)
        found = compare_paired(*rows, resamples=100)
        assert (found.low, found.high, found.p) == (whole.low, whole.high, whole.p)
        assert (found.beside["macro_f1"].low, found.beside["macro_f1"].high) == (
            whole.beside["macro_f1"].low,
            whole.beside["macro_f1"].high,
        )


def test_many_rows_and_classes_stay_small():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 1000, 100_000)
    method, baseline = (np.where(rng.random(100_000) < p, true, rng.integers(0, 1000, 100_000)) for p in (0.8, 0.79))
    tracemalloc.start()
    found = compare_paired(method, baseline, true, resamples=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6
    assert found.label == "POSITIVE"


@pytest.mark.parametrize(
    ("counts", "label", "kind"),
    [
        ((30, 5, 165), "POSITIVE", None),
        ((5, 30, 165), "NEGATIVE", None),
        ((12, 7, 5), "NEUTRAL", "UNDECIDED"),
        ((40, 40, 1920), "NEUTRAL", "EQUIVALENT"),
        ((0, 0, 30), "NEUTRAL", "UNDECIDED"),
        ((0, 0, 1000), "NEUTRAL", "EQUIVALENT"),
    ],
)
def test_the_two_kinds_of_neutral(counts, label, kind):
    found = compare_paired(*rows_with(*counts))
    assert (found.label, found.kind) == (label, kind)
    inside = found.low >= -verdict.MARGIN and found.high <= verdict.MARGIN
    assert kind != "EQUIVALENT" or inside
    assert (found.rows_needed is None) or kind == "UNDECIDED"


def test_the_rows_that_would_decide_do_decide_in_most_draws():
    """Rows like those that were seen, as many as the estimate says: about 80% of verdicts are then decided."""
    method, baseline, true = rows_with(12, 7, 21)
    needed = compare_paired(method, baseline, true).rows_needed
    rng = np.random.default_rng(1)
    shares = np.array([12.5, 7.5, 21]) / 41
    decided = sum(
        verdict.accuracy_difference(*(rows == 1 for rows in rows_with(*rng.multinomial(needed, shares))[:2])).label
        == "POSITIVE"
        for _ in range(400)
    )
    assert 0.7 <= decided / 400 <= 0.9


def test_a_gap_of_nothing_takes_more_rows_than_there_are():
    assert verdict.rows_needed(np.array([True, False] * 20), np.array([False, True] * 20)) is None


def test_accuracy_alone_says_the_same_as_the_whole_verdict():
    method, baseline, true = drawn(300)
    found = verdict.accuracy_difference(method == true, baseline == true)
    whole = compare_paired(method, baseline, true)
    assert (found.gap, found.p, found.label) == (pytest.approx(whole.gap), whole.p, whole.label)
    assert [found.low, found.high] == pytest.approx([whole.low, whole.high], abs=0.007)
