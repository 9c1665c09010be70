"""Figures and findings in words that need no knowledge of hftl."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from hftl.evaluation.advice import MORE_TEST_ROWS, undecided
from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.verdict import MARGIN, stands
from hftl.methods import METHODS as _METHODS
from hftl.report.visible import one_line


METHODS = {name: method.words for name, method in _METHODS.items()}
RETENTION = {"sample:digits": "handwritten digits", "sample:wikipedia-topics": "Wikipedia summaries"}
KINDS = {
    "majority": "always the most frequent class",
    "no-pretraining": "learns from this data alone",
    "features": "frozen features of the pretrained model",
    "control": "same architecture, random weights",
    "method": "this run",
}


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share (0 to 1) as a percentage, and a dash for no number."""
    return "\u2013" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}%"


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    rounded = round(100 * value, 1)
    sign = "\u2212" if rounded < 0 else "+"
    return f"{sign}{abs(rounded):.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals, and a dash for none."""
    return "\u2013" if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "\u2212")


def rate(value: float) -> str:
    """Return a learning rate, such as 2e-05."""
    return f"{value:.2g}"


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds is None or not math.isfinite(seconds):
        return "\u2013"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def interval(score: Mapping[str, float]) -> str:
    """Return the bounds of a score, such as 80.1 to 87.2%."""
    return f"{100 * score['low']:.1f} to {percent(score['high'])}"


def p_value(p: float) -> str:
    """Return p as it is usually written."""
    return "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p:.3f}"


def verdict_title(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return how a verdict looks (good, bad, neutral) and its title."""
    titles = {
        ("POSITIVE", None): ("good", "Transfer worked"),
        ("NEGATIVE", None): ("bad", "Transfer hurt"),
        ("NEUTRAL", "EQUIVALENT"): ("neutral", "Equivalent: as good with and without transfer"),
        ("NEUTRAL", "UNDECIDED"): ("neutral", "Undecided: too few test rows to tell"),
        ("NEUTRAL", None): ("neutral", "No clear difference"),  # of a report that does not tell the two apart
    }
    return titles[found["label"], found.get("kind")]


def meaning(found: Mapping[str, Any], n_test: int) -> str:
    """Return what the interval of a verdict means, in a sentence or two; it ends with a full stop."""
    if found.get("kind") == "EQUIVALENT":
        return (
            f"The whole interval lies within {100 * MARGIN:g} points of zero: the two are equally good for most purposes, "
            "and the simpler model costs less."
        )
    if found.get("kind") == "UNDECIDED":
        said = undecided(found["gap"], n_test, found.get("rows_needed"))
        compared = found.get("cross_validation")
        return f"{said} {stands(Interval(**compared['gap']), compared['baseline'])}." if compared else said
    return {
        "POSITIVE": "The whole interval is above zero: this is more than luck with the test rows.",
        "NEGATIVE": "The whole interval is below zero: this is more than luck with the test rows.",
        "NEUTRAL": "The interval includes zero: on these test rows neither is shown to be better.",
    }[found["label"]]


def retention(found: Mapping[str, Any]) -> str:
    """Return which rows forgetting was measured on, such as "on handwritten digits, a stand-in"."""
    name, kind = found.get("retention"), found.get("retention_kind")
    if kind == "own":
        return "on the run's own data"
    if not name:
        return "on a retention set"
    called = RETENTION.get(str(name), one_line(str(name), 60))
    return f"on {called}, a stand-in" if kind == "stand-in" else f"on {called}"


def pooled(report: Mapping[str, Any]) -> str | None:
    """Return why the saved class is mean-pooled, which plain `pipeline` does not load as it is; None where it is not."""
    if report.get("pooling") != "mean":
        return None
    best = {k: max(v.values()) for k, v in ((report.get("probe") or {}).get("cv_accuracy") or {}).items() if v}
    if not {"mean", "native"} <= set(best):
        return "The head reads the mean of the token states"
    return (
        "The head reads the mean of the token states: in cross-validation "
        f"{points(best['mean'] - best['native'])} points over what the stock class reads"
    )


def verdict(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the banner: `look` (good, bad, neutral, none), `title`, `sentence`, `details` and `advice`."""
    found = evidence.get("verdict")
    accuracy = report["metrics"]["test"]["accuracy"]
    reached = f"On {report['data']['rows']['test']:,} test rows it is right in {percent(accuracy['value'])} of them"
    reached += f" (95% interval {interval(accuracy)})."
    if not found:
        return {
            "look": "none",
            "title": "No verdict",
            "sentence": "This run was not compared with models that learn without transfer.",
            "details": [reached],
            "advice": [],
        }
    look, title = verdict_title(found)
    words = "over" if look == "good" else "against"
    bounds = f"{points(found['low'])} to {points(found['high'])}"
    return {
        "look": look,
        "title": title,
        "sentence": Markup("{} points of accuracy {} {} (95% interval {}).").format(
            points(found["gap"]), words, _named(found["against"]), bounds
        ),
        "details": [_compared(found, report["data"]["rows"]["test"]), *_other_metric(found), reached],
        "advice": [a for a in found.get("advice") or [] if a["advice"] != MORE_TEST_ROWS],  # the details say it
    }


def _named(name: str) -> Markup:
    return Markup("<bdi>{}</bdi>").format(one_line(name, 120))


def _compared(found: dict[str, Any], n_test: int) -> Markup:
    """Say with what it was compared, and what the interval means for the question."""
    tail = f" McNemar's test: {p_value(found['p'])}." if found.get("p") is not None else ""
    return Markup("It was compared with {}, the best model here that learns from this data alone. {}{}").format(
        _named(found["against"]), meaning(found, n_test), tail
    )


def _other_metric(found: dict[str, Any]) -> list[str]:
    other = found.get("macro_f1")
    if not other:
        return []
    bounds = f"95% interval {points(other['low'])} to {points(other['high'])}"
    same = "says the same" if other["label"] == found["label"] else f"says {other['label'].lower()}"
    return [f"Macro F1, which counts every class alike, {same}: {points(other['gap'])} points ({bounds})."]


def interpolation(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return metric, chosen alpha and rows (alpha, validation score, kept of the base) of a run that mixed two models."""
    found = report["stages"][-1].get("interpolation") if report["stages"] else None
    if not found:
        return None
    rows = []
    for point in found["curve"]:
        kept = point.get("kept")
        rows.append((f"{point['alpha']:.1f}", number(point["score"]), "" if kept is None else percent(kept)))
    return {"metric": found["metric"].replace("_", " "), "alpha": f"{found['alpha']:.1f}", "rows": rows}
