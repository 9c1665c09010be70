import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from hftl.errors import DataError
from hftl.evaluation import calibration
from hftl.evaluation.calibration import calibration_report, ece_with_interval, fit_temperature
from hftl.evaluation.row_scores import row_scores
from tests.certainty.cases import drawn_logits, plain


@pytest.mark.parametrize(("classes", "truth"), [(2, 0.5), (2, 3.0), (20, 1.6), (77, 0.4)])
def test_finds_the_temperature_that_the_logits_were_made_with(classes, truth):
    fitted = fit_temperature(*drawn_logits(3000, classes, temperature=truth))
    assert fitted.fitted
    assert fitted.value == pytest.approx(truth, rel=0.1)
    assert fitted.reason.startswith("Lowers the log loss of held-out validation rows")


def test_is_the_minimum_of_the_log_loss():
    logits, labels = drawn_logits(2000, 6, seed=3, temperature=2.2)

    def loss(beta):
        return -log_softmax(logits * beta, axis=1)[np.arange(2000), labels].mean()

    best = minimize(loss, 1.0, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x[0]
    fitted = fit_temperature(logits, labels)
    assert 1 / fitted.value == pytest.approx(best, rel=5e-3)  # the prior is worth that little
    assert loss(1 / fitted.value) == pytest.approx(loss(best), abs=1e-5)


def test_calibrated_logits_are_hardly_touched():
    test, truth = drawn_logits(20_000, 5, seed=1000)
    plain_loss = row_scores(test, truth).loss.mean()
    changes = []
    for seed in range(40):
        fitted = fit_temperature(*drawn_logits(200, 5, seed))
        if not fitted.fitted:
            assert fitted.value == 1.0
            assert "No temperature lowers" in fitted.reason
        changes.append(row_scores(test, truth, fitted.value).loss.mean() - plain_loss)
    assert sum(c == 0 for c in changes) > 20
    assert max(changes) < 0.03


@pytest.mark.parametrize("rows", [20, 50])
def test_few_rows_do_no_great_harm(rows):
    test, truth = drawn_logits(20_000, 2, seed=1000, strength=3)
    before = row_scores(test, truth).loss.mean()
    after = [
        row_scores(test, truth, fit_temperature(*drawn_logits(rows, 2, seed, strength=3)).value).loss.mean()
        for seed in range(40)
    ]
    assert max(after) < before + 0.15  # without the prior one of them costs 2


def test_no_wrong_row_leaves_it_at_1():
    logits = np.random.default_rng(0).normal(size=(200, 4))
    fitted = fit_temperature(logits, logits.argmax(axis=1))
    assert (fitted.value, fitted.fitted) == (1.0, False)
    assert "All 200 validation rows are right" in fitted.reason


@pytest.mark.parametrize("rows", [1, 2, 19])
def test_too_few_rows_leave_it_at_1(rows):
    fitted = fit_temperature(*drawn_logits(rows, 3, temperature=3))
    assert (fitted.value, fitted.fitted, fitted.rows) == (1.0, False, rows)
    assert "too few" in fitted.reason


def test_rows_of_one_class():
    logits, labels = drawn_logits(4000, 4, temperature=2)
    only = labels == 2
    fitted = fit_temperature(logits[only], labels[only])
    assert fitted.fitted  # some of them are wrong
    assert 1 < fitted.value < 4
    assert fit_temperature(logits[:, :1], np.zeros(4000, dtype=int)).value == 1.0  # one class in all


def test_confidence_that_means_nothing_ends_at_the_bound():
    rng = np.random.default_rng(0)
    fitted = fit_temperature(rng.normal(size=(3000, 3)) * 50, rng.integers(0, 3, 3000))
    assert fitted.value == pytest.approx(20, rel=0.01)
    assert "bound" in fitted.reason


def test_huge_logits():
    logits, labels = drawn_logits(300, 4, strength=4)
    fitted = fit_temperature((logits * 1e30).astype(np.float32), labels)
    assert fitted.value == pytest.approx(20, rel=0.01)
    assert "nan" not in fitted.reason


def test_many_logits_are_sampled(monkeypatch):
    logits, labels = drawn_logits(3000, 5, temperature=2)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr(calibration, "_MAX_VALUES", 1000 * 5)
    part = fit_temperature(logits, labels)
    assert (whole.rows, part.rows) == (3000, 1000)
    assert part.value == pytest.approx(whole.value, rel=0.15)
    assert part == fit_temperature(logits, labels)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="finite"):
        fit_temperature(np.full((30, 2), np.nan), np.zeros(30, dtype=int))
    with pytest.raises(DataError, match="30 class ids"):
        fit_temperature(np.zeros((30, 2)), np.zeros(29, dtype=int))


def test_report_is_about_the_test_rows():
    validation = drawn_logits(1500, 6, seed=1, temperature=2.5)
    test = drawn_logits(2500, 6, seed=2, temperature=2.5)
    temperature = fit_temperature(*validation)
    report = plain(calibration_report(*test, temperature))
    assert report["temperature"] == temperature.value
    for when, value in {"before": 1.0, "after": temperature.value}.items():
        found, scores = report[when], row_scores(*test, value)
        assert found["ece"] == ece_with_interval(scores)[0].value
        assert found["log_loss"] == scores.loss.mean()
        assert found["brier"] == scores.brier.mean()
    before, after = report["before"], report["after"]
    assert after["ece_high"] < before["ece_low"]
    assert after["ece"] < 2 * after["ece_if_calibrated"] < before["ece"]
    assert after["log_loss"] < before["log_loss"]
    assert [sum(b["count"] for b in report[f"bins_{when}"]) for when in ("before", "after")] == [2500, 2500]
    assert report["note"] == temperature.reason


def test_report_says_when_the_temperature_did_not_help_on_test():
    validation, test = drawn_logits(500, 4, temperature=3), drawn_logits(500, 4, seed=1, temperature=0.5)
    note = calibration_report(*test, fit_temperature(*validation))["note"]
    assert "log loss rose" in note


@pytest.mark.parametrize("rows", [1, 2])
def test_report_of_very_few_rows(rows):
    few = (np.array([[900.0, 0, 0], [0, 900.0, 0]])[:rows], np.array([0, 2])[:rows])
    report = plain(calibration_report(*few, fit_temperature(*few)))
    assert report["before"] == report["after"]
    assert report["before"]["log_loss"] == pytest.approx([0.0, 450.0][rows - 1])
