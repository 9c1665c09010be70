"""The numbers, against their definitions written as loops, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from hftl.errors import DataError
from hftl.evaluation.similarity import (
    FOLDS,
    RIDGES,
    explained_share,
    kept_share,
    knn_agreement,
    linear_cka,
    nearest,
    recover,
)


def features(rows=30, width=8, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width))


def mixed(rows=60, p=12, q=9, seed=0):
    """Two sets of features with a common part."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(rows, 5))
    return (
        shared @ rng.normal(size=(5, p)) + rng.normal(size=(rows, p)),
        shared @ rng.normal(size=(5, q)) + rng.normal(size=(rows, q)),
    )


# ---------------------------------------------------------------------------------------------- CKA


def hsic(a, b):
    """Song et al. 2012, equation 5: sums over pairs, triples and quadruples of different rows."""
    n = len(a)
    k, m = a @ a.T, b @ b.T
    pairs = triples = quadruples = 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            pairs += k[i, j] * m[i, j]
            for r in range(n):
                if r in (i, j):
                    continue
                triples += k[i, j] * m[i, r]
                for s in range(n):
                    if s not in (i, j, r):
                        quadruples += k[i, j] * m[r, s]
    return (
        pairs / (n * (n - 1)) - 2 * triples / (n * (n - 1) * (n - 2)) + quadruples / (n * (n - 1) * (n - 2) * (n - 3))
    )


def test_cka_equals_the_sums_over_quadruples():
    a, b = mixed(rows=11)
    expected = hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))
    assert linear_cka(a, b) == pytest.approx(expected, abs=1e-12)


def test_cka_nears_that_of_kornblith_with_many_rows():
    a, b = mixed(rows=4000)
    x, y = a - a.mean(0), b - b.mean(0)
    theirs = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert linear_cka(a, b) == pytest.approx(theirs, abs=3e-3)


def test_cka_of_unrelated_features_is_near_zero_even_with_more_features_than_rows():
    values = [linear_cka(features(60, 300, seed), features(60, 300, 100 + seed)) for seed in range(20)]
    assert abs(np.mean(values)) < 0.02
    assert np.max(np.abs(values)) < 0.1


def test_cka_is_blind_to_rotation_scale_and_shift():
    a, b = mixed()
    rotation = np.linalg.qr(features(b.shape[1], b.shape[1], 3))[0]
    assert linear_cka(a, 1e-4 * b @ rotation + 500) == pytest.approx(linear_cka(a, b), abs=1e-9)
    assert linear_cka(a, a) == pytest.approx(1.0, abs=1e-12)


def test_cka_of_features_that_never_change():
    constant = np.full((10, 3), 0.1)
    assert linear_cka(constant, constant + 1) == 1.0
    assert linear_cka(constant, features(10)) == linear_cka(features(10), constant) == 0.0


# ---------------------------------------------------------------------------------------------- neighbours


def test_neighbours_equal_scikit_learn():
    a = features(50)
    index = NearestNeighbors(n_neighbors=8, metric="cosine").fit(a).kneighbors(return_distance=False)
    assert (nearest(a, 8) == index).all()


@pytest.mark.parametrize("rows", [5, 11, 60])
def test_agreement_equals_a_loop(rows):
    a, b = mixed(rows=rows)
    k = min(10, rows - 1)

    def near(x, i):
        cosine = [
            -np.inf if j == i else x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in range(rows)
        ]
        return set(sorted(range(rows), key=lambda j: -cosine[j])[:k])

    expected = np.mean([len(near(a, i) & near(b, i)) / k for i in range(rows)])
    share, chance = knn_agreement(a, b)
    assert share == pytest.approx(expected, abs=1e-12)
    assert chance == k / (rows - 1)


def test_agreement_of_equal_and_of_unrelated_features():
    assert knn_agreement(features(200), 3 * features(200)) == (1.0, 10 / 199)
    share, chance = knn_agreement(features(400), features(400, seed=1))
    assert share == pytest.approx(chance, abs=0.02)
    assert knn_agreement(features(2), features(2, seed=1)) == (1.0, 1.0)


def test_neighbours_of_equal_rows_and_of_zeros():
    rows = np.vstack([np.zeros((3, 4)), np.repeat(features(3, 4), 4, axis=0)])
    assert knn_agreement(rows, rows, 3) == (1.0, 3 / 14)
    first = nearest(rows, 3)
    assert all(set(first[i]) == set(range(3 + 4 * g, 7 + 4 * g)) - {i} for g in range(3) for i in range(3 + 4 * g, 7))


# ---------------------------------------------------------------------------------------------- what is recovered


