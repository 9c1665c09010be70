"""The verdict of a run: is the method better than a baseline on the same test rows, by how much, how surely."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

from hftl.evaluation.bootstrap import LEVEL, RESAMPLES, Difference, Interval, difference, resampled_sums
from hftl.evaluation.scale import Scale


Kind = Literal["EQUIVALENT", "UNDECIDED"]
# Accuracies that differ by no more than this, as a share of the rows, are equivalent. Ours: about what one person
# would not notice in use, and the margin that a mean-pooled class has to win by (hftl.evaluation.logistic).
MARGIN = 0.02
POWER = 0.8  # with which `rows_needed` rows would show the gap: the usual choice
_ACCURACY = Scale()
MOST_ROWS = 100_000  # a gap that takes more rows than this is as good as none


@dataclass(frozen=True)
class Verdict(Difference):
    """The difference in the headline score, whose label is the verdict; and those in the other scores, by name.

    `kind` tells the two sorts of NEUTRAL apart: EQUIVALENT when the whole interval lies within `MARGIN` of 0 (of 50
    rows or more), else UNDECIDED. `rows_needed` is about how many test rows would decide an UNDECIDED one; None where it is more than
    `MOST_ROWS`, and for scores that are no share of right rows.
    """

    beside: dict[str, Difference] = field(default_factory=dict)
    kind: Kind | None = None
    rows_needed: int | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON values, each of the other scores under its own name."""
        values = asdict(self)
        beside = values.pop("beside")
        return {**values, **beside}


@dataclass(frozen=True)
class Comparison:
    """Scores of probe and baseline on the same held-out training rows, and their paired difference."""

    rows: int
    baseline: str
    probe_accuracy: float
    baseline_accuracy: float
    gap: Interval


def verdict_of(differences: dict[str, Difference], right: tuple[np.ndarray, np.ndarray] | None, rows: int) -> Verdict:
    """Return the verdict of `paired_differences` on so many rows, the headline score's first.

    `right` [n] each says which rows the method and the baseline have right, where the headline is the share of these.
    """
    (_, headline), *others = differences.items()
    kind = kind_of(headline, rows)
    needed = rows_needed(*right) if right and kind == "UNDECIDED" else None
    return Verdict(**asdict(headline), beside=dict(others), kind=kind, rows_needed=needed)


def kind_of(gap: Difference, rows: int, margin: float = MARGIN) -> Kind | None:
    """Return which sort of NEUTRAL a difference on so many rows is, None for POSITIVE and NEGATIVE.

    A few rows that say nothing of a score (no entity is there, or found) leave an interval of 0 to 0. So nothing is
    EQUIVALENT where one row alone is more than the margin.
    """
    if gap.label != "NEUTRAL":
        return None
    return "EQUIVALENT" if -margin <= gap.low and gap.high <= margin and rows * margin >= 1 else "UNDECIDED"


def rows_needed(method: np.ndarray, baseline: np.ndarray) -> int | None:
    """Return about how many test rows would show the gap between two models, right or wrong per row [n] each.

    The sample size of McNemar's test (Connor, Biometrics 1987) at 5% and a power of 80%, with the gap d and the share
    of differing rows s as they were seen, the made-up row of `paired_differences` half on either side:
    ((1.96 sqrt(s) + 0.84 sqrt(s - d^2)) / d)^2. A rough estimate, as both are. None above `MOST_ROWS`.
    """
    n = len(method) + 1
    wins, losses = (count + 0.5 for count in _wins(method, baseline))
    gap, differing = (wins - losses) / n, (wins + losses) / n
    level, power = ndtri((1 + LEVEL) / 2), ndtri(POWER)
    reach = level * math.sqrt(differing) + power * math.sqrt(max(0.0, differing - gap**2))
    if abs(gap) * math.sqrt(MOST_ROWS) < reach:
        return None
    return math.ceil((reach / gap) ** 2)


def _wins(method: np.ndarray, baseline: np.ndarray) -> tuple[int, int]:
    """Return how many rows only the method has right, and how many only the baseline; right or wrong per row [n]."""
    return int((method & ~baseline).sum()), int((~method & baseline).sum())


def accuracy_difference(
    method: np.ndarray, baseline: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Compare two models that are right or wrong per row [n], by the share of right rows alone, with the made-up row."""
    n, (wins, losses) = len(method), _wins(method, baseline)
    rng = np.random.default_rng(seed)
    # Four kinds of rows: a win, a loss, the made-up row, and those on which the two are alike.
    drawn = resampled_sums([[1, 0], [-1, 0], [0, 1], [0, 0]], [wins, losses, 1, n - wins - losses], rng, n, resamples)
    made_up = 2 * rng.binomial(drawn[:, 1], 0.5) - drawn[:, 1]
    return difference((wins - losses) / n, (drawn[:, 0] + made_up) / n, paired_p(method, baseline))


def stands(gap: Interval, baseline: str, scale: Scale = _ACCURACY) -> str:
    """Return in words how the probe compares with the baseline, in figures too: the start of a sentence."""
    word = "loses to" if gap.high < 0 else "beats" if gap.low > 0 else "is level with"
    return f"The probe {word} {baseline} in cross-validation on the training rows ({scale.gap(gap)})"


def paired_p(method: np.ndarray, baseline: np.ndarray) -> float:
    """Return McNemar's two-sided mid-p of two models that are right or wrong per row [n]; 1 where on the same rows.

    The exact binomial p counts the observed split in full and is too strict on few differing rows; mid-p counts it half
    (Fagerland, Lydersen and Laake, BMC Medical Research Methodology 2013, who recommend it).
    """
    wins, losses = _wins(method, baseline)

    from scipy import stats  # late: it takes half a second, and predicting needs it not

    rarer, seen = stats.binom(wins + losses, 0.5), min(wins, losses)
    return float(min(1.0, 2 * rarer.cdf(seen) - rarer.pmf(seen))) if wins + losses else 1.0
