"""Every sentence that the page, the card, the terminal, the demo and the Space say of a run, each written once.

A `Statement` is text of ours with the names of the data apart: each medium only escapes the names as it must.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.verdict import MARGIN, stands
from hftl.evidence.advice import MORE_TEST_ROWS, undecided
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
NOTE_CHARACTERS = 600
NOT_COMPARED = "This run was not compared with models that learn without transfer."


@dataclass(frozen=True)
class Statement:
    """A sentence: `text` holds {} for each of `names`, which come from data and are escaped by whoever shows them."""

    text: str
    names: tuple[Any, ...] = ()
    limit: int = 120  # characters of a name

    def write(self, name: Callable[[Any, int], str]) -> str:
        """Return the sentence with each name as `name(value, limit)` writes it."""
        return self.text.format(*(name(value, self.limit) for value in self.names))

    def __add__(self, more: "Statement") -> "Statement":
        return Statement(self.text + more.text, (*self.names, *more.names), max(self.limit, more.limit))

    def __html__(self) -> str:
        names = (Markup("<bdi>{}</bdi>").format(one_line(str(name), self.limit)) for name in self.names)
        return escape(self.text).format(*names)

    def __str__(self) -> str:
        return self.write(lambda name, limit: one_line(str(name), limit))


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


def counted(count: int, one: str, many: str) -> str:
    """Return "1 row" or "2,000 rows"."""
    return f"{count:,} {one if count == 1 else many}"


def verdict_title(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """Return how a verdict looks (good, bad, neutral) and its title."""
    titles = {
        ("POSITIVE", None): ("good", "Transfer worked"),
        ("NEGATIVE", None): ("bad", "Transfer hurt"),
        ("NEUTRAL", "EQUIVALENT"): ("neutral", "Equivalent: as good with and without transfer"),
        ("NEUTRAL", "UNDECIDED"): ("neutral", "Undecided: too few test rows to tell"),
        ("NEUTRAL", None): ("neutral", "No clear difference"),  # of a report that does not tell the two apart
    }
    return titles[verdict["label"], verdict.get("kind")]


def gap(verdict: Mapping[str, Any], apposition: str = "", *, chance: bool = False) -> Statement:
    """Return the verdict's difference and its interval, with McNemar's p where `chance` says so, without a stop.

    `apposition` says what the model is that it was compared with.
    """
    side = "over" if verdict["label"] == "POSITIVE" else "against"
    test = f"; McNemar's test: {p_value(verdict['p'])}" if chance and verdict.get("p") is not None else ""
    bounds = f"95% interval {points(verdict['low'])} to {points(verdict['high'])}{test}"
    text = f"{points(verdict['gap'])} points of accuracy {side} {{}}{apposition} ({bounds})"
    return Statement(text, (verdict["against"],))


def meaning(verdict: Mapping[str, Any], n_test: int) -> Statement:
    """Return what the interval of a verdict means, in a sentence or two; it ends with a full stop."""
    if verdict.get("kind") == "EQUIVALENT":
        return Statement(
            f"The whole interval lies within {100 * MARGIN:g} points of zero: the two are equally good for most purposes, "
            "and the simpler model costs less."
        )
    if verdict.get("kind") == "UNDECIDED":
        open_question = undecided(verdict["gap"], n_test, verdict.get("rows_needed"))
        compared = verdict.get("cross_validation")
        more = f" {stands(Interval(**compared['gap']), compared['baseline'])}." if compared else ""
        return Statement("{}", (open_question + more,), NOTE_CHARACTERS)
    return Statement(
        {
            "POSITIVE": "The whole interval is above zero: this is more than luck with the test rows.",
            "NEGATIVE": "The whole interval is below zero: this is more than luck with the test rows.",
            "NEUTRAL": "The interval includes zero: on these test rows neither is shown to be better.",
        }[verdict["label"]]
    )


def banner(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict of page and demo: `look` (good, bad, neutral, none), `title`, `sentence`, `details`, `advice`."""
    verdict = evidence.get("verdict")
    n_test = report["data"]["rows"]["test"]
    accuracy = report["metrics"]["test"]["accuracy"]
    reached = Statement(
        f"On {n_test:,} test rows it is right in {percent(accuracy['value'])} of them (95% interval {interval(accuracy)})."
    )
    if not verdict:
        not_compared = Statement(NOT_COMPARED)
        return {"look": "none", "title": "No verdict", "sentence": not_compared, "details": [reached], "advice": []}
    look, title = verdict_title(verdict)
    compared = Statement(
        "It was compared with {}, the best model here that learns from this data alone. ", (verdict["against"],)
    )
    test = f" McNemar's test: {p_value(verdict['p'])}." if verdict.get("p") is not None else ""
    return {
        "look": look,
        "title": title,
        "sentence": gap(verdict) + Statement("."),
        "details": [compared + meaning(verdict, n_test) + Statement(test), *_other_metric(verdict), reached],
        "advice": [a for a in verdict.get("advice") or [] if a["advice"] != MORE_TEST_ROWS],  # the details say it
    }


