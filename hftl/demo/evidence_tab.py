"""What the model is and how good it is, for who did not train it: the head of the page and its evidence tab."""

import logging
from typing import Any

from hftl.demo.looks import render, style
from hftl.demo.served import Served
from hftl.errors import reraise_in_tests
from hftl.report import statements
from hftl.report.figures import figures
from hftl.report.html import drawn, evidence_sections
from hftl.report.limits import limits
from hftl.report.rows import confusion_of


_log = logging.getLogger(__name__)


def header_html(served: Served) -> str:
    """Return the head of the page: name, task, and the verdict in one sentence."""
    report = served.artifact.report
    try:
        look, sentence = statements.headline(report, served.artifact.evidence or {}) if report else _no_report()
        facts = _facts(report) if report else None
    except Exception as error:  # a report from a stranger's repository may hold anything
        reraise_in_tests(error)
        look, sentence, facts = "none", _unreadable(error), None
    return render(
        "header.html",
        style=style(),
        model_name=served.name,
        task=served.predictor.task.name,
        look=look,
        sentence=sentence,
        facts=facts,
        classes=len(served.predictor.labels),
    )


def evidence_html(served: Served) -> str:
    """Return the evidence tab; where there is no report, what there is to know without one."""
    if served.artifact.report is None:
        return _without_report(served, None)
    try:
        return _evidence(served, served.artifact.report)
    except Exception as error:  # a report from a stranger's repository may hold anything
        reraise_in_tests(error)
        return _without_report(served, _unreadable(error))


def _unreadable(error: Exception) -> str:
    _log.warning("The report cannot be shown", exc_info=error)
    return f"The report of this model cannot be shown ({type(error).__name__})."


def _no_report() -> tuple[str, str]:
    return "none", "No report came with this model, so that how good it is is not known here."


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "base": str(report["model"]["name"]).rstrip("/").rsplit("/", 1)[-1]
        if report["model"]["source"] == "folder"
        else str(report["model"]["name"]),
        "method": str(report["method"]),
        "method_words": statements.METHODS.get(str(report["method"]), ""),
        "train": int(report["data"]["rows"]["train"]),
        "data": str(report["data"]["name"]),
    }


def _evidence(served: Served, report: dict[str, Any]) -> str:
    evidence: dict[str, Any] = served.artifact.evidence or {}
    charts = {k: v for k, v in figures(report, evidence).items() if k not in ("loss", "scores")}
    labels = [str(name) for name in report["data"]["labels"]]
    cells = evidence.get("confusion")
    return render(
        "evidence.html",
        **evidence_sections(report, evidence, labels, confusion_of(cells, len(labels)) if cells else None),
        rows_open=False,
        findings=None,  # they name rows of the data
        limits=limits(report),
        charts=drawn(charts),
    )


def _without_report(served: Served, problem: str | None) -> str:
    return render(
        "no_report.html",
        problem=problem,
        model_name=served.name,
        architecture=type(served.predictor.model).__name__,
        parameters=sum(p.numel() for p in served.predictor.model.parameters()),
        labels=served.predictor.labels,
        generic=all(label == f"LABEL_{i}" for i, label in enumerate(served.predictor.labels)),
    )
