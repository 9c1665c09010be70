"""Scores of labels, numbers, tags and masks on populations whose truth is known: do the intervals hold it, are verdicts false?

A population is a pool of rows, its truth the score of the whole pool; test rows are drawn from it with replacement.
"""

import functools

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm, spearmanr

from hftl.evaluation import label_scores, mask_scores, number_scores, span_scores
from hftl.evaluation.bootstrap import intervals, paired_differences
from hftl.tasks import LABELS
from tests.thin import thin


POOL = 30_000


def numbers(correlation, tails=0):
    """A pair of models with targets, errors normal or of Student's t."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal(POOL)
    error = (
        rng.standard_t(tails, (2, POOL)) * np.sqrt((tails - 2) / tails) if tails else rng.standard_normal((2, POOL))
    )
    return correlation**2 * targets + correlation * np.sqrt(1 - correlation**2) * error, targets


def labels(share, strength):
    """Logits [2, n, labels] of a pair of models; labels of a row go together, and so do the models' mistakes."""
    rng, share = np.random.default_rng(0), np.asarray(share)
    common = rng.standard_normal((POOL, 1))
    targets = np.sqrt(0.2) * common + np.sqrt(0.8) * rng.standard_normal((POOL, len(share))) < norm.ppf(share)
    both = rng.standard_normal((POOL, len(share)))
    noise = np.sqrt(0.5) * both + np.sqrt(0.5) * rng.standard_normal((2, POOL, len(share)))
    return strength * (2 * targets - 1) + noise - 0.3, targets.astype(np.int64)


def tags(accuracy):
    """Tag ids by row of a pair of models and the truth, in rows of 3 to 20 words with spans of unequally many types."""
    rng = np.random.default_rng(0)
    names = ["O", *(f"{letter}-{kind}" for kind in "WXYZ" for letter in "BI")]
    targets = []
    for length in rng.integers(3, 21, POOL // 3):
        row: list[int] = []
        while len(row) < length:
            kind = int(rng.choice(5, p=[0.8, 0.1, 0.06, 0.03, 0.01]))
            row += (
                [0]
                if kind == 4
                else [2 * kind + 1] + [2 * kind + 2] * int(rng.integers(0, 3))
                if rng.random() < 0.2
                else [0]
            )
        targets.append(row[:length])
    models = [
        [[int(rng.integers(9)) if rng.random() > accuracy else tag for tag in row] for row in targets]
        for _ in range(2)
    ]
    return models, targets, names


def masks(presence, accuracy):
    """Pixel counts [2, n, 3 classes] of a pair of models. Images differ in size and hardness; the class k is in the share
    `presence[k]` of them, on an area that differs tenfold. Missed pixels go to the other classes, mostly to large ones.
    """
    rng = np.random.default_rng(0)
    there = rng.random((POOL, len(presence))) < presence
    there[:, 0] |= ~there.any(axis=1)
    areas = there * rng.lognormal(0, 0.8, there.shape)
    true = np.round(rng.choice([1e4, 4e4, 9e4], (POOL, 1)) * areas / areas.sum(axis=1, keepdims=True))
    hard, takes, models = rng.standard_normal((POOL, 1)), 0.1 + areas, []
    for _ in range(2):
        ease = norm.ppf(accuracy) + 0.5 * hard + 0.5 * rng.standard_normal(true.shape)
        both = np.round(true * norm.cdf(ease))
        missed = true - both
        given = missed[:, :, None] * takes[:, None, :] * (1 - np.eye(len(presence)))
        given /= (takes.sum(axis=1, keepdims=True) - takes)[:, :, None]
        models.append(np.concatenate([true, both + given.sum(axis=1), both], axis=1))
    return np.array(models)


@functools.cache
def population(kind, *settings):
    """Return statistics of the two models [rows, s] each, and the scores."""
    if kind == "numbers":
        models, targets = numbers(*settings)
        pair = [number_scores.number_statistics(answers, targets) for answers in models]
        module = number_scores
    elif kind == "labels":
        outputs, targets = labels(*settings)
        pair = [label_scores.label_statistics(LABELS.decode(z), targets) for z in outputs]
        module = label_scores
    elif kind == "masks":
        counts = masks(*settings)
        pair = [mask_scores.mask_statistics(one, len(settings[0])) for one in counts]
        module = mask_scores
    else:
        answers, targets, names = tags(*settings)
        pair = [span_scores.span_statistics(rows, targets, names) for rows in answers]
        module = span_scores
    return *pair, {name: module.SCORES[name] for name in module.COMPARED}


FEW, MANY, GOOD = (0.5, 0.2, 0.1, 0.05), tuple(np.linspace(0.03, 0.3, 12)), (0.3, 0.2, 0.2)
STREET = (1, 0.9, 0.6, 0.3, 0.15, 0.1)  # the shares of images that a class is in
POPULATIONS = [
    ("numbers", 0.3), ("numbers", 0.9), ("numbers", 0.99), ("labels", FEW, 1.0), ("labels", MANY, 1.5),
    ("labels", GOOD, 2.0), ("tags", 0.7), ("tags", 0.95),
    ("masks", (1, 0.5), 0.9), ("masks", STREET, 0.8), ("masks", STREET, 0.97),
]  # fmt: skip
THIN = [(people, 200) for people in (("numbers", 0.9), ("labels", FEW, 1.0), ("tags", 0.95), ("masks", STREET, 0.8))]
EVERY = [(people, rows) for rows in (200, 1000) for people in POPULATIONS] + [(("numbers", 0.9, 5), 1000)]


def error_of(times):
    return 2.6 * np.sqrt(0.05 * 0.95 / times)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("people", "rows"), thin(EVERY, THIN))
