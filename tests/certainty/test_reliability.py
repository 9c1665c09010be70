import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from hftl.evaluation import bootstrap, calibration
from hftl.evaluation.calibration import ece_with_interval, merged_bins, reliability_bins
from hftl.evaluation.row_scores import row_scores
from tests.certainty.cases import drawn_logits, plain


def slow_ece(logits, labels, bins):
    """The definition of Guo et al. 2017, equation 3, row by row."""
    total = 0.0
    probabilities = softmax(np.asarray(logits, dtype=np.float64), axis=1)
    for m in range(bins):
        inside = []
        for row, label in zip(probabilities, labels, strict=True):
            if m / bins < row.max() <= (m + 1) / bins:
                inside.append((float(row.argmax() == label), row.max()))
        if inside:
            accuracy, confidence = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize(
    ("rows", "classes", "bins"), [(1, 2, 15), (2, 3, 15), (400, 2, 15), (300, 1000, 10), (50, 5, 1)]
)
def test_equals_a_loop_over_the_definition(rows, classes, bins):
    logits, labels = drawn_logits(rows, classes, temperature=1.6)
    assert ece_with_interval(row_scores(logits, labels), bins)[0].value == pytest.approx(
        slow_ece(logits, labels, bins), abs=1e-12
    )


def test_certain_rows():
    certain = np.array([[2000.0, 0], [2000.0, 0], [2000.0, 0], [0, 2000.0]])
    assert ece_with_interval(row_scores(certain, np.array([0, 0, 0, 1])))[0].value == 0.0
    assert ece_with_interval(row_scores(certain, np.array([0, 0, 1, 0])))[0].value == 0.5
    assert (
        ece_with_interval(row_scores(np.zeros((4, 2)), np.array([0, 1, 0, 1])))[0].value == 0.0
    )  # .5, right half the time


def test_bins_hold_every_row_and_match_sklearn():
    logits, labels = drawn_logits(2000, 3, strength=2)
    scores = row_scores(logits, labels)
    bins = plain(reliability_bins(scores))
    assert sum(b["count"] for b in bins) == 2000
    assert [bins[0]["low"], bins[-1]["high"]] == [0.0, 1.0]
    assert [b["high"] for b in bins[:-1]] == [b["low"] for b in bins[1:]]
    accuracy, confidence = calibration_curve(scores.correct, scores.confidence, n_bins=15)
    filled = [b for b in bins if b["count"]]
    np.testing.assert_allclose([b["accuracy"] for b in filled], accuracy)
    np.testing.assert_allclose([b["confidence"] for b in filled], confidence)
    empty = [b for b in bins if not b["count"]]
    assert empty  # no prediction of three classes has a confidence under a third
    assert all(b["accuracy"] is None and b["confidence"] is None for b in empty)
    gaps = [b["count"] / 2000 * abs(b["accuracy"] - b["confidence"]) for b in filled]
    assert sum(gaps) == pytest.approx(ece_with_interval(row_scores(logits, labels))[0].value, abs=1e-12)


def test_bins_are_closed_above():
    logits = np.log(np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 1e-300]]))
    counts = [b["count"] for b in reliability_bins(row_scores(logits, np.zeros(3, dtype=int)), 4)]
    assert counts == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "temperature", "least"),
    [(100, 1.0, 0.93), (1000, 1.0, 0.93), (200, 1.5, 0.87), (1000, 2.0, 0.9), (400, 0.6, 0.87)],
)
def test_interval_holds_the_true_error(rows, temperature, least):
    big, labels = drawn_logits(100_000, 5, seed=99, temperature=temperature)
    calibrated = row_scores(big / temperature, labels).confidence  # the true chance that a row is right
    scores = row_scores(big, labels)
    inside = calibration._bin_of(scores.confidence, 15)
    truth = np.abs(np.bincount(inside, weights=calibrated - scores.confidence)).sum() / len(labels)
    assert (truth < 1e-12) == (temperature == 1)
    found = []
    for seed in range(150):
        interval, _ = ece_with_interval(row_scores(*drawn_logits(rows, 5, seed, temperature=temperature)))
        assert interval.low <= interval.value <= interval.high
        found.append(interval.low <= truth <= interval.high)
    assert np.mean(found) >= least


def test_what_chance_alone_shows():
    values, chances = [], []
    for seed in range(60):
        interval, by_chance = ece_with_interval(row_scores(*drawn_logits(150, 4, seed, strength=2)))
        values.append(interval.value)
        chances.append(by_chance)
    assert np.mean(chances) == pytest.approx(np.mean(values), rel=0.1)
    assert np.mean(values) > 0.05  # although the model is calibrated


def test_chunks_do_not_change_the_interval(monkeypatch):
    scores = row_scores(*drawn_logits(90, 4, temperature=2))
    whole = ece_with_interval(scores)
    monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", 90 * 2)
    parts = ece_with_interval(scores)
    assert parts[0].value == whole[0].value
    assert (parts[0].low, parts[0].high) == pytest.approx((whole[0].low, whole[0].high), abs=1e-12)


def test_one_row():
    interval, _ = ece_with_interval(row_scores(np.array([[800.0, 0]]), np.array([0])))
    assert (interval.low, interval.value, interval.high) == (0.0, 0.0, 0.0)


def test_small_bins_are_merged_for_the_plot():
    counts = [0, 3, 0, 9, 12, 0, 1, 2]
    bins = [
        {
            "low": i / 8,
            "high": (i + 1) / 8,
            "count": n,
            "confidence": i / 8 if n else None,
            "accuracy": 1.0 if n else None,
        }
        for i, n in enumerate(counts)
    ]
    found = merged_bins(bins)
    assert [(b["low"], b["high"], b["count"]) for b in found] == [(1 / 8, 4 / 8, 12), (4 / 8, 1.0, 15)]
    assert found[0]["confidence"] == pytest.approx((3 * 1 + 9 * 3) / 8 / 12)
    assert found[1]["accuracy"] == pytest.approx(1.0)
    assert merged_bins(bins[:3])[0]["count"] == 3  # too few rows for two dots
    assert merged_bins(bins[:1]) == []
    assert merged_bins(bins, least=1) == [b for b in bins if b["count"]]
