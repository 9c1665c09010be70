"""What the Space says of its model: the heading, whether an answer is sure, the evidence. HTML, everything escaped."""

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


STYLE = """
:root { --hf-muted: #586271; --hf-line: #dfe3e9; color-scheme: light; }
.dark { --hf-muted: #9ea8b5; --hf-line: #2c333c; color-scheme: dark; }
.gradio-container { max-width: 1080px !important; margin: 0 auto !important; overflow-wrap: anywhere; }
.gradio-container bdi, .hf-note * { color: inherit !important; }
.gradio-container .html-container { padding: 0 !important; }
.hf-head { padding-top: 8px; }
.hf-head p { color: var(--hf-muted) !important; margin: 0; max-width: 80ch; }
.hf-head h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -.015em; margin: 2px 0 4px; }
.hf-note { border-radius: 14px; padding: 14px 18px; margin: 0; line-height: 1.45; }
.hf-note b { display: block; font-size: 1.0625rem; }
.hf-idle { border: 1px dashed var(--hf-line); color: var(--hf-muted) !important; }
.hf-good { background: light-dark(#e6f4ec, #12281c); color: light-dark(#146339, #74d6a0) !important; }
.hf-even { background: light-dark(#fcf4da, #2b240f); color: light-dark(#6a5000, #e6c766) !important; }
.hf-bad { background: light-dark(#fdeceb, #331715); color: light-dark(#ad2318, #ff9d92) !important; }
.hf-none { background: light-dark(#eaecf1, #20262e); }
.hf-evidence { background: var(--block-background-fill); border: 1px solid var(--hf-line); border-radius: 14px; padding: 20px; }
.hf-evidence h2 { font-size: 1.25rem; margin: 0 0 12px; }
.hf-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 12px; margin: 16px 0; }
.hf-card { border: 1px solid var(--hf-line); border-radius: 12px; padding: 12px 14px; line-height: 1.35; }
.hf-card b { display: block; font-size: 1.375rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
.hf-card span, .hf-small { color: var(--hf-muted) !important; font-size: .8125rem; }
.hf-evidence details { margin-top: 10px; }
.hf-evidence summary { cursor: pointer; }
.hf-scroll { overflow-x: auto; margin-top: 8px; contain: inline-size; }
.hf-scroll :is(table, tr) { border: 0 !important; }
.hf-scroll table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
.hf-scroll :is(th, td) { border: 0 !important; border-bottom: 1px solid var(--hf-line) !important; }
.hf-scroll :is(th, td) { padding: 6px 14px 6px 0 !important; text-align: start; white-space: nowrap; }
.hf-scroll :is(th, td):first-child { min-width: 9em; white-space: normal; }
#answer * { font-family: inherit; }
"""
LOOKS = {"good": "hf-good", "bad": "hf-bad"}  # of a verdict; any other is neutral
MAX_TABLE = 100  # rows


def shown(value: Any, length: int = 120) -> str:
    """Return untrusted text as one escaped line that cannot turn the direction of what follows it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return f"<bdi>{escape(line[: length - 1] + '…' if len(line) > length else line)}</bdi>"


def without_path(name: Any) -> str:
    """Return a name in which a folder of the machine that trained it is its last part."""
    return re.sub(r"(?:(?<=\()|^)[~.]{0,2}/(?:[^()]*/)?([^()/]+)", r"\1", str(name))


def percent(value: Any) -> str:
    """Return a share as a percentage, a dash for anything that is no number."""
    return f"{100 * value:.1f}%" if _is_number(value) else "\u2013"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _interval(score: dict[str, Any]) -> str:
    return f"{100 * score['low']:.1f} to {percent(score['high'])}"


def heading(name: str, link: str | None, is_text: bool, classes: int, report: dict[str, Any]) -> str:
    """Return the title, the kind of model, and a link to its card."""
    model, data = report.get("model"), report.get("data")
    origin = (
        f"Adapted from {shown(without_path(model['name']))}" if isinstance(model, dict) and "name" in model else ""
    )
    if origin and isinstance(data, dict) and "name" in data:
        origin += f" on {shown(without_path(data['name']))}"
    where = f'<a href="{escape(link)}" rel="noopener">Model card</a>' if link else ""
    return (
        f'<div class="hf-head"><p class="hf-kicker">{"Text" if is_text else "Image"} classification · {classes} '
        f'classes</p><h1>{shown(name)}</h1><p class="hf-lead">{" · ".join(x for x in (origin, where) if x)}</p></div>'
    )


def threshold(report: dict[str, Any]) -> float:
    """Return the confidence under which the model is not sure, 0 where the report gives none."""
    evidence = report.get("evidence")
    abstain = evidence.get("abstain") if isinstance(evidence, dict) else None
    value = abstain.get("threshold") if isinstance(abstain, dict) else None
    return float(value) if _is_number(value) and 0 <= value <= 1 else 0.0


def sureness(label: str, confidence: float, needed: float, remark: str = "") -> str:
    """Return whether the answer counts, as the report's threshold has it."""
    if confidence < needed:
        look, title = "hf-even", "Not sure"
        text = f"The likeliest label has {percent(confidence)}, under the {percent(needed)} that this model needs."
    elif needed:
        look, title = "hf-good", shown(label)
        text = f"{percent(confidence)}, at or above the {percent(needed)} that this model needs to be sure."
    else:
        look, title, text = "hf-none", shown(label), f"{percent(confidence)} by the model's own confidence."
    return f'<p class="hf-note {look}"><b>{title}</b> {text} {remark}</p>'