def test_intervals_hold_the_truth(people, rows):
    times = 150 if (people, rows) in THIN else 600
    pool, _, scores = population(*people)
    truth = {name: float(score(pool.sum(axis=0)[None])[0]) for name, score in scores.items()}
    rng, held = np.random.default_rng(rows), dict.fromkeys(scores, 0)
    for i in range(times):
        bounds = intervals(pool[rng.integers(0, pool.shape[0], rows)], scores, resamples=600, seed=i)
        for name, bound in bounds.items():
            held[name] += bound.low <= truth[name] <= bound.high
    shares = {name: count / times for name, count in held.items()}
    assert all(0.93 - error_of(times) <= share <= 0.97 + error_of(times) for share in shares.values()), shares


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("people", "rows"), thin([(p, n) for p, n in EVERY if n == 200], THIN))
def test_equally_good_models_seldom_get_a_verdict(people, rows):
    times = 100 if (people, rows) in THIN else 400
    first, second, scores = population(*people)
    rng, called = np.random.default_rng(rows), dict.fromkeys(scores, 0)
    for i in range(times):
        drawn, coins = rng.integers(0, first.shape[0], rows), rng.random(rows) < 0.5
        order = np.argsort(coins, kind="stable")
        a, b = drawn[order], np.count_nonzero(~coins)
        pair = [first[a[:b]], second[a[b:]]], [second[a[:b]], first[a[b:]]]
        gaps = paired_differences(
            *(sparse.vstack(part, format="csr") for part in pair), scores, {}, resamples=400, seed=i
        )
        for name, gap in gaps.items():
            called[name] += gap.label != "NEUTRAL"
    shares = {name: count / times for name, count in called.items()}
    assert all(share <= 0.06 + error_of(times) for share in shares.values()), shares


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("correlation", thin([0.0, 0.5, 0.9], [0.9]))
@pytest.mark.parametrize("rows", thin([50, 200], [50]))
def test_rank_correlation(correlation, rows):
    times, rng, held = 2000, np.random.default_rng(0), 0
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # of normal variables (Pearson 1907)
    for _ in range(times):
        x = rng.standard_normal(rows)
        y = correlation * x + np.sqrt(1 - correlation**2) * rng.standard_normal(rows)
        bound = number_scores.spearman(x, y)
        held += bound.low <= truth <= bound.high
    assert bound.value == pytest.approx(spearmanr(x, y).statistic)
    assert 0.93 - error_of(times) <= held / times <= 0.97 + error_of(times)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("settings", "rows"),
    thin([(s, n) for n in (200, 1000) for s in ((FEW, 1.0), (MANY, 1.5), (GOOD, 2.0))], [((FEW, 1.0), 200)]),
)
def test_mean_average_precision(settings, rows):
    times = 100 if (settings, rows) == ((FEW, 1.0), 200) else 400
    (outputs, _), targets = labels(*settings)
    truth = label_scores.mean_average_precision(outputs, targets, operations=1).value
    rng, held = np.random.default_rng(rows), 0
    for i in range(times):
        drawn = rng.integers(0, POOL, rows)
        operations = 400 * rows * len(settings[0])
        bound = label_scores.mean_average_precision(outputs[drawn], targets[drawn], seed=i, operations=operations)
        held += bound.low <= truth <= bound.high
    assert 0.93 - error_of(times) <= held / times <= 0.97 + error_of(times)
