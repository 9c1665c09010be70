"""The fields of report.json, each with the rule by which it may be published; what is not named here never is.

Any value may be None, and a run of another version may lack a field. docs/report.md says what each one means.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from hftl.report.visible import one_line


# What stays out of a sentence: paths, file names, web addresses, and quotations, which may come from a row.
_TELLING = re.compile(
    r"""[~\\]|/[^\s/]+/|(^|[\s'"(])\.{0,2}/\w|\w\.[A-Za-z][A-Za-z0-9]{1,7}\b(?!\.)|://|(^|[\s(:])['"`][^'"`]+['"`]"""
)
_GROUP = re.compile(
    r"\((missing|other)\)|[A-Za-z0-9;_]{1,8}|[\d.e+-]+( to [\d.e+-]+)?( characters| pixels on the short side)"
)


def number(value: Any) -> Any:
    """Let numbers, booleans and None through; anything else becomes None."""
    return value if isinstance(value, bool | int | float) else None


def word(value: Any) -> Any:
    """Let a name through that hftl or a library gave, such as "lora" or "2.13.0+cpu"."""
    return one_line(value) if isinstance(value, str) and "/" not in value and "\\" not in value else None


def label(value: Any) -> Any:
    """Let a class name through: they stand in config.json as well."""
    return value if isinstance(value, str) else None


def sentence(value: Any) -> Any:
    """Let a sentence of hftl's through, unless it names a file or quotes something: then it is "" instead."""
    if not isinstance(value, str):
        return None
    return "" if _TELLING.search(value) else value


def group(value: Any) -> Any:
    """Let the name of a natural group of rows through: numbers with their unit, or an image mode as Pillow calls it."""
    return value if isinstance(value, str) and _GROUP.fullmatch(value) else None


def score(value: Any) -> Any:
    """Let a score through: a number, or one with its interval."""
    return public_part(_SCORE, value) if isinstance(value, dict) else number(value)


def ids(value: Any) -> Any:
    """Let a number through, or a list of them: what is true of a row, by number."""
    return [number(one) for one in value] if isinstance(value, list) else number(value)


def private(_: Any) -> Any:
    """Let nothing through: the field stays in the run."""
    return None


# A rule, the shapes of a dict's fields ({str: shape}: of every name), or [the shape of a list's items].
Shape = Callable[[Any], Any] | Mapping[Any, Any] | list[Any]


def _all(rule: Callable[[Any], Any], names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), rule)


_SCORE = _all(number, "value low high")
_NAMES = "accuracy macro_f1 micro_f1 exact map r2 rmse mae pearson spearman f1 strict_f1 precision recall miou pixel_accuracy dice"
_SCORES = _all(score, _NAMES)
_METRICS = {**_SCORES, **_all(number, "macro_precision macro_recall micro_precision micro_recall log_loss")}
_RUNG = {**_SCORES, "name": sentence, "kind": word, "seconds": number, "note": sentence}
_DIFFERENCE = {"label": word, **_all(number, "gap low high p")}
_SURENESS = _all(number, "ece ece_low ece_high ece_if_calibrated log_loss brier")
_BINS = [_all(number, "low high count confidence accuracy")]
_CHECKED = "rows max_difference labels_equal tolerance seconds"
_SPREADS = {str: {"values": [number], "mean": number, "std": number}}

