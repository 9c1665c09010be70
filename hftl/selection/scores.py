"""How well frozen features suit labels: LogME, and the ranks of several models with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar

from hftl.evaluation.bootstrap import RESAMPLES, Interval, bounded, ends, kinds_of, resampled
from hftl.tasks.task import Output


_RATIOS = np.linspace(-14.0, 10.0, 49)  # log10 of noise over signal, as parts of the mean eigenvalue: where to begin


def log_evidence(features: np.ndarray, columns: np.ndarray) -> float:
    """Return LogME: the log evidence per row of a Bayesian linear regression on features [n, d], meaned over columns [n, k].

    You et al. 2021 ("LogME", ICML): for each column the precisions of weights and noise are those of the most evidence.
    The noise's follows from the ratio of the two (MacKay 1992), so that only this ratio is searched. Features are neither
    centred nor scaled, as there. Columns of one value say nothing and are left out; minus infinity where all are such.
    """
    y = np.asarray(columns, dtype=np.float64)
    y = y[:, y.min(axis=0) < y.max(axis=0)]
    if not y.size:
        return -math.inf
    values, inside = _spectrum(np.asarray(features, dtype=np.float64), y)
    outside = np.maximum((y**2).sum(axis=0) - inside.sum(axis=0), 0)
    return float(np.mean([_best(values, of, rest, len(y)) for of, rest in zip(inside.T, outside, strict=True)]))


def _spectrum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues [r] of x x', and the squared parts [r, k] of the columns of y along its eigenvectors."""
    wide = x.shape[0] <= x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    there = values > values[-1] * max(x.shape) * np.finfo(np.float64).eps
    values, vectors = values[there], vectors[:, there]
    if wide:
        return values, (vectors.T @ y) ** 2
    return values, (vectors.T @ (x.T @ y)) ** 2 / values[:, None]


def _best(values: np.ndarray, inside: np.ndarray, outside: float, n: int) -> float:
    """Return the most evidence per row over all ratios of noise to signal."""

    def loss(log_ratio: float) -> float:
        ratio = 10.0**log_ratio * float(values.mean())
        misfit = float((inside * ratio / (values + ratio)).sum()) + outside
        complexity = float(np.log1p(values / ratio).sum())
        return 0.5 * (np.log(2 * np.pi * misfit / n) + 1 + complexity / n)

    start = _RATIOS[int(np.argmin([loss(one) for one in _RATIOS]))]
    step = _RATIOS[1] - _RATIOS[0]
    return -float(minimize_scalar(loss, bounds=(start - step, start + step), method="bounded").fun)


@dataclass(frozen=True)
class Rank:
    """Where a model stands among others on the same rows: its score, what it lacks to the best, and its place."""

    score: Interval
    behind: Interval  # the best's score minus its own
    low: int  # 1 is the best; the 95% interval
    high: int


def rank_models(
    output: Output, answers: Sequence[Any], targets: Any, names: Sequence[str], seed: int = 0
) -> list[Rank]:
    """Rank models by the headline score, of which more is better, of their answers to the same rows; the intervals are a
    bootstrap's over rows.

    A place counts how many models are better in a resample, and equal ones may stand in any order.
    """
    count, score = len(answers), output.scores[output.headline]
    statistics = [sparse.csr_array(output.statistics(given, targets, names)) for given in answers]
    width = statistics[0].shape[1]
    kinds = kinds_of(sparse.hstack(statistics, format="csr"))

    def scores_of(sums: np.ndarray) -> np.ndarray:
        return np.stack([score(sums[:, i * width : (i + 1) * width]) for i in range(count)])

    rng = np.random.default_rng(seed)
    drawn = np.concatenate([scores_of(c @ kinds.statistics) for c in resampled(kinds, RESAMPLES, rng)], axis=1)
    own = scores_of(kinds.sums)[:, 0]
    best = int(own.argmax())
    ranks = []
    for i in range(count):
        better, equal = (drawn > drawn[i]).sum(axis=0), (drawn == drawn[i]).sum(axis=0)
        low, high = ends(drawn[best] - drawn[i])
        places = np.quantile(better + 1, 0.025, method="lower"), np.quantile(better + equal, 0.975, method="higher")
        behind = Interval(float(own[best] - own[i]), low, high)
        ranks.append(Rank(bounded(float(own[i]), drawn[i], len(kinds.of_row)), behind, int(places[0]), int(places[1])))
    return ranks
