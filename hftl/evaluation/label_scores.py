"""The scores of several labels for one row: functions of statistics that add up, and the thresholds of the labels.

Answers and targets are [n, labels] of 0 and 1, outputs are logits [n, labels]: one yes or no for each label.
"""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit, ndtri

from hftl.errors import DataError
from hftl.evaluation import metrics
from hftl.evaluation.bootstrap import LEVEL, RESAMPLES, Corrected, Interval, Scores, bounded, chunks, corrected_levels


_MAX_OPERATIONS = 300_000_000  # rows times labels times resamples of the mean average precision: some five seconds
_ENOUGH_RESAMPLES = 400  # 10 beyond each end of the interval; of fewer the deviation is taken
_PARTS = 50  # of the rows, that are left out in turn: their skew is that of single rows
_FEWEST_RESAMPLES = 50  # a deviation of so many draws is known to 10%
# Positive validation rows from which a label gets a threshold of its own. Simulated (calibrated probabilities, 5% and
# 20% of rows positive, five strengths of signal, 150 draws): from 10 on F1 on new rows rises by .02 to .2 over that at
# 0.5, and one choice in ten loses .03 at most; at 5 it loses up to .07.
FEWEST_POSITIVE = 10


def label_statistics(answers: Any, targets: Any) -> sparse.csr_array:
    """Return [n, 3 labels + 2]: which labels are true, predicted and both; is the set exactly right; and 1.

    Raises `DataError` unless both are [n, labels].
    """
    predicted, true = _paired(answers, targets)
    exact = (predicted == true).all(axis=1)
    blocks = [sparse.csr_array(part, dtype=np.float64) for part in (true, predicted, true & predicted, exact[:, None])]
    return sparse.csr_array(sparse.hstack([*blocks, np.ones((len(true), 1))], format="csr"))


def log_odds(targets: np.ndarray) -> np.ndarray:
    """Return the log odds [labels] of 0 and 1 [n, labels], half a row of each added."""
    ones = (targets != 0).sum(axis=0)
    odds: np.ndarray = np.log((ones + 0.5) / (len(targets) - ones + 0.5))
    return odds