def slow_errors(source, target, seed):
    """Primal ridge of scikit-learn, fold by fold, strength by strength."""
    x = (source - source.mean(0)) / source.std(0)
    y = (target - target.mean(0)) / target.std(0)
    folds = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    errors = np.empty((len(RIDGES), len(x)))
    for i, strength in enumerate(RIDGES):
        for fold in range(FOLDS):
            held, rest = folds == fold, folds != fold
            centred = x[rest] - x[rest].mean(0)
            alpha = strength * np.trace(centred @ centred.T) / rest.sum()
            guess = Ridge(alpha=alpha).fit(x[rest], y[rest]).predict(x[held])
            errors[i, held] = ((y[held] - guess) ** 2).sum(1)
    return errors[errors.sum(1).argmin()]


@pytest.mark.parametrize(("rows", "width"), [(60, 12), (30, 80)])
def test_errors_equal_ridge_of_scikit_learn(rows, width):
    source, target = mixed(rows=rows, p=width)
    errors, totals = recover(source, target, seed=4)
    assert errors == pytest.approx(slow_errors(source, target, 4), rel=1e-6)
    assert 0.05 < explained_share(errors, totals) < 0.95


def test_half_of_independent_features_is_half_kept():
    base = features(900, 20)
    kept = kept_share(base, base[:, :10])
    assert kept.value.value == pytest.approx(0.5, abs=0.02)
    assert kept.value.low < kept.value.value < kept.value.high
    assert kept.own == pytest.approx(1.0, abs=1e-3)


def test_the_same_features_are_kept_whole():
    base = features(100, 300)  # more features than rows: the base itself recovers part of itself
    kept = kept_share(base, base.copy())
    assert (kept.value.value, kept.value.low, kept.value.high) == (1.0, 1.0, 1.0)
    assert kept.own < 0.5


def test_a_rotation_loses_nothing():
    base, _ = mixed(rows=400)
    rotation = np.linalg.qr(features(12, 12, 3))[0]
    assert kept_share(base, 7 * base @ rotation + 3).value.value == pytest.approx(1.0, abs=0.01)


def test_more_noise_keeps_less_down_to_nothing():
    base, _ = mixed(rows=300, p=40)
    noise = features(300, 40, 5)
    kept = [kept_share(base, base + s * noise).value.value for s in (0.01, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.99
    assert kept[-1] < 0.2
    assert kept_share(base, noise).value.value < 0.02
    assert kept_share(base, np.ones((300, 2))).value.value == 0.0


def test_interval_equals_a_bootstrap_in_a_loop():
    base, _ = mixed(rows=80)
    tuned = base + features(80, 12, 5)
    kept = kept_share(base, tuned, resamples=4000)
    own, other = recover(base, base), recover(tuned, base)
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(4000):
        rows = rng.integers(0, 80, 80)
        shares.append((other[1][rows] - other[0][rows]).sum() / (own[1][rows] - own[0][rows]).sum())
    assert (kept.value.low, kept.value.high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.006)
    assert kept.value.value == pytest.approx(explained_share(*other) / explained_share(*own), abs=1e-12)


def test_features_that_fire_for_one_row_do_no_harm():
    base = np.abs(features(120, 30))
    base[0, :10] = 0.0
    base[1:, :10] *= 1e-12  # all but constant in the folds without the first row
    base[0, 0] = 5.0
    assert explained_share(*recover(base, base)) > 0.5


def test_constant_and_dead_features_are_left_out():
    base, _ = mixed(rows=100)
    dull = np.hstack([base, np.full((100, 2), 4.0), 4 + 1e-17 * features(100, 2)])
    assert kept_share(dull, dull[:, :12]).value == kept_share(base, base).value


@pytest.mark.parametrize(
    ("base", "tuned", "says"),
    [
        (np.zeros((40, 3)), features(40), "same for all rows"),
        (features(6), features(6), "too few"),
        (features(40), features(41), "of the same rows"),
        (features(40)[:, 0], features(40), "of the same rows"),
        (features(40), np.full((40, 8), np.nan), "not numbers"),
        (features(12, 400), features(12, 400), "too few"),  # independent: nothing to predict a row from
    ],
)
def test_features_that_cannot_be_compared(base, tuned, says):
    with pytest.raises(DataError, match=says):
        kept_share(base, tuned)


def test_other_figures_refuse_too():
    with pytest.raises(DataError, match="too few"):
        linear_cka(features(3), features(3))
    with pytest.raises(DataError, match="too few"):
        knn_agreement(features(1), features(1))
    with pytest.raises(DataError, match="not numbers"):
        linear_cka(features(9), np.full((9, 2), np.inf))
