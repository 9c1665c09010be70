"""What the Space says of its model: the heading, whether an answer is sure, the evidence. HTML, everything escaped."""

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any


STYLE = """
:root { --hf-muted: #586271; --hf-line: #dfe3e9; color-scheme: light; }
.dark { --hf-muted: #9ea8b5; --hf-line: #2c333c; color-scheme: dark; }
.gradio-container { max-width: 1080px !important; margin: 0 auto !important; overflow-wrap: anywhere; }
.gradio-container bdi, .hf-note * { color: inherit !important; }
.gradio-container .html-container { padding: 0 !important; }
.hf-head p { color: var(--hf-muted) !important; margin: 0; max-width: 80ch; }
.hf-head h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -.015em; margin: 2px 0 4px; }
#answer .mask:not(.active, .inactive) { opacity: var(--opacity, .6) !important; image-rendering: pixelated; }
.hf-note { border-radius: 14px; padding: 14px 18px; margin: 0; line-height: 1.45; }
.hf-note b { display: block; font-size: 1.0625rem; }
.hf-idle { border: 1px dashed var(--hf-line); color: var(--hf-muted) !important; }
.hf-good { background: light-dark(#e6f4ec, #12281c); color: light-dark(#146339, #74d6a0) !important; }
.hf-even { background: light-dark(#fcf4da, #2b240f); color: light-dark(#6a5000, #e6c766) !important; }
.hf-bad { background: light-dark(#fdeceb, #331715); color: light-dark(#ad2318, #ff9d92) !important; }
.hf-none { background: light-dark(#eaecf1, #20262e); }
.hf-evidence { background: var(--block-background-fill); border: 1px solid var(--hf-line); border-radius: 14px; padding: 20px; }
.hf-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 12px; margin: 16px 0; }
.hf-card { border: 1px solid var(--hf-line); border-radius: 12px; padding: 12px 14px; line-height: 1.35; }
.hf-card b { display: block; font-size: 1.375rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
.hf-card span, .hf-small { color: var(--hf-muted) !important; font-size: .8125rem; }
.hf-scroll { overflow-x: auto; margin-top: 8px; contain: inline-size; }
.hf-scroll table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
.hf-scroll :is(table, tr, th, td) { border: 0 !important; }
.hf-scroll :is(th, td) { border-bottom: 1px solid var(--hf-line) !important; padding: 6px 14px 6px 0 !important; }
.hf-scroll :is(th, td) { text-align: start; white-space: nowrap; }
.hf-scroll :is(th, td):first-child { min-width: 9em; white-space: normal; }
#answer * { font-family: inherit; }
"""
WAITING = '<p class="hf-note hf-idle">The answer appears here.</p>'  # in the place of an answer
MAX_TABLE = 100  # rows


def bdi(value: Any, length: int = 120) -> str:
    """Return untrusted text as one escaped line that cannot turn the direction of what follows it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return f"<bdi>{escape(line[: length - 1] + '…' if len(line) > length else line)}</bdi>"


def without_path(name: Any) -> str:
    """Return a name in which a folder of the machine that trained it is its last part."""
    return re.sub(r"(?:(?<=\()|^)[~.]{0,2}/(?:[^()]*/)?([^()/]+)", r"\1", str(name))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: Any) -> str:
    """Return a share as a percentage, a dash for anything that is no number."""
    return f"{100 * value:.1f}%" if _is_number(value) else "\u2013"


def _interval(score: dict[str, Any]) -> str:
    return f"{100 * score['low']:.1f} to {percent(score['high'])}"


def part(report: Any, *names: str) -> Any:
    """Return what a report, which a stranger may have written, says under these names; None where it says nothing."""
    for name in names:
        report = report.get(name) if isinstance(report, dict) else None
    return report


def heading(name: str, link: str | None, task: str, learned: Any, report: dict[str, Any]) -> str:
    """Return the title, the kind of model, and a link to its card."""
    base, data = (bdi(without_path(part(report, which, "name") or "?")) for which in ("model", "data"))
    lead = [f"Adapted from {base} on {data}"] if report else []
    lead += [f'<a href="{escape(link)}" rel="noopener">Model card</a>'] if link else []
    kicker = f"<p>{task.replace('-', ' ').capitalize()} · {bdi(learned)}</p>"
    return f'<div class="hf-head">{kicker}<h1>{bdi(name)}</h1><p class="hf-lead">{" · ".join(lead)}</p></div>'


def threshold(report: dict[str, Any]) -> float:
    """Return the confidence under which the model is not sure, 0 where the report gives none."""
    value = part(report, "evidence", "abstain", "threshold")
    return float(value) if _is_number(value) and 0 <= value <= 1 else 0.0


def note(title: str, text: str, remark: str, look: str = "none") -> str:
    """Return what is said of an answer."""
    return f'<p class="hf-note hf-{look}"><b>{title}</b> {text}. {remark}</p>'


def best_label(answer: dict[str, Any], config: dict[str, Any], report: dict[str, Any], remark: str) -> str:
    """Return the likeliest label, and whether it is sure: as the report's threshold has it."""
    label, confidence = (answer["confidences"][0][key] for key in ("label", "confidence"))
    needed = threshold(report)
    look, title = ("even", "Not sure") if confidence < (needed or 0.5) else ("good" if needed else "none", bdi(label))
    rule = f"; this model needs {percent(needed)} to be sure" if needed else " by the model's own confidence"
    return note(title, f"{percent(confidence)}{rule}", remark, look)


