import time
import tracemalloc
from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from hftl.evaluation import bootstrap
from hftl.evaluation.bootstrap import proportion_interval
from tests.paired import bootstrap_intervals


def random_ids(rows, classes, seed=0):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, classes, rows)
    return np.where(rng.random(rows) < 0.6, references, rng.integers(0, classes, rows)), references


def slow_bootstrap(predictions, references, resamples, seed, level):
    """One resample at a time through scikit-learn: the definition, written as a loop."""
    rng = np.random.default_rng(seed)
    accuracy, macro_f1 = [], []
    for _ in range(resamples):
        rows = rng.integers(0, len(references), len(references))
        accuracy.append(accuracy_score(references[rows], predictions[rows]))
        macro_f1.append(f1_score(references[rows], predictions[rows], average="macro", zero_division=0))
    tail = 100 * (1 - level) / 2
    return {
        "accuracy": np.percentile(accuracy, [tail, 100 - tail]),
        "macro_f1": np.percentile(macro_f1, [tail, 100 - tail]),
    }


@pytest.mark.parametrize(("rows", "classes", "level"), [(60, 3, 0.95), (40, 15, 0.95), (41, 25, 0.8)])
def test_equals_a_slow_loop_over_sklearn(rows, classes, level):
    # 40 rows of 15 and 25 classes: most resamples miss a class, which is where the definitions could part.
    predictions, references = random_ids(rows, classes)
    fast = bootstrap_intervals(predictions, references, resamples=150, seed=3, level=level)
    slow = slow_bootstrap(predictions, references, resamples=150, seed=3, level=level)
    for name, ends in slow.items():
        assert (fast[name].low, fast[name].high) == pytest.approx(tuple(ends), abs=1e-12)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (30, 40), (1807, 11), (3000, 1000)])
def test_value_equals_sklearn(rows, classes):
    predictions, references = random_ids(rows, classes)
    result = bootstrap_intervals(predictions, references, resamples=20)
    assert result["accuracy"].value == pytest.approx(accuracy_score(references, predictions), abs=1e-12)
    expected = f1_score(references, predictions, average="macro", zero_division=0)
    assert result["macro_f1"].value == pytest.approx(expected, abs=1e-12)


def test_chunks_do_not_change_the_result(monkeypatch):
    predictions, references = random_ids(201, 5)  # odd, so that chunks end between two 32-bit halves of a draw
    whole = bootstrap_intervals(predictions, references, resamples=100)
    for draws in (1, 201 * 7):
        monkeypatch.setattr(bootstrap, "_CHUNK_DRAWS", draws)
        assert bootstrap_intervals(predictions, references, resamples=100) == whole


def test_seed_and_level():
    predictions, references = random_ids(300, 4)
    first = bootstrap_intervals(predictions, references, seed=1)
    assert first == bootstrap_intervals(predictions, references, seed=1)
    assert first != bootstrap_intervals(predictions, references, seed=2)
    narrow = bootstrap_intervals(predictions, references, seed=1, level=0.5)
    for name, wide in first.items():
        assert wide.low < narrow[name].low < narrow[name].value < narrow[name].high < wide.high


def test_accuracy_interval_has_the_binomial_width():
    predictions, references = random_ids(2000, 3)
    interval = bootstrap_intervals(predictions, references)["accuracy"]
    half = 1.96 * np.sqrt(interval.value * (1 - interval.value) / 2000)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_accuracy_interval_covers_the_truth():
    truth, rows, covered = 0.8, 400, 0
    rng = np.random.default_rng(0)
    for simulation in range(400):
        references = rng.integers(0, 3, rows)
        predictions = np.where(rng.random(rows) < truth, references, (references + 1) % 3)
        interval = bootstrap_intervals(predictions, references, resamples=1000, seed=simulation)["accuracy"]
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("prediction", "value"), [(4, 1.0), (2, 0.0)])
def test_one_row_tells_nearly_nothing(prediction, value):
    result = bootstrap_intervals(np.array([prediction]), np.array([4]))
    low, high = (0.025, 1.0) if value else (0.0, 0.975)
    assert result["accuracy"] == result["macro_f1"] == proportion_interval(int(value), 1)
    assert (result["accuracy"].low, result["accuracy"].high) == pytest.approx((low, high))


def test_one_class_all_right():
    result = bootstrap_intervals(np.zeros(24, dtype=int), np.zeros(24, dtype=int))
    assert result["macro_f1"] == result["accuracy"] == proportion_interval(24, 24)
    assert result["accuracy"].low == pytest.approx(0.025 ** (1 / 24))  # .858: none of 24 wrong is no proof of 100%


def test_the_level_holds_at_the_edge_too():
    wide, narrow = (bootstrap_intervals(np.ones(9), np.zeros(9), level=level)["accuracy"] for level in (0.95, 0.8))
    assert wide.value == wide.low == narrow.low == 0
    assert wide.high > narrow.high > 0


def test_any_ids_will_do():
    predictions, references = random_ids(200, 4)
    names = np.array([-100, 7, 10**12, 0])
    plain = bootstrap_intervals(predictions, references)
    for name, interval in bootstrap_intervals(names[predictions], names[references]).items():
        assert astuple(interval) == pytest.approx(astuple(plain[name]), abs=1e-12)


def test_many_rows_and_classes_stay_small_and_quick():
    predictions, references = random_ids(100_000, 1000)
    tracemalloc.start()
    started = time.perf_counter()
    bootstrap_intervals(predictions, references, resamples=100)
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6
    assert seconds < 20  # about 0.2 here: the bound only catches a lost vectorisation
