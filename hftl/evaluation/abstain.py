"""From which confidence on to trust the model: the threshold for a target precision, and what it costs in coverage."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from hftl.evaluation.bootstrap import Interval, proportion_interval
from hftl.evaluation.row_scores import RowScores, row_scores


# How far the threshold lies under the confidence of the last accepted row, so that the same row put through
# `pipeline`, which computes in fp32, is accepted again.
_ROUNDING = 1e-6


def abstain_threshold(scores: RowScores, precision: float) -> float | None:
    """Return the smallest confidence from which on the rows (confidence >= threshold) have the target precision.

    0 when all rows together have it; None when no threshold reaches it on 1 / (1 - precision) rows, the fewest that may
    hold one mistake (20 for 95%). It is the last one that reaches the target, so other rows fall short of it somewhat
    more often than not where these are few: in 57% to 65% of simulated cases with 100 rows (by half a point to a point
    in the mean), in 50% to 58% from 300 rows on. Rows of equal confidence are accepted or refused together.
    """
    least = _least_rows(precision)
    confidence, accepted, hits = _accepted(scores)
    reached = (hits >= precision * accepted - 1e-9) & (accepted >= least)
    if not reached.any():
        return None
    last = int(np.flatnonzero(reached)[-1])
    if last == len(confidence) - 1:
        return 0.0
    return float(confidence[last] - min(_ROUNDING, (confidence[last] - confidence[last + 1]) / 2))


def _least_rows(precision: float) -> int:
    return math.ceil(1 / (1 - precision) - 1e-9)


def _accepted(scores: RowScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct confidences from high to low, and for each how many rows have at least it and are right."""
    order = np.argsort(-scores.confidence, kind="stable")
    confidence = scores.confidence[order]
    ends = np.append(np.flatnonzero(confidence[1:] != confidence[:-1]), len(confidence) - 1)
    return confidence[ends], ends + 1, scores.correct[order].cumsum()[ends]


def risk_coverage(scores: RowScores, points: int = 100) -> list[list[float]]:
    """Return at most `points` of (coverage, precision), from the most confident rows to all rows.

    Coverage is the share of rows from some confidence on, precision how many of them are right (El-Yaniv and Wiener
    2010, as 1 - risk). The points lie at even steps of coverage, as far as equal confidences allow.
    """
    _, accepted, hits = _accepted(scores)
    rows = accepted[-1]
    steps = np.ceil(np.arange(1, points + 1) * rows / points)
    places = np.unique(np.searchsorted(accepted, steps))
    return [[float(accepted[i] / rows), float(hits[i] / accepted[i])] for i in places]


def abstain_report(
    validation_logits: np.ndarray,
    validation_references: np.ndarray,
    test_logits: np.ndarray,
    test_references: np.ndarray,
    precision: float,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Return the threshold chosen on validation and what it gives on the test rows, as JSON has it.

    {precision, threshold, test_precision, coverage, curve, note}: the target, the threshold or None when validation does
    not reach the target, {value, low, high} with its exact 95% interval or None where no row is accepted, the accepted
    share, and the `risk_coverage` of the test rows. The confidence is that of logits / `temperature`.
    """
    validation = row_scores(validation_logits, validation_references, temperature)
    test = row_scores(test_logits, test_references, temperature)
    threshold = abstain_threshold(validation, precision)
    report: dict[str, Any] = {
        "precision": float(precision),
        "threshold": threshold,
        "test_precision": None,
        "coverage": None,
    }
    report["curve"] = risk_coverage(test)
    if threshold is None:
        return {**report, "note": _why_not(validation, precision)}
    accept = test.confidence >= threshold
    rows, accepted = len(accept), int(accept.sum())
    precise = proportion_interval(int(test.correct[accept].sum()), accepted) if accepted else None
    report |= {"test_precision": asdict(precise) if precise else None, "coverage": accepted / rows}
    return {**report, "note": _in_words(threshold, precision, accepted, rows, precise)}


def _why_not(validation: RowScores, precision: float) -> str:
    least = _least_rows(precision)
    rows = len(validation.confidence)
    if rows < least:
        return f"{rows} validation rows are too few for a precision of {precision:.1%}: it takes {least}."
    _, accepted, hits = _accepted(validation)
    best = (hits / accepted)[accepted >= least].max()
    return (
        f"No threshold reaches a precision of {precision:.1%} on {least} or more of the {rows} validation rows: "
        f"the best is {best:.1%}."
    )


def _in_words(threshold: float, precision: float, accepted: int, rows: int, precise: Interval | None) -> str:
    rule = f"A confidence of {threshold:.4f} or more reaches {precision:.1%} on validation."
    if threshold == 0:
        rule = f"All validation rows together reach {precision:.1%}: no row has to be held back."
    if precise is None:
        return f"{rule} No test row has it."
    verdict = "agrees with the target within chance"
    if not precise.low < precision <= precise.high:
        verdict = f"is {'below' if precise.high < precision else 'above'} the target, beyond chance"
    return (
        f"{rule} On test it accepts {accepted} of {rows} rows, and their precision of "
        f"{precise.value:.1%} ({precise.low:.1%} to {precise.high:.1%}) {verdict}."
    )
