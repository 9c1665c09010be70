"""The scores of classes: functions of statistics that add up over rows, and the same ones as `evaluate.Metric`s.

`import evaluate` takes about six seconds (it brings torch and transformers in), so it happens inside the functions
that need it, never when this module is imported.
"""

import functools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from scipy import sparse

from hftl.errors import DataError
from hftl.evaluation.bootstrap import LEVEL, RESAMPLES, Difference, Interval, intervals, paired_differences
from hftl.evaluation.row_scores import check_range, row_scores
from hftl.evaluation.verdict import Verdict, paired_p, verdict_of


def class_statistics(predicted: np.ndarray, true: np.ndarray, classes: int) -> sparse.csr_array:
    """Return [n, 3 classes] of class codes [n]: which class is true, which is predicted, and which one is both."""
    places = np.stack([true, classes + predicted, 2 * classes + true], axis=1)
    ones = np.ones(places.shape)
    ones[:, 2] = predicted == true
    starts = np.arange(0, 3 * len(true) + 1, 3)
    return sparse.csr_array((ones.ravel(), places.ravel(), starts), shape=(len(true), 3 * classes))


def parts(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often each class is true, predicted and both, [b, classes] each."""
    true, predicted, both = np.split(sums, 3, axis=-1)
    return true, predicted, both


def accuracy(sums: np.ndarray) -> np.ndarray:
    """Return [b] of the sums [b, 3 classes] of `class_statistics`."""
    true, _, both = parts(sums)
    return both.sum(axis=-1) / true.sum(axis=-1)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Return the mean F1 [b] over the classes that occur in the sums [b, 3 classes], as scikit-learn does.

    F1 is 2 TP / (true + predicted), the harmonic mean of precision and recall with 0 where both are 0.
    """
    true, predicted, both = parts(sums)
    return macro(2 * both, true + predicted, true + predicted)


def macro_precision(sums: np.ndarray) -> np.ndarray:
    """Return the mean precision [b] over the classes that occur; 0 for a class that is never predicted."""
    true, predicted, both = parts(sums)
    return macro(both, predicted, true + predicted)


def macro_recall(sums: np.ndarray) -> np.ndarray:
    """Return the mean recall [b] over the classes that occur; 0 for a class that is never true."""
    true, predicted, both = parts(sums)
    return macro(both, true, true + predicted)


def micro_f1(sums: np.ndarray) -> np.ndarray:
    """Return F1 [b] over all decisions together, of sums [b, 3 names]; 0 where nothing is true and nothing predicted."""
    true, predicted, both = (part.sum(axis=-1) for part in parts(sums))
    return share(2 * both, true + predicted)


def micro_precision(sums: np.ndarray) -> np.ndarray:
    """Return the share [b] of what is predicted that is true; 0 where nothing is predicted."""
    _, predicted, both = (part.sum(axis=-1) for part in parts(sums))
    return share(both, predicted)


def micro_recall(sums: np.ndarray) -> np.ndarray:
    """Return the share [b] of what is true that is predicted; 0 where nothing is true."""
    true, _, both = (part.sum(axis=-1) for part in parts(sums))
    return share(both, true)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, 0 where that is 0 / 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def macro(part: np.ndarray, whole: np.ndarray, occurs: np.ndarray) -> np.ndarray:
    """Return the mean of the shares [b, names] over the names that occur; 0 where none does."""
    return share(part, whole).sum(axis=-1) / np.maximum((occurs > 0).sum(axis=-1), 1)


SCORES = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
}
COMPARED = ("accuracy", "macro_f1")  # those with an interval and a verdict, the headline first
_COMPARED = {name: SCORES[name] for name in COMPARED}


def add_made_up(sums: np.ndarray, rows: np.ndarray, right: np.ndarray) -> None:
    """Add `rows` [b] made-up rows, `right` [b] of them right, to the sums [b, 3 classes], in place.

    Their class, and the class that they are taken for, are spread over the classes as the resample's own rows are.
    """
    true, predicted, both = parts(sums)
    total = true.sum(axis=1, keepdims=True)
    even = np.full_like(true, 1 / true.shape[1])  # for a resample of made-up rows alone
    share = np.divide(true, total, out=even, where=total > 0)
    both += right[:, None] * share
    share *= rows[:, None]
    true += share
    predicted += share


