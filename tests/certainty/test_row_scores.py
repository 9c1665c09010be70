import tracemalloc

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss

from hftl.errors import DataError
from hftl.evaluation import row_scores as module
from hftl.evaluation.row_scores import row_scores
from tests.certainty.cases import drawn_logits


@pytest.mark.parametrize(
    ("rows", "classes", "temperature"), [(1, 2, 1.0), (300, 2, 0.4), (200, 1000, 1.7), (5, 1, 2.0)]
)
def test_equals_scipy_and_sklearn(rows, classes, temperature):
    logits, labels = drawn_logits(rows, classes)
    scores = row_scores(logits, labels, temperature)
    probabilities = softmax(logits / temperature, axis=1)
    at = np.arange(rows)
    np.testing.assert_array_equal(scores.predicted, logits.argmax(axis=1))
    np.testing.assert_array_equal(scores.correct, logits.argmax(axis=1) == labels)
    np.testing.assert_allclose(scores.confidence, probabilities.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scores.true_probability, probabilities[at, labels], rtol=1e-10)
    expected = -log_softmax(logits / temperature, axis=1)[at, labels]
    np.testing.assert_allclose(scores.loss, expected, rtol=1e-10, atol=1e-14)
    if classes > 1:
        brier = brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=False)
        assert scores.brier.mean() == pytest.approx(brier, abs=1e-12)


def test_probabilities_of_exactly_0_and_1():
    logits = np.array([[3e38, -3e38, 0], [5000, 0, 0]], dtype=np.float32)
    scores = row_scores(logits, np.array([0, 1]))
    assert scores.confidence.tolist() == [1.0, 1.0]
    assert scores.true_probability.tolist() == [1.0, 0.0]
    assert scores.loss.tolist() == [0.0, 5000.0]
    assert scores.brier.tolist() == [0.0, 2.0]
    assert row_scores(logits, np.array([1, 1]), 0.05).loss[0] == pytest.approx(20 * 2 * float(np.float32(3e38)))


def test_a_temperature_does_not_change_the_prediction():
    low = np.linspace(1.5, 1.99, 50)
    logits = np.stack([low, np.nextafter(low, 2)], axis=1)
    assert (logits[:, 0] / 1.7 == logits[:, 1] / 1.7).any()  # a plain division rounds two logits to one
    assert row_scores(logits, np.ones(50, dtype=int), 1.7).predicted.all()


def test_chunks_do_not_change_the_result(monkeypatch):
    logits, labels = drawn_logits(101, 9)
    whole = row_scores(logits, labels)
    monkeypatch.setattr(module, "_CHUNK_VALUES", 40)  # four rows
    parts = row_scores(logits, labels)
    for name in ("predicted", "confidence", "true_probability", "loss", "brier"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_many_rows_and_classes_stay_small():
    logits = np.random.default_rng(0).standard_normal((30_000, 1000), dtype=np.float32)
    tracemalloc.start()
    row_scores(logits, np.zeros(30_000, dtype=int), 1.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # the logits alone are 120 MB in fp32


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), [0, 0, 0], "rows, classes"),
        (np.zeros((0, 3)), [], "at least one"),
        (np.zeros((2, 3)), [0], "2 class ids"),
        (np.zeros((2, 3)), [0, 3], "0 to 2"),
        (np.zeros((2, 3)), [-100, 0], "0 to 2"),
        (np.zeros((2, 3)), [0.0, 1.0], "float64"),
        (np.array([[0, np.nan]]), [0], "finite"),
        (np.array([[0, np.inf]]), [0], "finite"),
    ],
)
def test_bad_input_is_named(logits, labels, message):
    with pytest.raises(DataError, match=message):
        row_scores(logits, np.array(labels))
