"""What cross-validation on the training rows says of two models: the gap that `hftl plan` and a run's advice share."""

from dataclasses import dataclass

import numpy as np


RESAMPLES = 2000


@dataclass(frozen=True)
class Gap:
    """Accuracy of the probe minus that of the baseline on the same training rows, with its 95% bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Both accuracies on the same held-out training rows, and their paired difference."""

    rows: int
    baseline: str
    probe_accuracy: float
    baseline_accuracy: float
    gap: Gap


def stands(gap: Gap, baseline: str) -> str:
    """Return in words how the probe compares with the baseline, in figures too: the start of a sentence."""
    word = "loses to" if gap.high < 0 else "beats" if gap.low > 0 else "is level with"
    return (
        f"The probe {word} {baseline} in cross-validation on the training rows "
        f"({100 * gap.value:+.1f} points, 95% {100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    )


def paired_gap(probe: np.ndarray, baseline: np.ndarray) -> Gap:
    """Accuracy of `probe` minus that of `baseline`, right or wrong per row [n], with 95% paired bootstrap bounds.

    The bounds speak of the choice of rows, not of the folds, so they are a little narrow.
    """
    n = len(probe)
    wins, losses = int((probe & ~baseline).sum()), int((~probe & baseline).sum())
    # Rows that both get right, or both wrong, add nothing: a resample is a draw of how many of each kind it holds.
    shares = [wins / n, losses / n, 1 - (wins + losses) / n]
    drawn = np.random.default_rng(0).multinomial(n, shares, size=RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return Gap((wins - losses) / n, float(low), float(high))