def waiting() -> str:
    """Return what stands in the place of an answer before there is one."""
    return '<p class="hf-note hf-idle">The answer appears here.</p>'


def evidence(report: dict[str, Any]) -> str:
    """Return the evidence of a report; one line where there is none, or none that can be read."""
    if not report:
        return '<p class="hf-small">The repository of this model holds no report.json, hence no evidence.</p>'
    try:
        parts = [_verdict(report), _cards(report), _ladder(report), _classes(report)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):  # a stranger wrote it
        return '<p class="hf-small">The report.json of this model cannot be read.</p>'
    return f'<div class="hf-evidence"><h2>Evidence</h2>{"".join(parts)}</div>'


def _verdict(report: dict[str, Any]) -> str:
    """Return the verdict as hftl wrote it into the report; one of an older hftl has no words for it."""
    verdict = (report.get("statements") or {}).get("verdict")
    if verdict:
        look, title, sentence = LOOKS.get(verdict["look"], "hf-none"), verdict["title"], verdict["sentence"]
    elif (report.get("evidence") or {}).get("verdict"):
        look, title = "hf-none", f"Verdict: {report['evidence']['verdict']['label']}"
        sentence = "This report has no words for it; what the model was compared with is listed below."
    else:
        look, title = "hf-none", "No verdict"
        sentence = "It was not compared with models that learn without transfer."
    return f'<p class="hf-note {look}"><b>{shown(title)}</b> {shown(sentence, 600)}</p>'


def _cards(report: dict[str, Any]) -> str:
    test = report["metrics"]["test"]
    cards = (report.get("statements") or {}).get("cards") or [
        {"name": name, "value": percent(test[key]["value"]), "below": f"95% interval {_interval(test[key])}"}
        for name, key in (("Accuracy", "accuracy"), ("Macro F1", "macro_f1"))
    ]
    boxes = "".join(
        f'<div class="hf-card">{shown(c["name"])}<b>{shown(c["value"])}</b><span>{shown(c["below"])}</span></div>'
        for c in cards[:MAX_TABLE]
    )
    rows = int(report["data"]["rows"]["test"])
    return f'<div class="hf-cards">{boxes}</div><p class="hf-small">On {rows:,} test rows, used once.</p>'


def _ladder(report: dict[str, Any]) -> str:
    rungs = (report.get("evidence") or {}).get("ladder") or []
    rows = [
        (shown(without_path(r["name"])), percent(r["accuracy"]["value"]), _interval(r["accuracy"]))
        for r in rungs[:MAX_TABLE]
    ]
    return _table("What it was compared with", ("Model", "Accuracy", "95% interval"), rows)


def _classes(report: dict[str, Any]) -> str:
    listed = report.get("per_class") or []
    rows = [
        (shown(c["label"]), percent(c["precision"]), percent(c["recall"]), percent(c["f1"]), f"{int(c['support']):,}")
        for c in listed[:MAX_TABLE]
    ]
    left = f", the first {MAX_TABLE} of {len(listed):,}" if len(listed) > MAX_TABLE else ""
    return _table(f"Each class{left}", ("Label", "Precision", "Recall", "F1", "Test rows"), rows)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that opens on a click; its cells are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<details><summary>{title}</summary><div class="hf-scroll"><table><tr>{top}</tr>{body}</table></div></details>'
