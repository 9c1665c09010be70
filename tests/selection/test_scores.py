"""LogME against its definition, worked out slowly; ranks against what is known of the models."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from hftl.selection.scores import log_evidence, rank_models
from hftl.tasks import get_task
from hftl.tasks.outputs.classes import CLASSES
from hftl.tasks.outputs.number import NUMBER


def slow_evidence(x: np.ndarray, y: np.ndarray) -> float:
    """The same by brute force: y is normal with covariance x x' / alpha + 1 / beta, searched over both."""

    def loss(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = x @ x.T / alpha + np.eye(len(x)) / beta
        return -multivariate_normal.logpdf(y, np.zeros(len(x)), covariance) / len(x)

    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    return -min(
        minimize(loss, start, method="Nelder-Mead", options=options).fun for start in ([0, 0], [5, 2], [-3, 3])
    )


@pytest.mark.parametrize(("n", "d"), [(40, 6), (25, 60), (30, 30)])
def test_log_evidence_is_that_of_the_definition(n, d):
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d)) * np.exp(rng.normal(size=d)) + 0.3
    y = x @ rng.normal(size=(d, 3)) * [1.0, 0.2, 0.0] + rng.normal(size=(n, 3)) * [0.3, 1.0, 1.0]
    expected = np.mean([slow_evidence(x, column) for column in y.T])
    assert log_evidence(x, y) == pytest.approx(expected, abs=1e-5)


def test_log_evidence_is_higher_for_features_that_separate_the_classes_whatever_their_width():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, 300)
    noise = rng.normal(size=(300, 50))
    apart = rng.normal(size=(300, 20)) + 2 * rng.normal(size=(4, 20))[ids]
    columns = CLASSES.columns(ids, "abcd")
    assert log_evidence(apart, columns) > log_evidence(noise, columns) + 0.1
    assert log_evidence(np.hstack([apart, noise]), columns) < log_evidence(apart, columns)  # width costs


def test_a_class_without_rows_and_repeated_features_change_nothing():
    rng = np.random.default_rng(1)
    x, ids = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)
    own = log_evidence(x, CLASSES.columns(ids, "abc"))
    assert log_evidence(x, CLASSES.columns(ids, "abcde")) == pytest.approx(own)
    twice = np.hstack([x, x]) / np.sqrt(2)  # the same x x', of rank 5
    assert log_evidence(twice, CLASSES.columns(ids, "abc")) == pytest.approx(own, abs=1e-6)


def test_columns_of_every_output_have_a_row_for_every_unit():
    tags = get_task("token-classification").output
    targets = tags.gather([[0, 1, 2], [1]])
    assert tags.columns(targets, ["O", "B-a", "B-b"]).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    labels = get_task("text-classification", "multi_label_classification").output
    assert labels.columns(labels.gather([[0, 1], [1, 1]]), ["a", "b"]).tolist() == [[0, 1], [1, 1]]
    assert NUMBER.columns(np.array([1.5, 2.0]), ["price"]).tolist() == [[1.5], [2.0]]


def test_ranks_are_certain_where_models_differ_and_wide_where_they_are_alike():
    rng = np.random.default_rng(2)
    true = rng.integers(0, 3, 400)
    answers = [np.where(rng.random(400) < share, true, (true + 1) % 3) for share in (0.5, 0.9, 0.89, 0.7)]
    ranks = rank_models(CLASSES, answers, true, "abc")
    assert [(r.low, r.high) for r in ranks] == [(4, 4), (1, 2), (1, 2), (3, 3)]
    assert ranks[0].score.value == (answers[0] == true).mean()
    best = max(range(4), key=lambda i: ranks[i].score.value)
    assert ranks[best].behind.value == ranks[best].behind.high == 0
    alike = ranks[3 - best].behind  # the other of the two
    assert alike.low < 0 < alike.high
    assert ranks[0].behind.low > 0.3


def test_paired_ranks_see_a_small_lead_that_is_never_lost():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 2, 500)
    first = np.where(rng.random(500) < 0.7, true, 1 - true)
    second = first.copy()
    wrong = np.flatnonzero(first != true)[:12]
    second[wrong] = true[wrong]  # right wherever the first is, and on twelve more rows
    ranks = rank_models(CLASSES, [first, second], true, "ab")
    assert [(r.low, r.high) for r in ranks] == [(2, 2), (1, 1)]
    assert ranks[0].score.high > ranks[1].score.low  # their own intervals overlap


def test_numbers_are_ranked_by_their_headline():
    rng = np.random.default_rng(4)
    true = rng.normal(size=300)
    near, far = true + 0.3 * rng.normal(size=300), true + 0.9 * rng.normal(size=300)
    ranks = rank_models(NUMBER, [far, near, near], true, ["price"])
    assert [(r.low, r.high) for r in ranks] == [(3, 3), (1, 2), (1, 2)]  # equal models stand in any order


def test_log_evidence_of_columns_that_say_nothing():
    assert log_evidence(np.ones((4, 2)), np.ones((4, 3))) == -np.inf
