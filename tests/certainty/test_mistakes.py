import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix

from hftl.evaluation.row_scores import confusion
from hftl.tasks import CLASSES, scores
from tests.certainty.cases import drawn_logits, plain


def worst_rows(logits, labels, limit):
    return scores.worst_rows(CLASSES, logits, labels, limit)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (2, 3), (400, 6), (5000, 1000)])
def test_cells_are_those_of_sklearn(rows, classes):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)
    predicted = np.where(rng.random(rows) < 0.6, truth, rng.integers(0, classes, rows))
    cells = confusion(predicted, truth, classes)
    matrix = np.zeros((classes, classes), dtype=int)
    for true, guess, count in cells:
        matrix[true, guess] = count
    np.testing.assert_array_equal(matrix, confusion_matrix(truth, predicted, labels=range(classes)))
    assert len(cells) == np.count_nonzero(matrix) <= rows
    assert cells == sorted(cells)
    assert plain(cells) == [list(cell) for cell in cells]


def test_no_rows():
    empty = np.array([], dtype=int)
    assert confusion(empty, empty, 3) == []


def test_worst_rows_equal_a_sort_over_all():
    logits, labels = drawn_logits(500, 6, temperature=2)
    losses = -log_softmax(logits, axis=1)[np.arange(500), labels]
    found = worst_rows(logits, labels, 20)
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    assert [row["row"] for row in found] == sorted(wrong, key=lambda i: -losses[i])[:20]
    for row in found:
        assert row["loss"] == pytest.approx(losses[row["row"]], rel=1e-10)
        assert row["true_probability"] == pytest.approx(np.exp(-row["loss"]), rel=1e-9)
        assert (row["true"], row["predicted"]) == (labels[row["row"]], logits[row["row"]].argmax())
        assert row["probability"] >= row["true_probability"]
    assert plain(found)[0]["row"] == found[0]["row"]


def test_huge_losses_are_told_apart():
    # All three have a probability of exactly 0 for the truth.
    logits = np.array([[0, 2000], [0, 3e38], [0, 2001], [5, 0]], dtype=np.float32)
    found = worst_rows(logits, np.zeros(4, dtype=int), 3)
    assert [(row["row"], row["loss"]) for row in found] == [(1, float(np.float32(3e38))), (2, 2001.0), (0, 2000.0)]
    assert {(row["probability"], row["true_probability"]) for row in found} == {(1.0, 0.0)}


def test_right_answers_are_no_errors():
    logits = np.array([[2.0, 0], [0.1, 0], [0, 3.0]])
    assert [row["row"] for row in worst_rows(logits, np.array([0, 0, 0]), 3)] == [2]
    assert worst_rows(logits, logits.argmax(1), 3) == []


def test_equal_losses_keep_their_order_and_limits_hold():
    logits, labels = np.zeros((5, 2)), np.ones(5, dtype=int)
    assert [row["row"] for row in worst_rows(logits, labels, 3)] == [0, 1, 2]
    assert len(worst_rows(logits, labels, 99)) == 5
    assert worst_rows(logits, labels, 0) == []