def _other_metric(verdict: Mapping[str, Any]) -> list[Statement]:
    other = verdict.get("macro_f1")
    if not other:
        return []
    bounds = f"95% interval {points(other['low'])} to {points(other['high'])}"
    same = "says the same" if other["label"] == verdict["label"] else f"says {other['label'].lower()}"
    text = f"Macro F1, which counts every class alike, {same}: {points(other['gap'])} points ({bounds})."
    return [Statement(text)]


def headline(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> tuple[str, str]:
    """Return how the verdict looks and what it says in one sentence, for who knows nothing of the models compared."""
    accuracy, rows = report["metrics"]["test"]["accuracy"]["value"], report["data"]["rows"]["test"]
    right = f"It was right in {percent(accuracy)} of {rows:,} test rows"
    verdict = evidence.get("verdict")
    if not verdict:
        return "none", f"{right}. It was not compared with models that learn without transfer."
    look, title = verdict_title(verdict)
    side = "more" if verdict["gap"] > 0 else "less"
    compared = f"{right}, {abs(100 * verdict['gap']):.1f} points {side} than the best model without pretraining"
    return look, f"{compared}. {title}." if look == "neutral" else f"{compared}: {title[0].lower()}{title[1:]}."


def card_verdict(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `title` and `sentence` of a card's verdict, None where there is none; advice is for who trained it."""
    verdict = (report.get("evidence") or {}).get("verdict")
    if not verdict:
        return None
    lead = gap(verdict, chance=True, apposition=", the best model here that learned from this data alone")
    sentence = lead + Statement(". ") + meaning(verdict, report["data"]["rows"]["test"])
    return {"title": verdict_title(verdict)[1], "sentence": sentence}


def retention(forgetting: Mapping[str, Any]) -> str:
    """Return which rows forgetting was measured on, such as "on handwritten digits, a stand-in"."""
    name, kind = forgetting.get("retention"), forgetting.get("retention_kind")
    if kind == "own":
        return "on the run's own data"
    if not name:
        return "on a retention set"
    called = RETENTION.get(str(name), one_line(str(name), 60))
    return f"on {called}, a stand-in" if kind == "stand-in" else f"on {called}"


def kept_headline(forgetting: Mapping[str, Any]) -> str:
    """Return how much of the base model's features is left, in a sentence without its stop."""
    if forgetting.get("unchanged"):
        return "The body of the base model did not change"
    if forgetting.get("kept") is None:
        return "Not measured"
    return f"{percent(forgetting['kept'])} of the base's features can still be read ({retention(forgetting)})"


def forgetting(report: Mapping[str, Any]) -> list[Statement]:
    """Return what a card says of the base model's own ability."""
    measured = (report.get("evidence") or {}).get("forgetting")
    if not measured:
        return []
    if measured.get("unchanged"):
        return [Statement("All of them: the layers of the base model did not change.")]
    statements = []
    if measured.get("kept") is not None:
        bounds = f", 95% interval {interval(measured)}" if measured.get("low") is not None else ""
        rows = f"{measured['rows']:,} rows, " if measured.get("rows") else ""
        kept = f"**{percent(measured['kept'])} of the base model's features can still be read** ({rows}{{}}{bounds})."
        statements.append(Statement(kept, (retention(measured),)))
    probe = measured.get("probe")
    if probe:
        change = f"from {percent(probe['before'])} to {percent(probe['after'])} right"
        statements.append(Statement(f"A linear classifier on its features goes {change}."))
    if measured.get("knn_agreement") is not None:
        statements.append(
            Statement(f"Of the nearest neighbours {percent(measured['knn_agreement'])} stayed the same.")
        )
    head = measured.get("original_head")
    if head:
        change = f"from {number(head['loss_before'])} to {number(head['loss_after'])}"
        statements.append(Statement(f"The loss of the base's original head ({{}}) goes {change}.", (head["kind"],)))
    if measured.get("note"):
        statements.append(Statement("{}", (measured["note"],), NOTE_CHARACTERS))
    return statements


def abstain(held: Mapping[str, Any]) -> str:
    """Return what the page says of answering only when sure."""
    target, right, threshold = percent(held["precision"], 0), held.get("test_precision"), held.get("threshold")
    if threshold is None:
        return f"No threshold reached the target of {target} right answers on the validation rows."
    if right is None:
        return f"No test row is answered with a confidence of at least {percent(threshold)}."
    value, bounds = percent(right["value"]), f"(95% interval {interval(right)}; target: {target})"
    if threshold == 0:
        return f"It may answer everything: {value} of all answers are right {bounds}."
    return (
        f"If it only answers when at least {percent(threshold)} confident, {value} of its answers are right {bounds}, "
        f"and it answers {percent(held.get('coverage'))} of the rows."
    )


def certainty(report: Mapping[str, Any]) -> list[Statement]:
    """Return what a card says of the confidences, and from which one on to trust them."""
    evidence = report.get("evidence") or {}
    calibration, held = evidence.get("calibration"), evidence.get("abstain")
    return [
        *([Statement(_calibration(calibration))] if calibration else []),
        *([Statement(_threshold(held))] if held else []),
    ]


def _calibration(calibration: Mapping[str, Any]) -> str:
    after, before, temperature = calibration["after"], calibration["before"], calibration["temperature"]
    bounds = ""
    if after.get("ece_low") is not None:
        chance = f"; chance alone: {number(after['ece_if_calibrated'])}" if after.get("ece_if_calibrated") else ""
        bounds = f" (95% interval {number(after['ece_low'])} to {number(after['ece_high'])}{chance})"
    text = f"Expected calibration error, its mean gap to the share of right answers: {number(after['ece'])}{bounds}"
    if temperature == 1:
        return f"{text}; no temperature was needed."
    return (
        f"{text}; {number(before['ece'])} before a temperature of {number(temperature, 2)} was folded into the head. "
        "Plain `pipeline` gives the corrected probabilities."
    )


def _threshold(held: Mapping[str, Any]) -> str:
    target, right = percent(held["precision"], 0), held.get("test_precision")
    if held.get("threshold") is None:
        return f"No confidence reached the target of {target} right answers on the validation rows: check its answers."
    least = percent(held["threshold"])
    if right is None:
        return f"No test row was answered with a confidence of {least} or more, the threshold for {target} right."
    if held.get("coverage") == 1:
        return (
            f"No threshold is needed for {target} right answers: all test rows were answered, {percent(right['value'])} of "
            f"them right (95% interval {interval(right)})."
        )
    return (
        f"Answers with a confidence of **{least}** or more were right in {percent(right['value'])} of the test rows (95% "
        f"interval {interval(right)}; target: {target}). They are {percent(held.get('coverage'))} of all; treat the "
        'others as "not sure".'
    )


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


def parity(report: Mapping[str, Any]) -> list[Statement]:
    """Return a sentence for each artifact that was loaded in a fresh process without hftl and compared."""
    names = {"final": "The saved model", "hub": "The published model, downloaded again,", "onnx": "The ONNX export"}
    return [
        Statement(
            f"{{}} was loaded in a fresh process without hftl and compared with the model in training on "
            f"{counted(int(checked['rows']), 'row', 'rows')} ({{}}): the same labels, probabilities apart by at most "
            f"{checked['max_difference']:.1g}.",
            (names.get(where, where), checked.get("origin") or "origin unknown"),
        )
        for where, checked in (report.get("parity") or {}).items()
        if isinstance(checked, dict) and checked.get("labels_equal") and checked.get("max_difference") is not None
    ]


def interpolation(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return metric, chosen alpha and rows (alpha, validation score, kept of the base) of a run that mixed two models."""
    mixture = report["stages"][-1].get("interpolation") if report["stages"] else None
    if not mixture:
        return None
    rows = []
    for point in mixture["curve"]:
        share = point.get("kept")
        rows.append((f"{point['alpha']:.1f}", number(point["score"]), "" if share is None else percent(share)))
    return {"metric": mixture["metric"].replace("_", " "), "alpha": f"{mixture['alpha']:.1f}", "rows": rows}
