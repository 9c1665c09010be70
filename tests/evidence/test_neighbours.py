import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from hftl.evaluation import neighbours
from hftl.evaluation.neighbours import KS, nearest_neighbours


def brute_force(train, labels, row, k, without=None):
    """One row at a time: the k most similar, the most frequent label, of equals the one with more similarity."""
    similar = train @ row / np.linalg.norm(train, axis=1) / np.linalg.norm(row)
    if without is not None:
        similar[without] = -np.inf
    near = np.argsort(-similar)[:k]
    votes = {
        label: ((labels[near] == label).sum(), similar[near][labels[near] == label].sum()) for label in labels[near]
    }
    return max(votes, key=votes.get)


def blobs(rows, seed=0, classes=4, noise=1.2):
    centres = np.random.default_rng(99).normal(size=(classes, 8))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    return centres[labels] + noise * rng.normal(size=(rows, 8)), labels


@pytest.mark.parametrize("chunk", [1, 1000, 16_000_000])
def test_equals_brute_force(chunk, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK_VALUES", chunk)
    train, labels = blobs(120)
    test, _ = blobs(60, seed=1)
    found = nearest_neighbours(train, labels, test)
    accuracy = {
        k: np.mean([brute_force(train, labels, x, k, i) == labels[i] for i, x in enumerate(train)]) for k in KS
    }
    best = max(KS, key=lambda k: accuracy[k])
    assert found.tolist() == [brute_force(train, labels, x, best) for x in test]


def test_nearly_equals_sklearn_on_digits():
    x, y = load_digits(return_X_y=True)
    found = nearest_neighbours(x[:1200], y[:1200], x[1200:])
    model = KNeighborsClassifier(1, metric="cosine").fit(x[:1200], y[:1200])
    assert np.mean(found == model.predict(x[1200:])) > 0.98


def test_small_and_odd_inputs():
    one = nearest_neighbours(np.ones((1, 3)), np.array([7]), np.eye(3))
    assert one.tolist() == [7, 7, 7]
    two = nearest_neighbours(np.eye(2), np.array([0, 5]), np.array([[0.1, 1.0]]))
    assert two.tolist() == [5]
    train, labels = blobs(30)
    assert nearest_neighbours(train, labels, train[:0]).shape == (0,)
    huge = nearest_neighbours(1e30 * train, labels, 1e30 * train)
    assert huge.tolist() == nearest_neighbours(train, labels, train).tolist()
    train[3] = 0  # similar to nothing, and no division by zero
    assert np.isin(nearest_neighbours(train, labels, np.zeros((2, 8))), labels).all()
