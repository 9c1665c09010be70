"""Closed-form heads for labels and numbers against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from sklearn.preprocessing import StandardScaler

from hftl.evaluation.folds import held_out_folds
from hftl.evaluation.logistic import fit_logistic, fit_probe
from hftl.evaluation.probes import fit_label_probe, fit_labels, fit_number_probe, fit_ridge


def features_of(rows, d=12, seed=0):
    return np.random.default_rng(seed).normal(loc=3, scale=np.linspace(0.5, 20, d), size=(rows, d)).astype(np.float32)


def labels_of(x, labels=4, seed=1):
    rng = np.random.default_rng(seed)
    z = (x - x.mean(0)) / x.std(0) @ rng.normal(size=(x.shape[1], labels)) - np.linspace(0, 3, labels)
    return (z + rng.logistic(size=z.shape) > 0).astype(np.int64)


@pytest.mark.parametrize("c", [1e-3, 1.0, 10.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_one_regression_per_label_is_scikit_learns(c, intercept):
    x = features_of(300)
    y = labels_of(x)
    weight, bias = fit_labels(x, y, c, intercept=intercept)
    scaled = StandardScaler(with_mean=intercept).fit_transform(x.astype(np.float64))
    for label in range(4):
        model = LogisticRegression(C=c, solver="newton-cg", tol=1e-9, fit_intercept=intercept)
        theirs = model.fit(scaled, y[:, label]).decision_function(scaled)
        np.testing.assert_allclose(x @ weight[label] + bias[label], theirs, atol=2e-4)
    assert intercept or (bias == 0).all()


def test_weights_of_the_ones_are_sample_weights():
    x = features_of(300)
    y = labels_of(x)
    weight, bias = fit_labels(x, y, 1.0, np.array([1.0, 2.0, 5.0, 0.5]))
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    model = LogisticRegression(solver="newton-cg", tol=1e-9).fit(scaled, y[:, 2], np.where(y[:, 2], 5.0, 1.0))
    np.testing.assert_allclose(x @ weight[2] + bias[2], model.decision_function(scaled), atol=2e-4)


def test_labels_that_all_rows_or_none_have():
    x = features_of(60)
    y = np.stack([np.zeros(60), np.ones(60), np.arange(60) % 2], axis=1).astype(int)
    weight, bias = fit_labels(x, y, 1.0)
    assert (weight[:2] == 0).all()
    assert bias[0] == -bias[1] == pytest.approx(np.log(0.5 / 60.5))


def test_label_probe_chooses_and_fits():
    x = features_of(900)
    y = labels_of(x)
    probe = fit_label_probe({"native": x[:600], "mean": x[:600, ::-1]}, y[:600], 4, "auto", 0)
    assert probe.pooling == "native"
    assert set(probe.cv_accuracy) == {"native", "mean"}
    score = f1_score(y[600:], probe.logits(x[600:]) > 0, average="micro")
    assert score > 0.7
    assert max(probe.cv_accuracy["native"].values()) == pytest.approx(score, abs=0.05)
    rng = np.random.default_rng(7)
    better = fit_label_probe({"native": rng.normal(size=(600, 12)), "mean": x[:600]}, y[:600], 4, "auto", 0)
    assert better.pooling == "mean"
    assert (fit_label_probe({"native": x}, y, 4, "auto", 0, no_bias=("native",)).bias == 0).all()
    assert fit_label_probe({"native": x[:1]}, y[:1], 4, "auto", 0).C == 1


@pytest.mark.parametrize("rows", [300, 8])
@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_scikit_learns(rows, intercept):
    x = features_of(rows)
    y = 2000 + x @ np.linspace(-1, 1, 12) + np.random.default_rng(2).normal(size=rows)
    weight, bias = fit_ridge(x, y, (0.01, 1.0), intercept=intercept)
    scaler = StandardScaler(with_mean=intercept)
    scaled = scaler.fit_transform(x.astype(np.float64))
    for i, c in enumerate((0.01, 1.0)):
        theirs = Ridge(alpha=1 / c, fit_intercept=intercept).fit(scaled, y).predict(scaled)
        np.testing.assert_allclose(x @ weight[i] + bias[i], theirs, rtol=1e-6)


def test_number_probe_chooses_and_fits():
    x = features_of(900)
    y = 1000 + x @ np.linspace(-1, 1, 12) + 5 * np.random.default_rng(2).normal(size=900)
    probe = fit_number_probe({"native": x[:600]}, y[:600], 1, "auto", 0)
    assert probe.logits(x).shape == (900, 1)
    score = r2_score(y[600:], probe.logits(x[600:])[:, 0])
    assert max(probe.cv_accuracy["native"].values()) == pytest.approx(score, abs=0.05)
    noise = fit_number_probe({"native": x}, np.random.default_rng(1).normal(size=900), 1, "auto", 0)
    assert noise.C < 1e-2
    assert fit_number_probe({"native": x}, y, 1, "auto", 0, no_bias=("native",)).bias.tolist() == [0]
    assert np.isfinite(fit_number_probe({"native": x[:1]}, y[:1], 1, "auto", 0).weight).all()


def test_large_and_small_fits_of_classes_agree(monkeypatch):
    x = features_of(400)
    y = labels_of(x).sum(axis=1)
    exact, _ = fit_logistic(x, y, 5, 1.0)
    monkeypatch.setattr("hftl.evaluation.logistic.LARGE", 1)
    chunked, _ = fit_logistic(x, y, 5, 1.0)
    np.testing.assert_allclose(chunked, exact, atol=0.05)
    assert fit_probe({"native": x}, y, 5, "auto", 0).weight.shape == (5, 12)


def test_words_of_a_sentence_are_held_out_together() -> None:
    sentences = np.repeat(np.arange(12), 5)
    tags = np.tile([0, 0, 1, 0, 2], 12)
    folds = held_out_folds(len(tags), 0, tags, sentences)
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(60))
    assert all(not set(sentences[fit]) & set(sentences[held]) for fit, held in folds)
    assert held_out_folds(5, 0, tags[:5], sentences[:5])  # one sentence alone: by words
