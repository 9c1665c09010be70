"""The page is good with any part of the evidence missing, and with the smallest runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from hftl.report.html import render_page
from hftl.report.rows import PageRows
from tests.report_page.example import evidence, report, text_rows
from tests.report_page.structure import SECTIONS, parse, sections, text_of


PARTS = {
    "ladder": (),
    "verdict": ("next",),
    "forgetting": ("forgetting",),
    "calibration": ("calibration",),
    "abstain": ("abstain",),
    "slices": ("slices",),
    "worst_rows": ("worst",),
    "suspects": ("suspects",),
    "doctor": ("doctor",),
    "seconds": (),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["absent", "None", "empty"])
def test_missing_part(part, how, monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: ["<svg></svg>"] * len(specs))
    rows = text_rows()
    found = evidence(rows)
    if how == "absent":
        del found[part]
    else:
        found[part] = None if how == "None" or part == "seconds" else type(found[part])()
    gone = set(PARTS[part]) if not (part == "doctor" and how == "empty") else set()
    html = render_page(Path("runs/x"), report(rows, evidence=found), rows)
    assert sections(html) == [s for s in SECTIONS if s not in gone]
    assert ("No verdict" in html) == (part == "verdict")


@pytest.mark.parametrize("found", [{}, {"evidence": None}, {"evidence": {}}])
def test_no_evidence_and_no_stages(found):
    rows = text_rows()
    html = render_page(Path("runs/x"), report(rows, **{"baselines": [], "stages": [], "warnings": [], **found}), rows)
    assert sections(html) == ["verdict", "ladder", "confusion", "classes", "reproduce", "glossary"]
    assert "This run was not compared with models that learn without pretraining." in html
    assert "84.0%" in html


def test_optional_figures_inside_the_parts(monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: ["<svg></svg>"] * len(specs))
    rows = text_rows()
    found = evidence(
        rows,
        forgetting={
            "kept": 1.0,
            "definition": "d",
            "rows": 5,
            "retention": "x",
            "probe": {"before": 0.9, "after": 0.9},
            "knn_agreement": None,
            "cka": [],
            "original_head": None,
        },
        abstain={"precision": 0.99, "threshold": None, "test_precision": None, "coverage": None, "curve": []},
        calibration={"temperature": 1.0, "before": {"ece": 0.1}, "after": {"ece": float("nan")}},
        suspects=[{"row": 0, "given": 0, "suggested": 1, "score": 0.9}],
        verdict={
            "label": "POSITIVE",
            "gap": 0.1,
            "low": 0.01,
            "high": 0.2,
            "p": None,
            "against": "x",
            "macro_f1": None,
        },
    )
    text = text_of(render_page(Path("runs/x"), report(rows, evidence=found), rows))
    assert "No threshold reached the target of 99% right answers" in text
    assert "100.0% of the base's features can still be read" in text
    assert "McNemar" not in text
    assert "score 0.900, training row 0" in text
    assert "by chance" not in text.split("How good is each class?")[1]
    assert "nan" not in text.lower().replace("finance", "")


def test_smallest_runs():
    sure = np.array([1.0, 0.0])
    for references, predictions in (([0, 0], [0, 0]), ([0, 1], [1, 0]), ([1, 1], [0, 0])):
        rows = PageRows(("a", "b"), np.array(references), np.array(predictions), sure, str, str)
        found = evidence(rows, worst_rows=[], suspects=[])
        html = render_page(Path("runs/x"), report(rows, evidence=found), rows)
        assert len(parse(html).data["cells"]) == len(set(zip(references, predictions, strict=True)))
        assert ("No test row was answered wrongly." in html) == (references == predictions)


def test_charts_that_cannot_be_drawn_are_said(monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: "the process ended: <b>")
    rows = text_rows()
    html = render_page(Path("runs/x"), report(rows, evidence=evidence(rows)), rows)
    assert html.count("This chart could not be drawn: the process ended: &lt;b&gt;") == 7
    assert sections(html) == SECTIONS


def test_a_body_that_did_not_change_shows_no_measurement(monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: ["<svg></svg>"] * len(specs))
    rows = text_rows()
    found = evidence(rows)
    found["forgetting"] |= {"kept": 1.0, "low": 1.0, "high": 1.0, "unchanged": True, "note": "Why that is so."}
    html = render_page(Path("runs/x"), report(rows, evidence=found), rows)
    part = html.split('<section id="forgetting" class="brief">')[1].split("</section>")[0]
    text = " ".join(re.sub(r"<.*?>", " ", part).split())
    assert "The body of the base model did not change" in text
    assert "%" not in text
    assert "Similarity" not in text
    assert "Kept of the base All its body did not change" in " ".join(re.sub(r"<.*?>", " ", html).split())