def labels_above(answer: dict[str, Any], config: dict[str, Any], report: dict[str, Any], remark: str) -> str:
    """Return the labels whose probability is above their threshold in the config, 0.5 where it has none."""
    names = config["labels"]
    given = config.get("thresholds") or [0.5] * len(names)
    cuts = dict(zip(names, given, strict=True))
    above = [one["label"] for one in answer["confidences"] if one["confidence"] > cuts[one["label"]]]
    title = ", ".join(map(bdi, above)) or "No label"
    rule = "Labels above their thresholds" if len({*given}) > 1 else f"Labels above {percent(given[0])}"
    return note(title, rule, remark)


def how_many(answer: Any, config: dict[str, Any], report: dict[str, Any], remark: str) -> str:
    """Return how many entities were found: their parts of the text have a class."""
    count = sum(part.get("class_or_confidence") is not None for part in answer or [])
    return note(f"{count or 'No'} entit{'y' if count < 2 else 'ies'}", "found", remark)


def which_classes(answer: Any, config: dict[str, Any], report: dict[str, Any], remark: str) -> str:
    """Return which classes were found."""
    names = [bdi(str(part.get("label"))) for part in (answer or {}).get("annotations") or []]
    return note(", ".join(names) or "Nothing but the ground", "found", remark)


def number_between(answer: Any, config: dict[str, Any], report: dict[str, Any], remark: str) -> str:
    """Return the number with the interval that the config has."""
    width, level = config.get("conformal_width"), config.get("conformal_level")
    if not (_is_number(width) and _is_number(answer)):
        return f'<p class="hf-note hf-none">{remark}</p>' if remark else ""
    around = f"{answer - width:.4g} to {answer + width:.4g}"
    share = f"holds the truth for {percent(level)} of rows" if _is_number(level) else "should hold the truth"
    return note(f"{answer:.4g}", f"The interval {around} {share}", remark)


def evidence(report: dict[str, Any]) -> str:
    """Return the evidence of a report; one line where there is none, or none that can be read."""
    if not report:
        return '<p class="hf-small">This model has no report.json, so there is no evidence to show.</p>'
    try:
        content = _words(report) + _tables(report)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):  # a stranger wrote it
        return '<p class="hf-small">The report.json of this model cannot be read.</p>'
    return f'<div class="hf-evidence"><h2>Evidence</h2>{content}</div>'


def _words(report: dict[str, Any]) -> str:
    """Return the verdict and the headline figures as hftl wrote them into the report; an older one wrote none."""
    words, figures = report.get("statements") or {}, report["metrics"]["test"]
    old = {
        "look": "none",
        "title": "No verdict",
        "sentence": "This report comes from an older hftl that wrote no verdict.",
    }
    cards = words.get("cards") or [_accuracy_card(figures["accuracy"])]
    boxes = "".join(
        f'<div class="hf-card">{bdi(c["name"])}<b>{bdi(c["value"])}</b><span>{bdi(c["below"])}</span></div>'
        for c in cards[:MAX_TABLE]
    )
    verdict, rows = words.get("verdict") or old, f"On {int(report['data']['rows']['test']):,} test rows, used once."
    look = verdict["look"] if verdict["look"] in ("good", "bad") else "none"
    return (
        f'<p class="hf-note hf-{look}"><b>{bdi(verdict["title"])}</b> {bdi(verdict["sentence"], 600)}</p>'
        f'<div class="hf-cards">{boxes}</div><p class="hf-small">{rows}</p>'
    )


def _accuracy_card(accuracy: dict[str, Any]) -> dict[str, str]:
    below = f"95% interval {_interval(accuracy)}"
    return {"name": "Accuracy", "value": percent(accuracy["value"]), "below": below}


def _tables(report: dict[str, Any]) -> str:
    words, classes = report.get("statements") or {}, report.get("per_class") or []
    called = words.get("ladder") or {"score": "Accuracy", "rows": _accuracies(report)}  # an older one has no words
    ladder = [(without_path(name), value, bounds) for name, value, bounds in called["rows"]]
    scores = [(c["label"], *(percent(c[s]) for s in ("precision", "recall", "f1")), c["support"]) for c in classes]
    name, units = bdi(words.get("name") or "class"), bdi(words.get("units") or "rows")
    return _table("What it was compared with", ("Model", bdi(called["score"]), "95% interval"), ladder) + _table(
        f"Each {name}", ("Label", "Precision", "Recall", "F1", f"Test {units}"), scores
    )


def _accuracies(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    rungs = (report.get("evidence") or {}).get("ladder") or []
    return [(r["name"], percent(r["accuracy"]["value"]), _interval(r["accuracy"])) for r in rungs]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    left = f", the first {MAX_TABLE} of {len(rows):,}" if len(rows) > MAX_TABLE else ""
    body = "".join(f"<tr>{''.join(f'<td>{bdi(c)}</td>' for c in row)}</tr>" for row in rows[:MAX_TABLE])
    table = f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>"
    return f'<details><summary>{title}{left}</summary><div class="hf-scroll">{table}</div></details>'
