"""Classification metrics as `evaluate.Metric` subclasses, written here so that nothing is fetched from the Hub.

`import evaluate` takes about six seconds (it brings torch and transformers in), so it happens inside the functions
that need it, never when this module is imported.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk_metrics

from hftl.errors import DataError


_CHUNK_ROWS = 4096  # logits in float64 at once: all of them would be gigabytes for many rows and classes


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


def _macro(score: Callable[..., float]) -> Callable[[Any, Any], float]:
    return functools.partial(score, average="macro", zero_division=0)


@functools.cache
def metric_classes() -> dict[str, type]:
    """Return the `evaluate.Metric` subclasses by the key each of them reports.

    The keys are accuracy, macro_f1, macro_precision and macro_recall. Each class takes class ids
    (`predictions` [n], `references` [n], int64) and supports all that `evaluate.Metric` does: `compute`,
    `add_batch`, `evaluate.combine`.
    """
    import datasets
    import evaluate

    class SklearnMetric(evaluate.Metric):
        key = ""
        score: Callable[[Any, Any], float]

        def _info(self) -> Any:
            ids = datasets.Value("int64")
            return evaluate.MetricInfo(
                description=f"{self.key} of class ids, computed with scikit-learn.",
                citation="",
                inputs_description="predictions and references: class ids, one per row.",
                features=datasets.Features({"predictions": ids, "references": ids}),
            )

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            return {self.key: float(self.score(references, predictions))}

    class Accuracy(SklearnMetric):
        key = "accuracy"
        score = staticmethod(sk_metrics.accuracy_score)

    class MacroF1(SklearnMetric):
        key = "macro_f1"
        score = staticmethod(_macro(sk_metrics.f1_score))

    class MacroPrecision(SklearnMetric):
        key = "macro_precision"
        score = staticmethod(_macro(sk_metrics.precision_score))

    class MacroRecall(SklearnMetric):
        key = "macro_recall"
        score = staticmethod(_macro(sk_metrics.recall_score))

    return {cls.key: cls for cls in (Accuracy, MacroF1, MacroPrecision, MacroRecall)}


def combined_metrics() -> Any:
    """Return a fresh `evaluate.combine` of all four metrics, holding its rows in memory.

    In memory, because the default keeps an Arrow file with a lock per metric in the user's cache, which several
    processes on one machine would contend for.
    """
    import evaluate

    return evaluate.combine([cls(keep_in_memory=True) for cls in metric_classes().values()])


def compute_metrics(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Score class ids [n] against true class ids [n].

    Returns accuracy, macro_f1, macro_precision and macro_recall. The macro averages run over the classes that occur
    in the references or in the predictions (scikit-learn's default); a ratio of 0 to 0 counts as 0.
    """
    predicted, true = _paired_ids(predictions, references)
    scores = combined_metrics().compute(predictions=predicted, references=true)
    return {key: float(scores[key]) for key in metric_classes()}


def per_class(predictions: np.ndarray, references: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return label, precision, recall, f1 (float) and support (int, true rows) for each class, in `labels` order.

    `labels[i]` is the name of class id i. A class that never occurs has zeros.
    """
    predicted, true = _paired_ids(predictions, references)
    for name, ids in (("predictions", predicted), ("references", true)):
        _check_range(name, ids, len(labels))
    precision, recall, f1, support = sk_metrics.precision_recall_fscore_support(
        true, predicted, labels=np.arange(len(labels)), average=None, zero_division=0
    )
    return [
        {
            "label": label,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels)
    ]


def log_loss(logits: np.ndarray, references: np.ndarray) -> float:
    """Return the mean negative log-likelihood (nats) of the true class ids [n] under the softmax of `logits` [n, k].

    Computed from the logits in float64 rather than from probabilities: a confidently wrong row then costs its real
    loss, where a probability rounded to 0 would have to be clipped.
    """
    scores = np.asarray(logits)
    if scores.ndim != 2:
        raise DataError(f"logits must have shape [rows, classes], got {scores.shape}.")
    _, true = _paired_ids(np.zeros(len(scores), dtype=np.int64), references)
    _check_range("references", true, scores.shape[1])
    losses = np.empty(len(true))
    for start in range(0, len(true), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        shifted = scores[part].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        losses[part] = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(shifted)), true[part]]
    return float(losses.mean())


def _check_range(name: str, ids: np.ndarray, classes: int) -> None:
    if ids.min() < 0 or ids.max() >= classes:
        raise DataError(f"{name} hold class ids {ids.min()} to {ids.max()}, but the classes are 0 to {classes - 1}.")
