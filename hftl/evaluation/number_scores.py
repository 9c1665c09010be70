"""The scores of numbers: functions of statistics that add up over rows, and how far off an answer may be.

Answers and targets are [n] finite numbers. The intervals hold the truth in 93% to 97% of cases where errors are about
normal. Rare large errors are a limit of rmse, r2 and pearson, for a test set without any of them says nothing of them:
of errors like Student's t with 5 degrees of freedom, 88% to 90% at 200 rows and 94% to 96% at 1,000; with 3, where the
spread of squared errors has no bound, 70% to 81% at either. The interval of mae holds there too (93% to 97%).
"""

import math
from typing import Any

import numpy as np
from scipy import sparse

from hftl.errors import DataError
from hftl.evaluation.bootstrap import LEVEL, Corrected, Interval, Scores, proportion_interval
from hftl.evaluation.metrics import share, total


_FLAT = 1e-12  # a variance that is this share of the squares is rounding: all values are equal


def number_statistics(answers: Any, targets: Any) -> sparse.csr_array:
    """Return [n, 8]: 1; the error, its size and square; target and its square, answer and its square, their product.

    Targets and answers are counted from their own medians: no score depends on that, and years or prices, far from 0,
    keep their digits. Raises `DataError` unless both are [n] finite numbers.
    """
    predicted, true = paired_numbers(answers, targets)
    error, y, z = predicted - true, true - np.median(true), predicted - np.median(predicted)
    columns = [np.ones(len(y)), abs(error), error**2, y, y**2, z, z**2, y * z]
    return sparse.csr_array(np.stack(columns, axis=1))


def paired_numbers(answers: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 [n], answers of [n, 1] too. Raises `DataError` unless they pair up and are finite."""
    true = np.asarray(targets, dtype=np.float64)
    predicted = np.asarray(answers, dtype=np.float64)
    if predicted.ndim == 2 and predicted.shape[1] == 1:
        predicted = predicted[:, 0]
    if true.ndim != 1 or predicted.shape != true.shape or len(true) == 0:
        raise DataError(f"Numbers are one a row, as many answers as targets: got {predicted.shape}, {true.shape}.")
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise DataError("Answers or targets hold values that are not finite numbers.")
    return predicted, true


def _spread(sums: np.ndarray, column: int) -> np.ndarray:
    """Return the sum of squared distances from the mean [b] of the values in a column, whose squares follow it."""
    squares = sums[:, column + 1]
    spread = squares - sums[:, column] ** 2 / sums[:, 0]
    return np.where(spread > _FLAT * squares, spread, 0.0)


def r2(sums: np.ndarray) -> np.ndarray:
    """Return the share of the targets' variance [b] that the answers explain, of sums of `number_statistics`; 0 where all
    targets are equal.
    """
    spread = _spread(sums, 3)
    return np.where(spread > 0, 1 - sums[:, 2] / np.where(spread > 0, spread, 1), 0.0)


def pearson(sums: np.ndarray) -> np.ndarray:
    """Return the correlation [b] of answers and targets; 0 where all answers or all targets are equal."""
    together = sums[:, 7] - sums[:, 3] * sums[:, 5] / sums[:, 0]
    return np.clip(share(together, np.sqrt(_spread(sums, 3) * _spread(sums, 5))), -1, 1)


SCORES: Scores = {
    "r2": Corrected(r2, is_share=False),
    "rmse": Corrected(lambda sums: np.sqrt(sums[:, 2] / sums[:, 0]), is_share=False),
    "mae": Corrected(lambda sums: sums[:, 1] / sums[:, 0], is_share=False),
    "pearson": Corrected(pearson, is_share=False),
}
COMPARED = ("r2", "rmse", "mae", "pearson")  # those with an interval and a verdict, the headline first


def spearman(answers: Any, targets: Any) -> Interval:
    """Return the correlation of the ranks of answers and targets, equal ones at the mean of theirs, and its interval.

    By Fisher's z with the variance (1 + r^2 / 2) / (n - 3) of Bonett and Wright (Psychometrika 2000), r at least half a
    swap of neighbours from perfect order. 0 where all answers or all targets are equal; -1 to 1 for under four rows.
    """
    from scipy import stats  # late: it takes half a second, and predicting needs it not

    pair = paired_numbers(answers, targets)
    ranks = [stats.rankdata(values) for values in pair]
    r, n = total(number_statistics(*ranks), pearson), len(ranks[0])
    if n < 4:
        return Interval(r, -1.0, 1.0)
    most = 1 - 6 / (n**3 - n)
    inside = min(most, max(-most, r))
    reach = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt((1 + inside**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(inside) - reach), math.tanh(math.atanh(inside) + reach)
    return Interval(r, min(low, r), max(high, r))


def conformal_width(residuals: Any, level: float) -> float | None:
    """Return how far a new row's target lies from its answer at most, in at least `level` of cases: half the width.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005; Lei et al., JASA 2018): the ceil((n + 1) level)-th
    smallest of the absolute `residuals` [n] of rows that the model did not learn from. None for too few: 19 for 95%.
    """
    sizes = np.sort(np.abs(np.asarray(residuals, dtype=np.float64)))
    rank = math.ceil((len(sizes) + 1) * level - 1e-9)
    return float(sizes[rank - 1]) if rank <= len(sizes) else None


def coverage(answers: Any, targets: Any, width: float) -> Interval:
    """Return the share of the targets that lie within `width` of the answers, with its exact interval."""
    predicted, true = paired_numbers(answers, targets)
    return proportion_interval(int((abs(predicted - true) <= width).sum()), len(true))