def _paired(answers: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(answers) != 0, np.asarray(targets) != 0
    if true.ndim != 2 or predicted.shape != true.shape or 0 in true.shape:
        raise DataError(f"Labels are [rows, labels], as many answers as targets: got {predicted.shape}, {true.shape}.")
    return predicted, true


def exact(sums: np.ndarray) -> np.ndarray:
    """Return the share [b] of the rows whose set of labels is exactly right, of sums of `label_statistics`."""
    return metrics.share(sums[:, -2], sums[:, -1])


def _of_pairs(score: metrics.Score) -> metrics.Score:
    """Return the score [b] of pairs of row and label, of sums of `label_statistics`."""
    return lambda sums: score(sums[:, :-2])


SCORES: Scores = {
    "micro_f1": Corrected(_of_pairs(metrics.micro("f1"))),
    "macro_f1": Corrected(_of_pairs(metrics.macro("f1"))),
    "exact": Corrected(exact),
    "micro_precision": _of_pairs(metrics.micro("precision")),
    "micro_recall": _of_pairs(metrics.micro("recall")),
}
COMPARED = ("micro_f1", "macro_f1", "exact")  # those with an interval and a verdict, the headline first


def mean_average_precision(
    outputs: np.ndarray, targets: np.ndarray, seed: int = 0, operations: int = _MAX_OPERATIONS
) -> Interval:
    """Return the mean over the labels that are true somewhere of the average precision, and its 95% interval.

    It is scikit-learn's; 0 where no label is true. The interval is a bootstrap over rows by weights, so that each label
    is sorted once, corrected for bias and skew: 2,000 resamples, or as many as `operations` allow, 50 at least, and
    below 400 a normal interval of their deviation.
    """
    _, true = _paired(outputs, targets)
    logits, n = np.asarray(outputs, dtype=np.float64), len(true)
    ranked = [_ranked(logits[:, label], true[:, label]) for label in np.flatnonzero(true.any(axis=0))]
    if not ranked:
        return Interval(0.0, 0.0, 1.0)
    times = int(np.clip(operations // true.size, _FEWEST_RESAMPLES, RESAMPLES))
    rng, drawn = np.random.default_rng(seed), []
    for size in chunks(times, n):
        rows = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(rows.ravel(), minlength=size * n).reshape(size, n)
        drawn.append(_mean_precision(ranked, np.ascontiguousarray(counts.T, dtype=np.float32)))
    resamples = np.concatenate(drawn)
    value, parts = float(_mean_precision(ranked, np.ones((n, 1), dtype=np.float32))[0]), min(n, _PARTS)
    if times < _ENOUGH_RESAMPLES:  # of so many rows and labels that the mean is close to normal
        reach = ndtri((1 + LEVEL) / 2) * float(resamples.std())
        return Interval(value, max(0.0, value - reach), min(1.0, value + reach))
    without = 1 - np.eye(parts, dtype=np.float32)[rng.permutation(n) % parts]
    levels = corrected_levels(value, resamples, _mean_precision(ranked, without), np.ones(parts))
    return bounded(value, resamples, n, LEVEL, levels)


def _ranked(logits: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows by falling logit; the places of the true ones; and those of the last row as high as each."""
    order = np.argsort(-logits, kind="stable")
    last = np.searchsorted(-logits[order], -logits[order], side="right") - 1
    places = np.flatnonzero(true[order])
    return order, places, last[places]


def _mean_precision(ranked: list[tuple[np.ndarray, np.ndarray, np.ndarray]], weights: np.ndarray) -> np.ndarray:
    """Return the mean average precision [b] of rows that count `weights` [n, b] times, of labels that are true then."""
    total, labels = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for order, places, last in ranked:
        of_true = weights[order[places]].astype(np.float64)
        found = np.concatenate([np.zeros((1, weights.shape[1])), of_true.cumsum(axis=0)])
        seen = weights[order].cumsum(axis=0, dtype=np.float64)[last]
        hits = found[np.searchsorted(places, last, side="right")]
        positives = found[-1]
        total += metrics.share((of_true * metrics.share(hits, seen)).sum(axis=0), positives)
        labels += positives > 0
    return metrics.share(total, labels)


def choose_thresholds(outputs: np.ndarray, targets: np.ndarray, fewest: int = FEWEST_POSITIVE) -> np.ndarray:
    """Return for each label the probability [labels], inside 0 to 1, above which answering it gives the best F1 on
    these rows, validation rows that is; 0.5 for a label that fewer than `fewest` of them have.

    A threshold lies midway between two neighbouring probabilities; of equally good ones that nearest to 0.5 is taken.
    """
    _, true = _paired(outputs, targets)
    thresholds = np.full(true.shape[1], 0.5)
    for label in np.flatnonzero(true.sum(axis=0) >= fewest):
        probabilities = expit(np.asarray(outputs[:, label], dtype=np.float64))
        values, places = np.unique(probabilities, return_inverse=True)
        given = np.bincount(places)[::-1].cumsum()[::-1]  # rows answered with yes from each value on
        hits = np.bincount(places, weights=true[:, label])[::-1].cumsum()[::-1]
        f1 = 2 * hits / (given + true[:, label].sum())
        between = (values + np.concatenate([[0.0], values[:-1]])) / 2
        own = np.count_nonzero(values <= 0.5)  # 0.5 itself is as good as the cut next to it
        if own < len(values) and f1[own] >= f1.max():
            continue
        best = np.flatnonzero(f1 >= f1.max())
        thresholds[label] = between[best[np.abs(between[best] - 0.5).argmin()]]
    return np.clip(thresholds, 1e-9, 1 - 1e-9)


def row_losses(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the log loss in nats, summed over the labels of each row, [n]."""
    logits = np.asarray(outputs, dtype=np.float64)
    losses: np.ndarray = np.logaddexp(0, np.where(np.asarray(targets) != 0, -logits, logits)).sum(axis=1)
    return losses


def row_units(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every yes or no as two classes: logits [n labels, 2], whose softmax is the sigmoid, and ids [n labels]."""
    _, true = _paired(outputs, targets)
    logits = np.zeros((true.size, 2), dtype=np.asarray(outputs).dtype)
    logits[:, 1] = np.asarray(outputs).ravel()
    return logits, true.ravel().astype(np.int64)
