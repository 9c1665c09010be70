from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import beta

from hftl.evaluation.abstain import abstain_report, abstain_threshold, risk_coverage
from hftl.evaluation.row_scores import row_scores
from tests.certainty.cases import drawn_logits, plain


def rows_of(confidence, correct):
    """Rows with these confidences: all that a threshold looks at."""
    return SimpleNamespace(confidence=np.array(confidence, dtype=float), correct=np.array(correct, dtype=bool))


def slow_threshold(confidence, correct, precision, least):
    """Try every confidence that occurs, from the lowest on."""
    for threshold in sorted(set(confidence.tolist())):
        accepted = correct[confidence >= threshold]
        if len(accepted) >= least and accepted.mean() >= precision:
            return threshold
    return None


@pytest.mark.parametrize(("precision", "least"), [(0.5, 2), (0.8, 5), (0.9, 10), (0.95, 20), (0.99, 100)])
def test_equals_a_search_over_all_confidences(precision, least):
    for seed in range(20):
        scores = row_scores(*drawn_logits(200, 4, seed, strength=3))
        rounded = rows_of(np.round(scores.confidence, 2), scores.correct)  # with many ties
        for rows in (scores, rounded):
            found = abstain_threshold(rows, precision)
            slow = slow_threshold(rows.confidence, rows.correct, precision, least)
            assert (found is None) == (slow is None)
            if found is not None:
                np.testing.assert_array_equal(rows.confidence >= found, rows.confidence >= slow)


def test_rounding_does_not_turn_the_last_row_away():
    logits, labels = drawn_logits(500, 5, strength=3)
    threshold = abstain_threshold(row_scores(logits, labels), 0.9)
    accepted = softmax(logits.astype(np.float32), axis=1).max(axis=1) >= threshold
    np.testing.assert_array_equal(accepted, row_scores(logits, labels).confidence >= threshold)


def test_all_rows_are_precise_enough():
    assert abstain_threshold(rows_of([0.9] * 19 + [0.2], [1] * 19 + [0]), 0.95) == 0.0


@pytest.mark.parametrize(
    "rows",
    [
        rows_of([0.99] + [0.5] * 49, [1] + [0] * 49),  # one right row of 1 shows nothing
        rows_of([1.0] * 50, [1] * 40 + [0] * 10),  # equal confidence tells no row from another
        rows_of([0.9] * 19, [1] * 19),  # too few
        rows_of([1.0], [1]),
    ],
)
def test_out_of_reach(rows):
    assert abstain_threshold(rows, 0.95) is None


def test_certain_rows_are_taken_together():
    rows = rows_of([1.0] * 40 + [0.7] * 10, [1] * 39 + [0] + [0] * 10)
    assert 0.7 < abstain_threshold(rows, 0.95) <= 1.0


def test_other_rows_have_the_precision_on_average():
    test = row_scores(*drawn_logits(50_000, 5, seed=999, strength=3))
    reached = []
    for seed in range(60):
        threshold = abstain_threshold(row_scores(*drawn_logits(500, 5, seed, strength=3)), 0.9)
        reached.append(test.correct[test.confidence >= threshold].mean())
    assert np.mean(reached) == pytest.approx(0.9, abs=0.01)


def test_risk_coverage_points_lie_on_the_curve():
    scores = row_scores(*drawn_logits(1234, 4))
    points = plain(risk_coverage(scores, 50))
    assert len(points) == 50
    confidence = np.sort(scores.confidence)[::-1]
    for coverage, precision in points:
        accepted = scores.confidence >= confidence[round(coverage * 1234) - 1]
        assert coverage == accepted.mean()
        assert precision == pytest.approx(scores.correct[accepted].mean(), abs=1e-12)
    coverage = [point[0] for point in points]
    assert np.diff([0, *coverage]) == pytest.approx(1 / 50, abs=1 / 1234)
    assert (coverage[-1], points[-1][1]) == (1.0, scores.correct.mean())


@pytest.mark.parametrize(("rows", "points", "expected"), [(3, 100, 3), (1, 1, 1), (10, 3, 3)])
def test_risk_coverage_of_few_rows(rows, points, expected):
    assert len(risk_coverage(rows_of(np.arange(rows) / rows, [1] * rows), points)) == expected
    tied = risk_coverage(rows_of([1.0] * rows, [1] * rows), points)
    assert tied == [[1.0, 1.0]]


def test_report():
    validation, test = drawn_logits(800, 5, seed=1, strength=3), drawn_logits(600, 5, seed=2, strength=3)
    report = plain(abstain_report(*validation, *test, 0.9))
    scores = row_scores(*test)
    accepted = scores.confidence >= report["threshold"]
    hits, count = scores.correct[accepted].sum(), accepted.sum()
    assert report["coverage"] == count / 600
    assert report["test_precision"] == {
        "value": hits / count,
        "low": pytest.approx(beta.ppf(0.025, hits, count - hits + 1)),
        "high": pytest.approx(beta.ppf(0.975, hits + 1, count - hits)),
    }
    assert report["curve"] == plain(risk_coverage(scores))
    assert "within chance" in report["note"]
    cooled = abstain_report(validation[0] * 3, validation[1], test[0] * 3, test[1], 0.9, temperature=3)
    assert cooled["threshold"] == pytest.approx(report["threshold"])


def test_report_says_when_the_wish_does_not_hold_on_test():
    validation, (logits, labels) = drawn_logits(800, 3, seed=1), drawn_logits(500, 3, seed=2)
    report = abstain_report(*validation, logits, (labels + 1) % 3, 0.9)
    assert report["test_precision"]["high"] < 0.9
    assert "below the target, beyond chance" in report["note"]
    unsure = abstain_report(*validation, np.zeros((4, 3)), np.zeros(4, dtype=int), 0.95)
    assert (unsure["coverage"], unsure["test_precision"]) == (0, None)
    assert "No test row" in unsure["note"]


def test_report_says_why_there_is_no_threshold():
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(100, 4)), rng.integers(0, 4, 100))
    report = plain(abstain_report(*noise, *noise, 0.95))
    assert report["threshold"] is report["test_precision"] is report["coverage"] is None
    assert report["curve"][-1][0] == 1.0
    assert "No threshold reaches a precision of 95.0% on 20 or more of the 100 validation rows" in report["note"]
    few = drawn_logits(2, 2)
    assert "2 validation rows are too few" in abstain_report(*few, *few, 0.95)["note"]
