"""Scores of several labels against scikit-learn, and thresholds against a search of all of them."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, precision_score, recall_score

from hftl.errors import DataError
from hftl.evaluation.bootstrap import intervals
from hftl.evaluation.label_scores import (
    COMPARED,
    SCORES,
    choose_thresholds,
    label_statistics,
    mean_average_precision,
    row_units,
)
from hftl.evaluation.row_scores import row_scores
from hftl.tasks import LABELS
from hftl.tasks.scores import lines, worst_rows


def some_labels(rows=120, labels=6, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, labels)) < np.linspace(0.02, 0.6, labels)).astype(np.int64)
    outputs = rng.normal(size=(rows, labels)) * 1.5 + 2 * targets - 1.5
    return (np.round(outputs) if ties else outputs), targets


def scores_of(answers, targets):
    sums = np.asarray(label_statistics(answers, targets).sum(axis=0))[None]
    return {name: float(score(sums)[0]) for name, score in SCORES.items()}


@pytest.mark.parametrize("seed", range(5))
def test_equal_scikit_learn(seed):
    outputs, targets = some_labels(seed=seed)
    answers = LABELS.decode(outputs)
    occurs = (answers + targets).any(axis=0)
    assert scores_of(answers, targets) == pytest.approx(
        {
            "micro_f1": f1_score(targets, answers, average="micro"),
            "macro_f1": f1_score(targets[:, occurs], answers[:, occurs], average="macro", zero_division=0),
            "exact": accuracy_score(targets, answers),
            "micro_precision": precision_score(targets, answers, average="micro"),
            "micro_recall": recall_score(targets, answers, average="micro"),
        }
    )
    table = lines(LABELS, answers, targets, list("abcdef"))
    assert [line["f1"] for line in table] == pytest.approx(f1_score(targets, answers, average=None, zero_division=0))
    assert [line["support"] for line in table] == targets.sum(axis=0).tolist()


def test_nothing_true_and_nothing_answered():
    none = np.zeros((3, 2), dtype=int)
    assert scores_of(none, none) == {
        "micro_f1": 0, "macro_f1": 0, "exact": 1, "micro_precision": 0, "micro_recall": 0,
    }  # fmt: skip
    assert mean_average_precision(np.zeros((3, 2)), none).value == 0
    with pytest.raises(DataError):
        label_statistics(none, none[:2])


def test_intervals_hold_the_values():
    outputs, targets = some_labels()
    answers = LABELS.decode(outputs)
    bounds = intervals(label_statistics(answers, targets), {name: SCORES[name] for name in COMPARED}, resamples=300)
    for name, value in scores_of(answers, targets).items():
        if name in COMPARED:
            assert bounds[name].low < value < bounds[name].high
    perfect = intervals(label_statistics(targets, targets), {"exact": SCORES["exact"]}, resamples=50)["exact"]
    assert (perfect.value, perfect.high) == (1, 1)
    assert 0.95 < perfect.low < 1


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_equals_scikit_learn(ties):
    outputs, targets = some_labels(ties=ties, seed=3)
    targets[:, 0] = 0
    interval = mean_average_precision(outputs, targets)
    assert interval.value == pytest.approx(
        np.mean([average_precision_score(targets[:, i], outputs[:, i]) for i in range(1, 6)])
    )
    assert interval.low < interval.value < interval.high
    few = mean_average_precision(outputs, targets, operations=1)
    assert few.value == interval.value
    assert few.low == pytest.approx(interval.low, abs=0.03)


def test_the_bootstrap_of_average_precision_equals_drawing_rows(monkeypatch):
    monkeypatch.setattr("hftl.evaluation.label_scores.corrected_levels", lambda *_: None)
    monkeypatch.setattr("hftl.evaluation.label_scores._ENOUGH_RESAMPLES", 1)
    outputs, targets = some_labels(rows=60, ties=True)
    found = mean_average_precision(outputs, targets, operations=60 * 6 * 200)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(200):
        rows = rng.integers(0, 60, 60)
        y, z = targets[rows], outputs[rows]
        drawn.append(np.mean([average_precision_score(y[:, i], z[:, i]) for i in range(6) if y[:, i].any()]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.025)


def test_thresholds_are_the_best_of_all():
    outputs, targets = some_labels(rows=120, seed=5)
    thresholds = choose_thresholds(outputs, targets)
    answers = expit(outputs) > thresholds
    probabilities = expit(outputs)
    for label in range(6):
        y, p = targets[:, label], probabilities[:, label]
        if y.sum() < 10:
            assert thresholds[label] == 0.5
            continue
        best = max(f1_score(y, p > t) for t in [0, *np.unique(p)[:-1]])
        assert f1_score(y, answers[:, label]) == pytest.approx(best)
    assert ((thresholds > 0) & (thresholds < 1)).all()


def test_thresholds_of_even_and_of_saturated_outputs():
    targets = np.array([[1]] * 20 + [[0]] * 20)
    assert choose_thresholds(np.where(targets, 3.0, -3.0), targets) == pytest.approx([0.5])
    assert choose_thresholds(np.zeros((40, 1)), targets) == pytest.approx([0.25])
    both = np.where(targets, 1000.0, -1000.0)
    assert ((expit(both) > choose_thresholds(both, targets)) == targets).all()


def test_worst_rows_and_units():
    outputs, targets = some_labels()
    worst = worst_rows(LABELS, outputs, targets, 1000)
    wrong = (LABELS.decode(outputs) != targets).any(axis=1)
    assert len(worst) == wrong.sum()
    first = worst[0]
    p = expit(outputs[first["row"]])
    assert first["loss"] == pytest.approx(6 * log_loss(targets[first["row"]], p, labels=[0, 1]))
    assert [row["loss"] for row in worst] == sorted((row["loss"] for row in worst), reverse=True)
    assert first["true"] == np.flatnonzero(targets[first["row"]]).tolist()
    assert first["predicted"] == np.flatnonzero(outputs[first["row"]] > 0).tolist()
    logits, ids = row_units(outputs, targets)
    assert row_scores(logits, ids).loss.mean() == pytest.approx(log_loss(targets.ravel(), expit(outputs).ravel()))