_FOLDS = {**_all(number, "rows probe_accuracy baseline_accuracy"), "baseline": sentence, "gap": _SCORE}
_VERDICT = {
    **_DIFFERENCE,
    **{"against": sentence, "kind": word, "rows_needed": number, "cross_validation": _FOLDS},
    **dict.fromkeys(_NAMES.split(), _DIFFERENCE),
    "advice": private,  # for the person who trained it
}
_FORGETTING = {
    **_all(number, "kept unchanged low high rows left_out knn_agreement knn_chance seconds seconds_after"),
    **_all(sentence, "definition note"),
    "retention": private,  # may be a path
    "retention_kind": word,
    "probe": _all(number, "before after low high"),
    "cka": [{"block": word, "value": number}],
    "original_head": {"kind": word, **_all(number, "loss_before loss_after")},
}
_CALIBRATION = {
    **{"temperature": number, "note": sentence, "before": _SURENESS, "after": _SURENESS},
    **dict.fromkeys(("bins_before", "bins_after"), _BINS),
}
_THRESHOLD = {
    **_all(number, "precision threshold coverage"),
    "note": sentence,
    "test_precision": _SCORE,
    "curve": [[number]],
}
_FINDING = {
    **{**_all(word, "check level"), "count": number, "by_split": {str: number}, "rows": {str: [number]}},
    "fix": private,  # what to do; may quote classes, files and rows
}
_STAGE = {
    **_all(word, "name reads weights"),
    **_all(number, "trainable_parameters seconds steps epochs"),
    "learning_rates": {str: number},
    "history": [{str: number}],
    "paused": number,
    "interpolation": {"metric": word, "alpha": number, "curve": [{str: number}]},
}
_EVIDENCE = {
    "ladder": [_RUNG],
    "verdict": _VERDICT,
    "forgetting": _FORGETTING,
    "calibration": _CALIBRATION,
    "abstain": _THRESHOLD,
    "conformal": {**_all(number, "level width"), "test_coverage": _SCORE},
    "slices": [{"by": word, "slice": group, **_all(number, "count weak"), **_SCORES}],
    "suspects": [{str: number}],
    "confusion": [[number]],  # (true, predicted, count)
    "type_confusion": {"names": [label], "cells": [[number]]},  # of entities: (true, predicted, count)
    "worst_rows": [{str: ids}],  # positions and figures, no content
    "doctor": [_FINDING],
    "seconds": number,
}
_SELECTION = {
    "trials": [
        {
            **_all(sentence, "name reason"),
            "method": word,
            **_all(number, "learning_rate score low high seconds dropped_at"),
            "looks": [{str: number}],
        }
    ],
    **_all(sentence, "winner baseline averaged"),
    "metric": word,
    **_all(number, "validation_rows wise_alpha ended_early budget_seconds spent_seconds"),
}
REPORT: dict[str, Any] = {
    **_all(word, "task problem_type inputs method pooling"),
    **_all(number, "schema_version seed"),
    **{"date": word, "name": private, "author": private},
    "model": {"name": private, **_all(word, "source revision architecture"), "parameters": number},  # may be a path
    "data": {
        "name": private,  # may be a path
        "labels": [label],
        "rows": {str: number},
        "origins": _all(sentence, "train validation test"),
        "source_splits": {str: word},
        "class_shares": {"p": number, "classes": [{"label": label, **_all(number, "train test")}]},
        "skipped": private,  # names of files
        "cut": _all(number, "rows of tokens"),  # how many texts of how many end at that length
    },
    "metrics": dict.fromkeys(("test", "validation"), _METRICS),
    "baselines": [_RUNG],
    "per_class": [{"label": label, **_all(number, "precision recall f1 support iou")}],
    "probe": {"C": number, **_all(word, "pooling features"), "cv_accuracy": {str: {str: number}}},
    "selection": _SELECTION,
    "stages": [_STAGE],
    "seeds": {"seeds": [number], "kept": number, **dict.fromkeys(("test", "validation"), _SPREADS)},
    "timing": {str: number},
    "environment": {"versions": {str: word}, "device": sentence, **_all(number, "processes threads peak_mb")},
    "warnings": private,
    "evidence": _EVIDENCE,
    "parity": {str: {**_all(number, _CHECKED), "origin": word, "note": sentence}},
    "statements": private,  # names the data: a push writes them anew, of the public report
}


def public_part(shape: Shape, value: Any) -> Any:
    """Return what of `value` may be published by its shape in the schema; None where it is no such thing."""
    if value is None or callable(shape):
        return None if value is None else shape(value)  # type: ignore[operator]
    if isinstance(shape, list):
        return [public_part(shape[0], item) for item in value] if isinstance(value, list | tuple) else None
    if not isinstance(value, dict):
        return None
    if str in shape:
        return {k: public_part(shape[str], v) for k, v in value.items() if word(k) == k}
    return {k: public_part(shape[k], v) for k, v in value.items() if shape.get(k, private) is not private}
