"""The verdict of a run: is the method better than a baseline on the same test rows, by how much, how surely."""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy import stats

from hftl.errors import DataError
from hftl.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    Difference,
    Interval,
    difference,
    ends,
    paired_differences,
    resampled_sums,
)
from hftl.evaluation.metrics import SCORES, add_made_up, class_statistics


Kind = Literal["EQUIVALENT", "UNDECIDED"]
# Accuracies that differ by no more than this, as a share of the rows, are equivalent. Ours: about what one person
# would not notice in use, and the margin that a mean-pooled class has to win by (hftl.training.logistic).
MARGIN = 0.02
POWER = 0.8  # with which `rows_needed` rows would show the gap: the usual choice
MOST_ROWS = 100_000  # a gap that takes more rows than this is as good as none


@dataclass(frozen=True)
class Verdict(Difference):
    """The difference in accuracy, whose label is the verdict and whose p is McNemar's; and that in macro-F1.

    `kind` tells the two sorts of NEUTRAL apart, None for the other labels: EQUIVALENT when the whole interval lies
    within `MARGIN` of 0, else UNDECIDED. `rows_needed` is a rough count of the test rows that would decide an
    UNDECIDED one; None where it is more than `MOST_ROWS`, and for everything else.
    """

    macro_f1: Difference
    kind: Kind | None = None
    rows_needed: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Accuracies of probe and baseline on the same held-out training rows, and their paired difference."""

    rows: int
    baseline: str
    probe_accuracy: float
    baseline_accuracy: float
    gap: Interval


def compare_paired(
    method: np.ndarray, baseline: np.ndarray, references: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Verdict:
    """Compare the class ids [n] that a method and a baseline predict for the same rows with the true ones [n].

    Two things are added to a plain paired bootstrap (`paired_differences`), which is too narrow where the two models
    seldom differ (in simulation with 2 such rows in 50 it covers the truth in 82% of cases, and it calls one lucky row
    of one proof): one made-up row among those drawn from, half of what Bonett and Price (J. Educ. Behav. Stat. 2012)
    add to an interval of paired proportions; and the interval holds 0 unless the test excludes it, too. p is two-sided:
    McNemar's mid-p for accuracy, that of random swaps for macro-F1.

    With so few rows or differing ones that nothing can be shown the label is NEUTRAL: it takes five differing rows, all
    on one side, for another. Simulated (50 to 2,000 rows, accuracies .6 to .97, gaps 0 to .05, correlations 0 to .8,
    1,500 draws each; tests/evidence/test_verdict_simulated.py draws some of it again): where 10 rows or more are
    expected to differ the interval of accuracy covers the truth in 93.8% to 97.1% of cases, on fewer in 92.9% to 100%;
    a false POSITIVE or NEGATIVE comes in at most 5.6%. It speaks of the choice of test rows only.

    Raises `DataError` for arrays that do not pair up and `ConfigError` for fewer than one resample.
    """
    ids = [np.asarray(values) for values in (references, method, baseline)]
    if len({values.shape for values in ids}) > 1 or ids[0].ndim != 1 or len(ids[0]) == 0:
        raise DataError(
            "A verdict needs a prediction of both models for every reference, at least one: got shapes "
            f"{ids[1].shape} and {ids[2].shape} for {ids[0].shape}."
        )
    names, codes = np.unique(np.concatenate(ids), return_inverse=True)
    true, first, second = codes.reshape(3, -1)
    statistics = [class_statistics(answers, true, len(names)) for answers in (first, second)]
    exact_p = {"accuracy": mcnemar_p(*ids)}
    gaps = paired_differences(statistics[0], statistics[1], SCORES, exact_p, add_made_up, resamples, seed)
    accuracy = gaps["accuracy"]
    kind = kind_of(accuracy)
    needed = rows_needed(ids[1] == ids[0], ids[2] == ids[0]) if kind == "UNDECIDED" else None
    return Verdict(**asdict(accuracy), macro_f1=gaps["macro_f1"], kind=kind, rows_needed=needed)


def kind_of(gap: Difference, margin: float = MARGIN) -> Kind | None:
    """Return which sort of NEUTRAL a difference is, None for POSITIVE and NEGATIVE."""
    if gap.label != "NEUTRAL":
        return None
    return "EQUIVALENT" if -margin <= gap.low and gap.high <= margin else "UNDECIDED"


def rows_needed(method: np.ndarray, baseline: np.ndarray) -> int | None:
    """Return about how many test rows would show the gap between two models, right or wrong per row [n] each.

    The sample size of McNemar's test (Connor, Biometrics 1987) at 5% and a power of 80%, with the gap d and the share
    of differing rows s as they were seen: ((1.96 sqrt(s) + 0.84 sqrt(s - d^2)) / d)^2. The made-up row of
    `compare_paired` counts here too, half on either side. Both d and s are themselves uncertain, most of all on few
    rows, so this is a rough estimate: good for "some hundred", not for the last digit. None above `MOST_ROWS`.
    """
    n = len(method) + 1
    wins, losses = (count + 0.5 for count in _wins(method, baseline))
    gap, differing = (wins - losses) / n, (wins + losses) / n
    level, power = stats.norm.ppf((1 + LEVEL) / 2), stats.norm.ppf(POWER)
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
    """Compare two models that are right or wrong per row [n], by accuracy alone: `compare_paired` without macro-F1."""
    n, (wins, losses) = len(method), _wins(method, baseline)
    rng = np.random.default_rng(seed)
    # Four kinds of rows: a win, a loss, the made-up row, and those on which the two are alike.
    drawn = resampled_sums([[1, 0], [-1, 0], [0, 1], [0, 0]], [wins, losses, 1, n - wins - losses], rng, n, resamples)
    made_up = 2 * rng.binomial(drawn[:, 1], 0.5) - drawn[:, 1]
    return difference((wins - losses) / n, (drawn[:, 0] + made_up) / n, _mid_p(wins, losses))


def paired_gap(probe: np.ndarray, baseline: np.ndarray) -> Interval:
    """Accuracy of `probe` minus that of `baseline`, right or wrong per row [n], with 95% paired bootstrap bounds.

    The bounds speak of the choice of rows, not of the folds, so they are a little narrow.
    """
    n, (wins, losses) = len(probe), _wins(probe, baseline)
    drawn = resampled_sums([1, -1, 0], [wins, losses, n - wins - losses], np.random.default_rng(0))
    return Interval((wins - losses) / n, *ends(drawn / n))


def stands(gap: Interval, baseline: str) -> str:
    """Return in words how the probe compares with the baseline, in figures too: the start of a sentence."""
    word = "loses to" if gap.high < 0 else "beats" if gap.low > 0 else "is level with"
    return (
        f"The probe {word} {baseline} in cross-validation on the training rows "
        f"({100 * gap.value:+.1f} points, 95% {100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    )


def mcnemar_p(references: np.ndarray, method: np.ndarray, baseline: np.ndarray) -> float:
    """Return McNemar's two-sided mid-p for class ids [n]; 1 where the two are right on the same rows.

    The exact binomial p counts the observed split in full and is too strict on few differing rows; mid-p counts it half
    (Fagerland, Lydersen and Laake, BMC Medical Research Methodology 2013, who recommend it).
    """
    return _mid_p(*_wins(method == references, baseline == references))


def _mid_p(wins: int, losses: int) -> float:
    rarer = stats.binom(wins + losses, 0.5)
    return float(min(1.0, 2 * rarer.cdf(min(wins, losses)) - rarer.pmf(min(wins, losses)))) if wins + losses else 1.0
