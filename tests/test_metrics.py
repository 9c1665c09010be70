import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from hftl.errors import DataError
from hftl.tasks import CLASSES, LABELS, NUMBER
from hftl.tasks.scores import as_metric, lines, measure
from tests.paired import log_loss


def random_ids(rows, classes, seed=0):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, classes, rows)
    return np.where(rng.random(rows) < 0.6, references, rng.integers(0, classes, rows)), references


def compute_metrics(predictions, references):
    names, codes = np.unique(np.stack([predictions, references]), return_inverse=True)
    return measure(CLASSES, *codes.reshape(2, -1), names)


def per_class(predictions, references, labels):
    return lines(CLASSES, predictions, references, labels)


def sklearn_scores(predictions, references):
    options = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": sk.accuracy_score(references, predictions),
        "macro_f1": sk.f1_score(references, predictions, **options),
        "macro_precision": sk.precision_score(references, predictions, **options),
        "macro_recall": sk.recall_score(references, predictions, **options),
    }


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 20), (500, 2), (3000, 77)])
def test_compute_metrics_equals_sklearn(rows, classes):
    predictions, references = random_ids(rows, classes)
    assert compute_metrics(predictions, references) == pytest.approx(
        sklearn_scores(predictions, references), abs=1e-12
    )


def test_by_hand():
    # Class 0: precision 1/1, recall 1/2; class 1: precision 1/3, recall 1/1; class 2: never predicted.
    scores = compute_metrics(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2]))
    assert scores == pytest.approx(
        {
            "accuracy": 0.5,
            "macro_precision": (1 + 1 / 3) / 3,
            "macro_recall": (1 / 2 + 1) / 3,
            "macro_f1": (2 / 3 + 1 / 2) / 3,
        }
    )
    assert all(type(value) is float for value in scores.values())


def test_macro_runs_over_the_classes_that_occur():
    # Class 5 is only predicted, class 7 never occurs: two classes, one of them at 0.
    assert compute_metrics(np.array([3, 3, 5]), np.array([3, 3, 3]))["macro_f1"] == pytest.approx(0.8 / 2)


def test_a_second_call_does_not_remember_the_first():
    compute_metrics(np.array([0, 1]), np.array([1, 0]))
    assert compute_metrics(np.array([0, 1]), np.array([0, 1]))["accuracy"] == 1.0


def test_scores_are_an_evaluate_metric_that_takes_batches():
    import evaluate

    predictions, references = random_ids(100, 4)
    combined = evaluate.combine([as_metric(CLASSES, "abcd")])
    for start in range(0, 100, 32):
        combined.add_batch(predictions=predictions[start : start + 32], references=references[start : start + 32])
    assert combined.compute() == pytest.approx(sklearn_scores(predictions, references), abs=1e-12)
    sets = as_metric(LABELS, "ab").compute(predictions=[[1, 0], [0, 0]], references=[[1, 0], [0, 1]])
    assert (sets["exact"], sets["micro_precision"]) == (0.5, 1.0)
    numbers = as_metric(NUMBER, ("price",)).compute(predictions=[1.5, 2.0], references=[1.0, 2.0])
    assert numbers["mae"] == 0.25


def test_the_metric_needs_no_network_and_writes_no_file(tmp_path):
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from hftl.tasks import CLASSES\n"
        "from hftl.tasks.scores import as_metric\n"
        "import sys; assert 'evaluate' not in sys.modules\n"
        "assert as_metric(CLASSES, 'ab').compute(predictions=[0, 1], references=[0, 0])['accuracy'] == 0.5\n"
    )
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=120)
    assert not list(tmp_path.rglob("*.arrow"))


def test_per_class_equals_sklearn_report():
    predictions, references = random_ids(400, 5)
    labels = ["a", "b", "c", "d", "e"]
    rows = per_class(predictions, references, labels)
    report = sk.classification_report(references, predictions, target_names=labels, output_dict=True)
    assert [row["label"] for row in rows] == labels
    for row in rows:
        expected = report[row["label"]]
        assert (row["precision"], row["recall"]) == pytest.approx((expected["precision"], expected["recall"]))
        assert row["f1"] == pytest.approx(expected["f1-score"])
        assert row["support"] == expected["support"]
        assert [type(row[key]) for key in ("precision", "recall", "f1", "support")] == [float, float, float, int]


def test_per_class_lists_classes_that_never_occur():
    rows = per_class(np.array([0, 0]), np.array([0, 0]), ["seen", "unseen"])
    assert rows[0] == {"label": "seen", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}
    assert rows[1] == {"label": "unseen", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_log_loss_equals_sklearn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 6)) * 3
    references = rng.integers(0, 6, 200)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = sk.log_loss(references, probabilities, labels=range(6))
    assert log_loss(logits, references) == pytest.approx(expected, abs=1e-12)
    assert log_loss(logits + 1e4, references) == pytest.approx(expected, abs=1e-9)


def test_log_loss_of_a_confidently_wrong_row_is_finite():
    assert log_loss(np.array([[0.0, 2000.0]], dtype=np.float32), np.array([0])) == pytest.approx(2000.0)


@pytest.mark.parametrize("references", [[-100, 0], [0, 3], [0]])
def test_log_loss_refuses_bad_references(references):
    with pytest.raises(DataError):
        log_loss(np.zeros((2, 3)), np.array(references))


def test_log_loss_refuses_flat_logits():
    with pytest.raises(DataError, match="rows, classes"):
        log_loss(np.zeros(3), np.array([0, 1, 0]))
