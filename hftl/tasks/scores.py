"""What the answers of any `Output` come to: figures, their intervals, and the verdict on two models."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from hftl.evaluation.bootstrap import Difference, Interval, Label, Scores, intervals, paired_differences
from hftl.evaluation.metrics import table_of
from hftl.evaluation.row_scores import row_scores
from hftl.evaluation.verdict import Verdict, accuracy_difference, paired_p, verdict_of
from hftl.tasks.task import Output


def measure(output: Output, answers: Any, targets: Any, names: Sequence[str]) -> dict[str, float]:
    """Return every score of the answers (`Output.decode`'s) to all rows together."""
    sums = output.statistics(answers, targets, names).sum(axis=0)[None]
    return {name: float(score(sums)[0]) for name, score in output.scores.items()}


def score_answers(output: Output, answers: Any, targets: Any, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return value, low and high of the scores that have an interval, by name: for models that give answers alone."""
    bounds: dict[str, Interval] = intervals(output.statistics(answers, targets, names), _compared(output))
    return {name: asdict(interval) for name, interval in bounds.items()}


def score(output: Output, outputs: np.ndarray, targets: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return all that stands in a report of what a model put out for the rows, [n, ...]: its scores and its log loss."""
    answers = output.decode(outputs)
    document = {**measure(output, answers, targets, names), **score_answers(output, answers, targets, names)}
    if output.beside is not None:
        document |= {name: asdict(interval) for name, interval in output.beside(outputs, targets).items()}
    if output.units is not None:
        document["log_loss"] = mean_loss(output, outputs, targets)
    return document


def lines(output: Output, answers: Any, targets: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return label, precision, recall, f1 and support for each class, label or type; nothing for an output without."""
    if output.lines is None:
        return []
    of = output.lines(names)
    table = table_of(output.statistics(answers, targets, names)[:, : 3 * len(of)], of)
    return table if output.extra is None else output.extra(table)  # type: ignore[no-any-return]


def worst_rows(output: Output, outputs: Any, targets: Any, limit: int) -> list[dict[str, Any]]:
    """Return row, true, predicted, loss and the like of the at most `limit` rows that are most wrong.

    Those of which most is wrong come first, of equals the one of the highest loss, then the first.
    """
    answers = output.decode(outputs)
    wrong, columns = output.errors(outputs, answers, targets)
    order = np.lexsort([-columns["loss"], -wrong])
    return [
        {
            "row": row,
            "true": output.coded(targets[row]),
            "predicted": output.coded(answers[row]),
            **{name: values[row].item() for name, values in columns.items()},
        }
        for row in order[wrong[order] > 0][:limit].tolist()
    ]


def as_metric(output: Output, names: Sequence[str]) -> Any:
    """Return an `evaluate.Metric` of all scores of answers with these names, which needs no Hub and writes no file.

    It takes answers and targets in batches, as ids of classes, rows of 0 and 1, or numbers.
    """
    import evaluate  # late: it takes six seconds
    from datasets import Features, List, Value

    kinds = (Value("float64"),) if output.link == "none" else (Value("int64"), List(Value("int64")))
    features = [Features({"predictions": kind, "references": kind}) for kind in kinds]

    class Scores(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            words = f"the scores of {output.problem_type}"
            return evaluate.MetricInfo(words, citation="", features=features, inputs_description=words)

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            return measure(output, np.asarray(predictions), np.asarray(references), names)

    return Scores(keep_in_memory=True)


def mean_loss(output: Output, outputs: np.ndarray, targets: Any) -> float:
    """Return the mean loss of what a model put out, without weights and smoothing; of classes in nats."""
    if output.units is not None:  # in double precision
        return float(row_scores(*output.units(outputs, targets)).loss.mean())
    if output.keep is not None:  # each row brings that of its pixels
        return float(output.errors(outputs, outputs, targets)[1]["loss"].mean())
    summed, count = output.loss(torch.as_tensor(outputs), torch.as_tensor(targets), None, 0.0)
    return float(summed / count)


def compare(output: Output, method: Any, baseline: Any, targets: Any, names: Sequence[str]) -> Verdict:
    """Return the verdict on the answers of a method and of a baseline to the same rows.

    One made-up row is among those drawn from where the output has a way to make it, which widens the interval where
    the two seldom differ; `hftl.evaluation.metrics.add_made_up` says why, and what simulations show.
    """
    pair = (method, baseline)
    right = {name: tuple(is_right(answers, targets) for answers in pair) for name, is_right in output.right.items()}
    exact_p = {name: paired_p(*flags) for name, flags in right.items()}
    first, second = (output.statistics(answers, targets, names) for answers in pair)
    differences = paired_differences(first, second, _compared(output), exact_p, output.made_up)
    differences = {name: _better(output, name, gap) for name, gap in differences.items()}
    return verdict_of(differences, right.get(output.headline), first.shape[0])  # type: ignore[arg-type]


def _better(output: Output, name: str, gap: Difference) -> Difference:
    """Return the difference with the label that says which model is better, also where less is better."""
    turned: dict[str, Label] = {"POSITIVE": "NEGATIVE", "NEGATIVE": "POSITIVE", "NEUTRAL": "NEUTRAL"}
    return replace(gap, label=turned[gap.label]) if name in output.smaller else gap


def gap(output: Output, method: Any, baseline: Any, targets: Any, names: Sequence[str]) -> Difference:
    """Compare two models by the headline score alone."""
    is_right = output.right.get(output.headline)
    if is_right is not None:
        return accuracy_difference(is_right(method, targets), is_right(baseline, targets))
    first, second = (output.statistics(answers, targets, names) for answers in (method, baseline))
    scores = {output.headline: output.scores[output.headline]}
    return paired_differences(first, second, scores, {}, output.made_up)[output.headline]


def _compared(output: Output) -> Scores:
    return {name: output.scores[name] for name in output.compared}
