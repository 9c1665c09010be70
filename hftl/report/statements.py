"""Every sentence that page, card, terminal, demo and Space say of a run, each written once.

A `Statement` is text of ours with the names of the data apart: each medium only escapes the names as it must.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.scale import MINUS, Scale, chance
from hftl.evaluation.scale import score_name as score_name
from hftl.evaluation.verdict import MARGIN, stands
from hftl.evidence.advice import MORE_TEST_ROWS, undecided
from hftl.methods import METHODS as _METHODS
from hftl.report.visible import one_line


METHODS = {name: method.words for name, method in _METHODS.items()}
RETENTION = {"sample:digits": "handwritten digits", "sample:wikipedia-topics": "Wikipedia summaries"}
KINDS = {
    "no-pretraining": "learns from this data alone",
    "features": "frozen features of the pretrained model",
    "control": "same architecture, random weights",
    "method": "this run",
}
_NAME_CHARACTERS = 400  # of a name or a note
_NONE = "\u2013"


@dataclass(frozen=True)
class Statement:
    """A sentence: `text` holds {} for each of `names`, which come from data and are escaped by whoever shows them."""

    text: str
    names: tuple[Any, ...] = ()

    def write(self, name: Callable[[Any, int], str]) -> str:
        """Return the sentence with each name as `name(value, limit)` writes it, of at most `limit` characters."""
        return self.text.format(*(name(value, _NAME_CHARACTERS) for value in self.names))

    def __add__(self, more: "Statement") -> "Statement":
        return Statement(f"{self.text} {more.text}", (*self.names, *more.names))

    def __html__(self) -> str:
        names = (Markup("<bdi>{}</bdi>").format(one_line(str(name), _NAME_CHARACTERS)) for name in self.names)
        return escape(self.text).format(*names)

    def __str__(self) -> str:
        return self.write(lambda name, limit: one_line(str(name), limit))


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share (0 to 1) as a percentage, and a dash for no number."""
    return _NONE if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}%"


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return Scale().gaps(value)[0]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals, and a dash for none."""
    return _NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them: 0.4 s, 12 s, 3 min 5 s, 10 min, 2 h 10 min."""
    if seconds is None or not math.isfinite(seconds):
        return _NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    parts = ((minutes, "min"), (whole, "s")) if minutes < 60 else ((minutes // 60, "h"), (minutes % 60, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def interval(score: Mapping[str, float]) -> str:
    """Return the bounds of a score, such as 80.1 to 87.2%."""
    return f"{100 * score['low']:.1f} to {percent(score['high'])}"


def counted(count: int, one: str, many: str) -> str:
    """Return "1 row" or "2,000 rows"."""
    return f"{count:,} {one if count == 1 else many}"


def scores_of(report: Mapping[str, Any]) -> list[str]:
    """Return the names of the scores that have an interval, such as "macro_f1"."""
    return [name for name, score in report["metrics"]["test"].items() if isinstance(score, dict)]


def output_of(report: Mapping[str, Any]) -> Any:
    """Return the `Output` of a report."""
    from hftl.tasks import task_of  # late: it brings torch, which the doctor's checks do without

    return task_of(report).output


def headline_of(report: Mapping[str, Any]) -> str:
    """Return the name of the score that the report begins with."""
    return str(output_of(report).headline)


def scales_of(report: Mapping[str, Any]) -> dict[str, Scale]:
    """Return how each score that has an interval is written, by name."""
    output = output_of(report)
    return {name: output.written(name) for name in scores_of(report)}


def rung_words(report: Mapping[str, Any], kind: str) -> str:
    """Return what a rung of the ladder is."""
    return f"always {output_of(report).words['guess']}" if kind == "majority" else KINDS.get(kind, kind)


def learned(report: Mapping[str, Any]) -> str:
    """Return what a model was adapted to, such as "3 classes"."""
    return str(output_of(report).words["learned"].format(n=f"{len(report['data']['labels']):,}"))


_TITLES = {  # kind of a verdict, or its label where it has none -> how it looks, its title
    "POSITIVE": ("good", "Pretraining helped"),
    "NEGATIVE": ("bad", "Pretraining hurt"),
    "EQUIVALENT": ("neutral", "Equivalent: a simple model does as well"),
    "UNDECIDED": ("neutral", "Undecided: too few test rows to tell"),
    "NEUTRAL": ("neutral", "No clear difference"),  # of a report that does not tell the two apart
}
_MEANINGS = {
    "POSITIVE": "The whole interval is above zero: this is more than luck with the test rows.",
    "NEGATIVE": "The whole interval is below zero: this is more than luck with the test rows.",
    "EQUIVALENT": "The whole interval lies within {margin} of zero: the two are equally good for most purposes, and the "
    "simpler model costs less.",
    "NEUTRAL": "The interval includes zero: on these test rows neither is shown to be better.",
}


def banner(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict: `look` (good, bad, neutral, none), `title`, `sentence`, `details` (what it means, then the
    statistics), `reached`, `advice`.
    """
    verdict, output = evidence.get("verdict"), output_of(report)
    rows, score, scale = report["data"]["rows"]["test"], report["metrics"]["test"][output.headline], output.written()
    bounds = scale.bounds(score["low"], score["high"])
    reached = f"On {rows:,} test rows its {scale.name} is {scale.value(score['value'])} (95% interval {bounds})."
    parts = {"look": "none", "title": "No verdict", "details": [], "reached": Statement(reached), "advice": []}
    if not verdict:
        return {
            **parts,
            "sentence": Statement("This run was not compared with models that learn without pretraining."),
        }
    kind = verdict.get("kind") or verdict["label"]
    p = verdict.get("p")
    test = "McNemar's test" if scale.right else "A test of random swaps"
    side = "over" if verdict["label"] == "POSITIVE" else "against"
    gap = f"{scale.gaps(verdict['gap'])[0]}{scale.unit} {'of' if scale.share else 'in'} {scale.name}"
    text = f"{gap} {side} {{}} ({_bounds(verdict, scale)})."
    margin = f"{100 * MARGIN:g} points" if scale.share else f"{MARGIN:g}"
    compared = Statement("That is the best model here that learns from this data alone.")
    others = [(name, other) for name, other in verdict.items() if isinstance(other, Mapping) and "label" in other]
    parts["look"], parts["title"] = _TITLES[kind]
    undecided = kind == "UNDECIDED"
    meaning = _undecided(verdict, rows, scale) if undecided else Statement(_MEANINGS[kind].format(margin=margin))
    return {
        **parts,
        "sentence": Statement(text, (verdict["against"],)),
        "details": [
            compared + meaning,
            *(_other_score(verdict, output.written(what), other) for what, other in others),
            *([Statement(f"{test}: {chance(p)}.")] if p is not None else []),
        ],
        "advice": [a for a in verdict.get("advice") or [] if a["advice"] != MORE_TEST_ROWS],  # the details say it
    }


def _bounds(difference: Mapping[str, Any], scale: Scale) -> str:
    return "95% interval " + " to ".join(scale.gaps(difference["low"], difference["high"]))


def _other_score(verdict: Mapping[str, Any], scale: Scale, other: Mapping[str, Any]) -> Statement:
    same = "the same" if other["label"] == verdict["label"] else other["label"].lower()
    gap = f"{scale.gaps(other['gap'])[0]}{scale.unit}"
    if scale.smaller:  # a minus is good news: words say which way
        gap = f"{gap[1:]} {'higher' if other['gap'] > 0 else 'lower'}"
    return Statement(f"{scale.heading} says {same}: {gap} ({_bounds(other, scale)}).")


def _undecided(verdict: Mapping[str, Any], rows: int, scale: Scale) -> Statement:
    compared = verdict.get("cross_validation")
    more = f" {stands(Interval(**compared['gap']), compared['baseline'], scale)}." if compared else ""
    return Statement("{}", (undecided(verdict["gap"], rows, verdict.get("rows_needed"), scale) + more,))


def headline(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> tuple[str, Statement]:
    """Return how the verdict looks and what it says, for readers who know nothing of the models compared."""
    verdict = banner(report, evidence)
    title = Statement(f"{verdict['title']}.") if evidence.get("verdict") else verdict["sentence"]
    return verdict["look"], verdict["reached"] + title


def card_verdict(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `title` and `sentence` of a card's verdict, None where there is none; advice is for the person who trained it."""
    evidence = report.get("evidence") or {}
    if not evidence.get("verdict"):
        return None
    verdict = banner(report, evidence)
    return {"title": verdict["title"], "sentence": verdict["sentence"] + verdict["details"][0]}


def retention(forgetting: Mapping[str, Any]) -> str:
    """Return which rows forgetting was measured on, such as "on handwritten digits, a stand-in"."""
    name, kind = forgetting.get("retention"), forgetting.get("retention_kind")
    called = RETENTION.get(str(name), one_line(str(name), 60)) if name else "a retention set"
    stand_in = ", a stand-in" if name and kind == "stand-in" else ""
    return "on the run's own data" if kind == "own" else f"on {called}{stand_in}"


def kept_of_base(forgetting: Mapping[str, Any]) -> Statement:
    """Return how much of the base model's features is left."""
    if forgetting.get("unchanged"):
        return Statement("The body of the base model did not change: all of it is kept.")
    if forgetting.get("kept") is None:
        return Statement("How much of the base is kept was not measured.")
    rows = f"{forgetting['rows']:,} rows, " if forgetting.get("rows") else ""
    bounds = f"; 95% interval {interval(forgetting)}" if forgetting.get("low") is not None else ""
    text = f"{percent(forgetting['kept'])} of the base's features can still be read ({rows}{{}}{bounds})."
    return Statement(text, (retention(forgetting),))


def measures(forgetting: Mapping[str, Any]) -> list[tuple[Statement, str, str]]:
    """Return each measure of forgetting: what it is, the base's value, the value after the run."""
    if forgetting.get("unchanged"):  # no figure of it was measured, so none is shown as if it were
        return []
    rows = []
    probe, head, alike = (forgetting.get(k) for k in ("probe", "original_head", "knn_agreement"))
    if probe:
        change = ""
        if probe.get("low") is not None:  # of the change, not of the value
            bounds = f"95% {points(probe['low'])} to {points(probe['high'])}"
            change = f", a change of {points(probe['after'] - probe['before'])} points ({bounds})"
        name = Statement("Accuracy of a probe on its features")
        rows.append((name, percent(probe["before"]), percent(probe["after"]) + change))
    if alike is not None:
        chance = "" if forgetting.get("knn_chance") is None else f" (by chance: {percent(forgetting['knn_chance'])})"
        rows.append((Statement(f"Nearest neighbours that stayed the same{chance}"), "100.0%", percent(alike)))
    if head:
        name = Statement("Loss of its original head ({})", (head["kind"],))
        rows.append((name, number(head["loss_before"]), number(head["loss_after"])))
    return rows


def forgetting(report: Mapping[str, Any]) -> list[Statement]:
    """Return what a card says of the base model's own ability."""
    measured = (report.get("evidence") or {}).get("forgetting")
    if not measured:
        return []
    rows = measures(measured)
    lines = [Statement(f"{name.text}: {before} before, {after} after.", name.names) for name, before, after in rows]
    note = measured.get("note")
    return [kept_of_base(measured), *lines, *([Statement("{}", (note,))] if note else [])]


def certainty(report: Mapping[str, Any]) -> list[Statement]:
    """Return what a card says of the confidences, and from which one on to trust them."""
    return [Statement(said) for _, said in certainty_by_name(report.get("evidence") or {})]


def certainty_by_name(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of how sure an answer is: what that is called, and it in words."""
    says = {"calibration": calibration, "abstain": abstain, "conformal": conformal}
    called = {"conformal": "interval"}
    return [(called.get(part, part), say(evidence[part])) for part, say in says.items() if evidence.get(part)]


def conformal(interval_of_one: Mapping[str, Any]) -> str:
    """Return how far the truth is from a single answer."""
    level, tested = percent(interval_of_one["level"], 0), interval_of_one.get("test_coverage")
    width = Scale(share=False).value(interval_of_one["width"])
    seen = f"; of the test rows {percent(tested['value'])} do (95% interval {interval(tested)})" if tested else ""
    return f"For {level} of rows the truth should lie within {width} of the answer, by the validation rows{seen}."


def calibration(calibration: Mapping[str, Any]) -> str:
    """Return how far the confidences are from the share of right answers, and what corrected them."""
    after, before, temperature = calibration["after"], calibration["before"], calibration["temperature"]
    chance = f"; chance alone: {number(after['ece_if_calibrated'])}" if after.get("ece_if_calibrated") else ""
    bounds = f" (95% interval {bounded(after, 'ece')}{chance})" if bounded(after, "ece") else ""
    text = f"Calibration error, the mean gap to the share of right answers: {number(after['ece'])}{bounds}"
    if temperature == 1:
        return f"{text}; no temperature was needed."
    return (
        f"{text}; {number(before['ece'])} before a temperature of {number(temperature, 2)} was folded into the head, "
        "which changes no answer."
    )


def bounded(scores: Mapping[str, Any], key: str) -> str:
    """Return the interval of a score beside which its ends stand, such as "ece_low"; "" where there is none."""
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def abstain(answers: Mapping[str, Any]) -> str:
    """Return what answering only when sure would bring."""
    target = percent(answers["precision"], 0)
    right, threshold = answers.get("test_precision"), answers.get("threshold")
    if threshold is None:
        return f"No threshold reached the target of {target} right answers on the validation rows."
    if right is None:
        return f"No test row is answered with a confidence of at least {percent(threshold)}."
    lead, rest = "If it answers everything", ""
    if threshold:
        lead = f"If it only answers when at least {percent(threshold)} confident"
        rest = f", and it answers {percent(answers.get('coverage'))} of the rows"
    share = f"{percent(right['value'])} of its answers are right (95% interval {interval(right)}; target: {target})"
    return f"{lead}, {share}{rest}."


def pooled(report: Mapping[str, Any]) -> str | None:
    """Return why the saved class is mean-pooled, which plain `pipeline` does not load as it is; None where it is not."""
    if report.get("pooling") != "mean":
        return None
    best = {k: max(v.values()) for k, v in ((report.get("probe") or {}).get("cv_accuracy") or {}).items() if v}
    scale = output_of(report).written()
    gain = scale.gaps(best["mean"] - best["native"])[0] if {"mean", "native"} <= set(best) else None
    more = f": in cross-validation {gain}{scale.unit} over what the stock class reads" if gain else ""
    return f"The head reads the mean of the token states{more}"


def compared(where: str, check: Mapping[str, Any], same: str) -> Statement:
    """Return what loading and comparing an artifact ("final", "hub" or "onnx") in a process of its own gave; `same`, of
    `Output.words`, says what is the same.
    """
    names = {"final": "The saved model", "hub": "The published model, downloaded again,", "onnx": "The ONNX export"}
    if not check.get("labels_equal") or check.get("max_difference") is None:
        return Statement("{}", (check.get("note") or "not compared",))
    return Statement(
        f"{{}} was loaded in a fresh process without hftl and compared with the model in training on "
        f"{counted(int(check['rows']), 'row', 'rows')} ({{}}): the same "
        f"{same.format(format(check['max_difference'], '.1g'))}.",
        (names.get(where, where), check.get("origin") or "origin unknown"),
    )


def parity(report: Mapping[str, Any]) -> list[Statement]:
    """Return a sentence for each artifact that was compared."""
    checks = (report.get("parity") or {}).items()
    same = output_of(report).words["same"]
    return [compared(where, check, same) for where, check in checks if check and check.get("labels_equal")]


def interpolation(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return metric, chosen alpha and rows (alpha, validation score, kept of the base) of a run that mixed two models."""
    mixture = report["stages"][-1].get("interpolation") if report["stages"] else None
    if not mixture:
        return None
    rows = [(f"{p['alpha']:.1f}", number(p["score"]), percent(p.get("kept"))) for p in mixture["curve"]]
    return {"metric": score_name(mixture["metric"]), "alpha": f"{mixture['alpha']:.1f}", "rows": rows}


def race_scale(selection: Mapping[str, Any]) -> Scale:
    """Return how the scores of a race are written; the log-loss counts from 0 downwards."""
    loss = selection["metric"] == "log_loss"
    return Scale("minus the log loss" if loss else score_name(selection["metric"]), share=not loss)


def race(report: Mapping[str, Any]) -> Statement | None:
    """Return who won the race of `--method auto`, how surely, and what became of its weights; None without a race."""
    selection = report.get("selection")
    if not selection:
        return None
    probe, *others = (trial for trial in selection["trials"] if trial["score"] is not None)  # the others had no time
    rows = counted(int(selection["validation_rows"]), "validation row", "validation rows")
    by = race_scale(selection).name
    if selection["baseline"]:
        return Statement(
            "On {} {}, which knows no pretraining, is better than every trial: do not transfer. "
            "final/ holds the probe, and baseline/ lies beside it.",
            (rows, selection["baseline"]),
        )
    if not others:
        return Statement("Nothing else could race: the probe stays.")
    field = (
        f"{len(others)} {'way' if len(others) == 1 else 'ways'} to train raced against the probe, by {by} on {rows}."
    )
    if selection["winner"] == probe["name"]:
        return Statement(f"{field} The probe stays: no other is surely better.")
    mixed = f" Its weights are the {selection['averaged']} looks." if selection["averaged"] else ""
    alpha = selection["wise_alpha"]
    if alpha is not None and alpha < 1:
        mixed += f" They were mixed with those of the base: {alpha:g} of them are tuned."
    return Statement(f"{field} {{}} won.{mixed}", (selection["winner"],))
