"""Verdicts on populations whose true gap is known: how often the interval holds it, how often a label is false."""

import numpy as np
import pytest

from tests.evidence.populations import population
from tests.paired import compare_paired


def simulate(people, rows, times, resamples, seed=0):
    """Return, for accuracy and macro-F1, how often the interval holds the true gap and how often a label is not NEUTRAL;
    and the share of rows on which one model alone is right."""
    rng = np.random.default_rng(seed)
    truth = people.gaps()
    covered, called, differing = np.zeros(2), np.zeros(2), 0
    for i in range(times):
        method, baseline, true = people.draw(rows, rng)
        found = compare_paired(method, baseline, true, resamples=resamples, seed=i)
        for j, score in enumerate((found, found.beside["macro_f1"])):
            covered[j] += score.low <= truth[j] <= score.high
            called[j] += score.label != "NEUTRAL"
        differing += ((method == true) != (baseline == true)).sum()
    return covered / times, called / times, differing / times


def test_intervals_cover_and_false_labels_are_rare():
    covered, _, _ = simulate(population(3, 0.9, 0.05, 0.5), 200, 300, 500)
    assert (covered > 0.91).all()  # 0.95, less three standard errors
    assert (covered < 0.99).all()
    covered, called, _ = simulate(population(3, 0.8, 0.0, 0.5), 200, 300, 500)
    assert (called < 0.08).all()  # at most 0.05, and three standard errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [50, 200, 1000])
@pytest.mark.parametrize("correlation", [0.2, 0.8])
@pytest.mark.parametrize(
    ("accuracy", "gap"), [(0.6, 0.0), (0.65, 0.05), (0.9, 0.0), (0.9, 0.05), (0.97, 0.0), (0.97, 0.03)]
)
def test_coverage_over_sizes_accuracies_and_correlations(rows, correlation, accuracy, gap):
    times = 500
    people = population(4, accuracy, gap, correlation)
    covered, called, differing = simulate(people, rows, times, 400)
    error = 2.6 * np.sqrt(0.05 * 0.95 / times)  # of the simulation
    assert (covered >= 0.93 - error).all()
    if differing >= 10:  # with fewer no two-sided test can be exact, and the interval errs on the wide side
        assert covered[0] <= 0.97 + error
    if gap == 0:
        assert called[0] <= 0.06 + error
        assert called[1] <= 0.06 + error
