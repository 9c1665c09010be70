"""The verdict of a run: is the method better than a baseline on the same test rows, by how much, how surely."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse, stats

from hftl.errors import ConfigError, DataError


Label = Literal["POSITIVE", "NEGATIVE", "NEUTRAL"]
Kind = Literal["EQUIVALENT", "UNDECIDED"]
LEVEL = 0.95
# Accuracies that differ by no more than this, as a share of the rows, are equivalent. Ours: about what one person
# would not notice in use, and the margin that a mean-pooled class has to win by (hftl.training.logistic).
MARGIN = 0.02
POWER = 0.8  # with which `rows_needed` rows would show the gap: the usual choice
MOST_ROWS = 100_000  # a gap that takes more rows than this is as good as none
# Row draws held at once: about 100 MB of index and count arrays, whatever the number of rows and classes.
_CHUNK_DRAWS = 2_000_000


@dataclass(frozen=True)
class Difference:
    """A score of the method minus that of the baseline, its 95% interval, a p-value, and what they say.

    The label is POSITIVE when the whole interval is above 0, NEGATIVE when it is below, else NEUTRAL.
    """

    label: Label
    gap: float
    low: float
    high: float
    p: float


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
class _Cells:
    """The data as distinct (true, method, baseline) triples: rows of one triple are interchangeable.

    `of_row` [n] is the triple of each row, `counts` how many rows each has. The sparse one-hot matrices
    [triples, classes] turn how often each triple occurs into how often each class is true, and per model how often it
    is predicted and is a hit.
    """

    of_row: np.ndarray
    counts: np.ndarray
    true: sparse.csr_array
    predicted: tuple[sparse.csr_array, sparse.csr_array]
    hit: tuple[sparse.csr_array, sparse.csr_array]


def compare_paired(
    method: np.ndarray, baseline: np.ndarray, references: np.ndarray, resamples: int = 2000, seed: int = 0
) -> Verdict:
    """Compare the class ids [n] that a method and a baseline predict for the same rows with the true ones [n].

    The interval is a paired bootstrap: n rows are drawn `resamples` times, and it runs between the 2.5% and 97.5%
    quantiles of the gaps. Two things are added to the plain one, which is too narrow where the two models seldom
    differ (in simulation with 2 such rows in 50 it covers the truth in 82% of cases, and it calls one lucky row of one
    proof). One made-up row is among those drawn from, which one model has right and the other wrong, by a coin: half
    of what Bonett and Price (J. Educ. Behav. Stat. 2012) add to an interval of paired proportions. And where the test
    does not exclude that there is no difference (p of 5% or more), the interval is stretched to hold 0: a verdict has
    both behind it.

    p is two-sided: for accuracy McNemar's mid-p, for macro-F1 the share of `resamples` random swaps of the two
    predictions, row by row, that put the gap as far from 0 (the same test, with another score; Noreen 1989).

    Macro-F1 averages over the classes that occur in a resample, as in `bootstrap_intervals`. With so few rows or
    differing ones that nothing can be shown the label is NEUTRAL: it takes five differing rows, all on one side, for
    another. Simulated (50 to 2,000 rows, accuracies .6 to .97, gaps 0 to .05, correlations 0 to .8, 1,500 draws each;
    tests/evidence/test_verdict_simulated.py draws some of it again): where 10 rows or more are expected to differ the
    interval of accuracy covers the truth in 93.8% to 97.1% of cases, on fewer in 92.9% to 100%; a false POSITIVE or
    NEGATIVE comes in at most 5.6%. It speaks of the choice of test rows only, not of training rows or seed.

    Raises `DataError` for arrays that do not pair up and `ConfigError` for fewer than one resample.
    """
    ids = [np.asarray(values) for values in (references, method, baseline)]
    if len({values.shape for values in ids}) > 1 or ids[0].ndim != 1 or len(ids[0]) == 0:
        raise DataError(
            "A verdict needs a prediction of both models for every reference, at least one: got shapes "
            f"{ids[1].shape} and {ids[2].shape} for {ids[0].shape}."
        )
    if resamples < 1:
        raise ConfigError(f"resamples must be 1 or more, got {resamples}.")
    cells = _cells(*ids)
    accuracy, macro_f1 = (float(values[0]) for values in _gaps(cells.counts[None], np.zeros(1), np.zeros(1), cells))
    rows, coins, swaps = np.random.default_rng(seed).spawn(3)
    drawn_accuracy, drawn_f1 = _resampled_gaps(cells, resamples, rows, coins)
    f1 = _difference(macro_f1, drawn_f1, _swapped_p(macro_f1, cells, resamples, swaps))
    found = _difference(accuracy, drawn_accuracy, mcnemar_p(*ids))
    kind = kind_of(found)
    right, other = ids[1] == ids[0], ids[2] == ids[0]
    needed = rows_needed(right, other) if kind == "UNDECIDED" else None
    return Verdict(found.label, found.gap, found.low, found.high, found.p, f1, kind, needed)


def kind_of(found: Difference, margin: float = MARGIN) -> Kind | None:
    """Return which sort of NEUTRAL a difference is, None for POSITIVE and NEGATIVE."""
    if found.label != "NEUTRAL":
        return None
    return "EQUIVALENT" if -margin <= found.low and found.high <= margin else "UNDECIDED"


def rows_needed(method: np.ndarray, baseline: np.ndarray) -> int | None:
    """Return about how many test rows would show the gap between two models, right or wrong per row [n] each.

    The sample size of McNemar's test (Connor, Biometrics 1987) at 5% and a power of 80%, with the gap d and the share
    of differing rows s as they were seen: ((1.96 sqrt(s) + 0.84 sqrt(s - d^2)) / d)^2. The made-up row of
    `compare_paired` counts here too, half on either side. Both d and s are themselves uncertain, most of all on few
    rows, so this is a rough estimate: good for "some hundred", not for the last digit. None above `MOST_ROWS`.
    """
    n = len(method) + 1
    wins, losses = (method & ~baseline).sum() + 0.5, (~method & baseline).sum() + 0.5
    gap, differing = (wins - losses) / n, (wins + losses) / n
    level, power = stats.norm.ppf((1 + LEVEL) / 2), stats.norm.ppf(POWER)
    reach = level * math.sqrt(differing) + power * math.sqrt(max(0.0, differing - gap**2))
    if abs(gap) * math.sqrt(MOST_ROWS) < reach:
        return None
    return math.ceil((reach / gap) ** 2)


def accuracy_difference(method: np.ndarray, baseline: np.ndarray, resamples: int = 2000, seed: int = 0) -> Difference:
    """Compare two models that are right or wrong per row [n], by accuracy alone: `compare_paired` without macro-F1.

    Rows that both get right, or both wrong, are alike here, so a resample is one draw of how many of each kind it has.
    """
    n = len(method)
    wins, losses = int((method & ~baseline).sum()), int((~method & baseline).sum())
    kinds = np.array([wins, losses, 1, n - wins - losses]) / (n + 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, kinds, size=resamples)
    made_up = 2 * rng.binomial(drawn[:, 2], 0.5) - drawn[:, 2]
    return _difference((wins - losses) / n, (drawn[:, 0] - drawn[:, 1] + made_up) / n, _mid_p(wins, losses))


def mcnemar_p(references: np.ndarray, method: np.ndarray, baseline: np.ndarray) -> float:
    """Return McNemar's two-sided mid-p for class ids [n]; 1 where the two are right on the same rows.

    The exact binomial p counts the observed split in full and is too strict on few differing rows; mid-p counts it half
    (Fagerland, Lydersen and Laake, BMC Medical Research Methodology 2013, who recommend it).
    """
    first, second = method == references, baseline == references
    return _mid_p(int((first & ~second).sum()), int((second & ~first).sum()))


def _mid_p(wins: int, losses: int) -> float:
    rarer = stats.binom(wins + losses, 0.5)
    return float(min(1.0, 2 * rarer.cdf(min(wins, losses)) - rarer.pmf(min(wins, losses)))) if wins + losses else 1.0


def _difference(gap: float, drawn: np.ndarray, p: float) -> Difference:
    low, high = (float(end) for end in np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if p >= 1 - LEVEL:  # no difference is not excluded: the interval says so too
        low, high = min(low, 0.0), max(high, 0.0)
    label: Label = "POSITIVE" if low > 0 else "NEGATIVE" if high < 0 else "NEUTRAL"
    return Difference(label, gap, low, high, p)


def _cells(references: np.ndarray, method: np.ndarray, baseline: np.ndarray) -> _Cells:
    names, codes = np.unique(np.concatenate([references, method, baseline]), return_inverse=True)
    classes = len(names)
    true, first, second = codes.reshape(3, -1).astype(np.int64)
    triples, of_row, counts = np.unique(
        (true * classes + first) * classes + second, return_inverse=True, return_counts=True
    )
    rest, second_id = np.divmod(triples, classes)
    true_id, first_id = np.divmod(rest, classes)

    def one_hot(ids: np.ndarray, keep: np.ndarray) -> sparse.csr_array:
        rows = np.flatnonzero(keep)
        return sparse.csr_array((np.ones(len(rows)), (rows, ids[keep])), shape=(len(triples), classes))

    everything = np.ones(len(triples), dtype=bool)
    return _Cells(
        of_row,
        counts.astype(np.int64),
        one_hot(true_id, everything),
        (one_hot(first_id, everything), one_hot(second_id, everything)),
        (one_hot(true_id, first_id == true_id), one_hot(true_id, second_id == true_id)),
    )


def _macro_f1(hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return [b] for hits [b, classes] and `total`, how often each class is true plus how often it is predicted.

    F1 is 2 TP / total, the harmonic mean of precision and recall, with 0 where both are 0.
    """
    present = total > 0
    f1 = np.divide(2 * hits, total, out=np.zeros_like(total), where=present)
    return f1.sum(axis=1) / present.sum(axis=1)