def bootstrap_intervals(
    predictions: np.ndarray, references: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> dict[str, Interval]:
    """Return percentile bootstrap intervals of accuracy and macro_f1 for class ids [n] against true class ids [n].

    Macro-F1 averages over the classes that occur in the references or the predictions. In a resample a class that was
    drawn in neither is left out of that resample's average, as scikit-learn does when handed those rows; counting it
    as 0 would push the interval below the value wherever a class is rare.

    Where every row is right, or every row wrong, all resamples are alike and their interval has no width, whatever the
    number of rows. The answer is then the exact interval of a share (`proportion_interval`; 24 of 24: from 85.8%), for
    macro-F1 too, which is 0 or 1 with the accuracy.
    """
    predicted, true = np.asarray(predictions), np.asarray(references)
    if predicted.ndim != 1 or predicted.shape != true.shape or len(true) == 0:
        raise DataError(
            "Intervals need as many predictions as references, at least one each: "
            f"got shapes {predicted.shape} and {true.shape}."
        )
    names, codes = np.unique(np.stack([predicted, true]), return_inverse=True)
    first, second = codes.reshape(2, -1)
    return intervals(class_statistics(first, second, len(names)), _COMPARED, resamples, seed, level)


class ClassVerdict(Verdict):
    """A verdict of classes: on accuracy, and beside it on macro-F1."""

    @property
    def macro_f1(self) -> Difference:
        """The difference in macro-F1."""
        return self.beside["macro_f1"]


def compare_paired(
    method: np.ndarray, baseline: np.ndarray, references: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> ClassVerdict:
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
    right = (first == true, second == true)
    exact_p = {"accuracy": paired_p(*right)}
    gaps = paired_differences(statistics[0], statistics[1], _COMPARED, exact_p, add_made_up, resamples, seed)
    verdict = verdict_of(gaps, right)
    return ClassVerdict(**{field.name: getattr(verdict, field.name) for field in fields(verdict)})


def compute_metrics(predictions: Any, references: Any) -> dict[str, float]:
    """Score class ids [n] against true class ids [n].

    Returns accuracy, macro_f1, macro_precision and macro_recall. The macro averages run over the classes that occur
    in the references or in the predictions (scikit-learn's default); a ratio of 0 to 0 counts as 0.
    """
    ids = np.stack(_paired_ids(predictions, references))
    names, codes = np.unique(ids, return_inverse=True)
    predicted, true = codes.reshape(ids.shape)
    sums = _class_sums(predicted, true, len(names))
    return {name: float(score(sums)) for name, score in SCORES.items()}


def _class_sums(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    counts = [np.bincount(ids, minlength=classes) for ids in (true, predicted, true[true == predicted])]
    return np.concatenate(counts).astype(np.float64)


def per_class(predictions: np.ndarray, references: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return label, precision, recall, f1 (float) and support (int, true rows) for each class, in `labels` order.

    `labels[i]` is the name of class id i. A class that never occurs has zeros.
    """
    predicted, true = _paired_ids(predictions, references)
    for name, ids in (("predictions", predicted), ("references", true)):
        check_range(name, ids, len(labels))
    return table_of(_class_sums(predicted, true, len(labels)), labels)


def table_of(sums: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return a line of `per_class` for each name, of the sums [3 names] of all rows."""
    support, answers, both = parts(sums)
    table = {
        "precision": share(both, answers),
        "recall": share(both, support),
        "f1": share(2 * both, support + answers),
    }
    return [
        {"label": label, **{name: float(values[i]) for name, values in table.items()}, "support": int(support[i])}
        for i, label in enumerate(labels)
    ]


def log_loss(logits: np.ndarray, references: np.ndarray) -> float:
    """Return the mean negative log-likelihood (nats) of the true class ids [n] under the softmax of `logits` [n, k]."""
    return float(row_scores(logits, references).loss.mean())


def _paired_ids(predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both as int64 [n], or raise when they are not two equally long, non-empty lists of class ids."""
    arrays = []
    for name, values in (("predictions", predictions), ("references", references)):
        array = np.asarray(values)
        if array.ndim != 1 or array.size == 0:
            raise DataError(f"{name} must be a non-empty list of class ids, got an array of shape {array.shape}.")
        if array.dtype.kind not in "iub":
            raise DataError(f"{name} must be whole class ids, got {array.dtype} (take the argmax of logits first).")
        arrays.append(array.astype(np.int64))
    if len(arrays[0]) != len(arrays[1]):
        raise DataError(f"{len(arrays[0])} predictions for {len(arrays[1])} references: the two must pair up.")
    return arrays[0], arrays[1]


@functools.cache
def metric_classes() -> dict[str, type]:
    """Return the `evaluate.Metric` subclasses by the key each of them reports, those of `compute_metrics`.

    Each class takes class ids (`predictions` [n], `references` [n], int64) and supports all that `evaluate.Metric`
    does: `compute`, `add_batch`, `evaluate.combine`. Nothing is fetched from the Hub.
    """
    import datasets
    import evaluate

    class ClassMetric(evaluate.Metric):
        key = ""

        def _info(self) -> Any:
            ids = datasets.Value("int64")
            return evaluate.MetricInfo(
                description=f"{self.key} of class ids.",
                citation="",
                inputs_description="predictions and references: class ids, one per row.",
                features=datasets.Features({"predictions": ids, "references": ids}),
            )

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            return {self.key: compute_metrics(predictions, references)[self.key]}

    return {key: type(key.title().replace("_", ""), (ClassMetric,), {"key": key}) for key in SCORES}


def combined_metrics() -> Any:
    """Return an `evaluate.combine` of the four metrics, holding its rows in memory.

    In memory, because the default keeps an Arrow file with a lock per metric in the user's cache, which several
    processes on one machine would contend for.
    """
    import evaluate

    return evaluate.combine([cls(keep_in_memory=True) for cls in metric_classes().values()])
