"""Bootstrap confidence intervals: how far a test score could have come out otherwise with other test rows."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hftl.errors import ConfigError, DataError
from hftl.evaluation.proportions import Interval, proportion_interval


# Row draws held at once: about 100 MB of index and count arrays, whatever the number of rows and classes.
_CHUNK_DRAWS = 2_000_000


@dataclass(frozen=True)
class _Cells:
    """The data as distinct (true, predicted) pairs: rows of one pair are interchangeable for every metric here.

    `of_row` [n] is the pair of each row; the sparse one-hot matrices [pairs, classes] turn how often each pair
    occurs into how often each class is true, is predicted, and is both.
    """

    of_row: np.ndarray
    true: sparse.csr_array
    predicted: sparse.csr_array
    both: sparse.csr_array

    @property
    def size(self) -> int:
        return self.true.shape[0]


def _cells(predictions: np.ndarray, references: np.ndarray) -> _Cells:
    classes, codes = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, predicted = codes[: len(references)], codes[len(references) :]
    pairs, of_row = np.unique(true.astype(np.int64) * len(classes) + predicted, return_inverse=True)
    true_id, predicted_id = np.divmod(pairs, len(classes))
    hit = true_id == predicted_id

    def one_hot(ids: np.ndarray, keep: np.ndarray) -> sparse.csr_array:
        rows = np.flatnonzero(keep)
        return sparse.csr_array((np.ones(len(rows)), (rows, ids[keep])), shape=(len(pairs), len(classes)))

    everything = np.ones(len(pairs), dtype=bool)
    return _Cells(of_row, one_hot(true_id, everything), one_hot(predicted_id, everything), one_hot(true_id, hit))


def _scores(counts: np.ndarray, cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracy and macro-F1, each [b], of `counts` [b, pairs]: how often each pair occurs in each resample."""
    both = counts @ cells.both
    # F1 is 2 TP / (true + predicted), the harmonic mean of precision and recall with 0 where both are 0.
    total = counts @ cells.true + counts @ cells.predicted
    accuracy = both.sum(axis=1) / counts.sum(axis=1)
    present = total > 0
    f1 = np.divide(2 * both, total, out=np.zeros_like(total), where=present)
    return accuracy, f1.sum(axis=1) / present.sum(axis=1)


def _resampled_scores(cells: _Cells, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracy and macro-F1, each [resamples], of rows drawn with replacement.

    The draws are those of one `rng.integers(0, n, n)` per resample, so the result does not depend on the chunking.
    """
    rng = np.random.default_rng(seed)
    rows = len(cells.of_row)
    step = max(1, _CHUNK_DRAWS // rows)
    accuracy, macro_f1 = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = cells.of_row[rng.integers(0, rows, size=(stop - start, rows))]
        # One bincount for the whole chunk: each resample gets its own stretch of pair numbers.
        drawn += np.arange(stop - start)[:, None] * cells.size
        counts = np.bincount(drawn.ravel(), minlength=(stop - start) * cells.size)
        chunk = _scores(counts.reshape(stop - start, cells.size).astype(np.float64), cells)
        accuracy[start:stop], macro_f1[start:stop] = chunk
    return accuracy, macro_f1


def bootstrap_intervals(
    predictions: np.ndarray, references: np.ndarray, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Return percentile bootstrap intervals of accuracy and macro_f1 for class ids [n] against true class ids [n].

    The test rows are drawn with replacement `resamples` times, and the interval runs between the (1 - level) / 2 and
    (1 + level) / 2 quantiles of the resampled scores (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13). 2,000 resamples put about 50 of them beyond each end at 95%.

    `value` is the score on the data itself. Macro-F1 averages over the classes that occur in the references or the
    predictions. In a resample a class that was drawn in neither is left out of that resample's average, as
    scikit-learn does when handed those rows; counting it as 0 would push the interval below the value wherever a
    class is rare. With very few rows the interval need not contain the value.

    Where every row is right, or every row wrong, all resamples are alike and their interval has no width, whatever the
    number of rows. The exact interval of a share stands there instead (`proportion_interval`; 24 of 24: from 85.8%),
    for macro-F1 too, which is 0 or 1 with the accuracy. The interval speaks of the choice of test rows only, not of
    the choice of training rows or seed.
    """
    predicted, true = np.asarray(predictions), np.asarray(references)
    if predicted.ndim != 1 or predicted.shape != true.shape or len(true) == 0:
        raise DataError(
            "Intervals need as many predictions as references, at least one each: "
            f"got shapes {predicted.shape} and {true.shape}."
        )
    if resamples < 1 or not 0 < level < 1:
        raise ConfigError(f"resamples must be 1 or more and level between 0 and 1, got {resamples} and {level}.")
    cells = _cells(predicted, true)
    own_counts = np.bincount(cells.of_row, minlength=cells.size).astype(np.float64)[None]
    names = ("accuracy", "macro_f1")
    values = dict(zip(names, _scores(own_counts, cells), strict=True))
    hits = int((predicted == true).sum())
    if hits in (0, len(true)):
        return dict.fromkeys(names, proportion_interval(hits, len(true), level))
    intervals = {}
    for name, scores in zip(names, _resampled_scores(cells, resamples, seed), strict=True):
        low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
        intervals[name] = Interval(float(values[name][0]), float(low), float(high))
    return intervals