def _gaps(counts: np.ndarray, wins: np.ndarray, losses: np.ndarray, cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps in accuracy and in macro-F1, each [b].

    `counts` [b, triples] says how often each triple is in each resample, `wins` and `losses` [b] how often the made-up
    row is, on either side. That row's class, and the class that the other model takes it for, are spread over the
    classes as the resample's own rows are.
    """
    counts = counts.astype(np.float64)
    true = counts @ cells.true
    rows = true.sum(axis=1)
    even = np.full_like(true, 1 / true.shape[1])  # for a resample of made-up rows alone
    share = np.divide(true, rows[:, None], out=even, where=rows[:, None] > 0)
    extra = (wins + losses)[:, None] * share
    right, macro = [], []
    for predicted, hit, won in zip(cells.predicted, cells.hit, (wins, losses), strict=True):
        hits = counts @ hit
        right.append(hits.sum(axis=1) + won)
        macro.append(_macro_f1(hits + won[:, None] * share, true + counts @ predicted + 2 * extra))
    return (right[0] - right[1]) / (rows + wins + losses), macro[0] - macro[1]


def _resampled_gaps(
    cells: _Cells, resamples: int, rows: np.random.Generator, coins: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps in accuracy and macro-F1, each [resamples], of n rows drawn from the n rows and one made-up row.

    Rows and coins come from generators of their own, so that the result does not depend on the chunking.
    """
    n, made_up = len(cells.of_row), len(cells.counts)
    of_row = np.append(cells.of_row, made_up)
    step = max(1, _CHUNK_DRAWS // n)
    accuracy, macro_f1 = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = of_row[rows.integers(0, n + 1, size=(stop - start, n))]
        # One bincount for the whole chunk: each resample gets its own stretch of triple numbers.
        drawn += np.arange(stop - start)[:, None] * (made_up + 1)
        counts = np.bincount(drawn.ravel(), minlength=(stop - start) * (made_up + 1)).reshape(stop - start, -1)
        extra = counts[:, made_up]
        wins = coins.binomial(extra, 0.5)
        accuracy[start:stop], macro_f1[start:stop] = _gaps(counts[:, :made_up], wins, extra - wins, cells)
    return accuracy, macro_f1


def _swapped_p(gap: float, cells: _Cells, swaps: int, rng: np.random.Generator) -> float:
    """Return how often the gap in macro-F1 is as far from 0 as `gap` when coins say whose prediction is whose."""
    first, second = cells.predicted
    differ = np.flatnonzero(abs(first - second).sum(axis=1))
    if len(differ) == 0:
        return 1.0
    counts = cells.counts[None].astype(np.float64)
    hits = [counts @ hit for hit in cells.hit]
    totals = [counts @ cells.true + counts @ predicted for predicted in cells.predicted]
    move_hits = (cells.hit[1] - cells.hit[0])[differ]
    move_totals = (second - first)[differ]
    step = max(1, _CHUNK_DRAWS // max(len(differ), first.shape[1]))
    extreme = 0
    for start in range(0, swaps, step):
        size = (min(step, swaps - start), len(differ))
        swapped = rng.binomial(cells.counts[differ], 0.5, size=size).astype(np.float64)
        hit, total = swapped @ move_hits, swapped @ move_totals
        found = _macro_f1(hits[0] + hit, totals[0] + total) - _macro_f1(hits[1] - hit, totals[1] - total)
        extreme += int((abs(found) >= abs(gap) - 1e-12).sum())
    return (extreme + 1) / (swaps + 1)
