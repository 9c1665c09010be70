"""What the Space makes of reports, its own and strangers'."""

import importlib.util
from html import escape
from pathlib import Path

import pytest

from hftl.report.statements import banner
from hftl.report.views import statements_of
from tests.publishing_space.conftest import report
from tests.report_page.example import evidence, text_rows
from tests.report_page.example import report as run_report


PATH = Path(__file__).resolve().parents[2] / "spaces_demo" / "evidence_panel.py"
spec = importlib.util.spec_from_file_location("evidence_panel", PATH)
assert spec is not None
assert spec.loader is not None
panel = importlib.util.module_from_spec(spec)
spec.loader.exec_module(panel)


def test_nothing_is_shown_unescaped():
    shown = panel.evidence(report()) + panel.heading(
        "<b>n</b>", "https://x/'\"><x>", "text-classification", 3, report()
    )
    for raw in ("<script", "<i>x", "<b>x</b>", "<b>class", "<b>n</b>", "<x>"):
        assert raw not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize(
    ("label", "kind", "look", "title"),
    [
        ("POSITIVE", None, "hf-good", "Pretraining helped"),
        ("NEGATIVE", None, "hf-bad", "Pretraining hurt"),
        ("NEUTRAL", None, "hf-none", "No clear difference"),
        ("NEUTRAL", "EQUIVALENT", "hf-none", "Equivalent"),
        ("NEUTRAL", "UNDECIDED", "hf-none", "Undecided"),
    ],
)
def test_the_verdict_is_the_one_that_the_page_shows(label, kind, look, title):
    rows = text_rows()
    made = run_report(rows, evidence=evidence(rows, label))
    made["evidence"]["verdict"] |= {"kind": kind, "against": "<i>x</i>"}
    shown = panel.evidence({**made, "statements": statements_of(made)})
    assert f'<p class="hf-note {look}"><b><bdi>{title}' in shown
    assert escape(str(banner(made, made["evidence"])["sentence"])) in shown
    assert "<i>" not in shown


def test_a_report_of_an_older_hftl_shows_its_figures():
    shown = panel.evidence(report(statements=None))
    assert "This report comes from an older hftl" in shown
    assert "95% interval 85.0 to 94.0%" in shown
    assert "What it was compared with" in shown


def test_a_report_without_evidence_still_has_its_metrics():
    shown = panel.evidence(report(evidence=None, per_class=None, statements=None))
    assert "No verdict" in shown
    assert "90.0%" in shown
    assert "95% interval 85.0 to 94.0%" in shown
    assert "<details>" not in shown


@pytest.mark.parametrize(
    "broken",
    [
        report(metrics=None),
        report(statements=None, metrics={"test": {"accuracy": "<b>"}}),
        report(evidence="<b>no</b>"),
        report(statements={"verdict": {"title": "<b>"}}),
        report(statements={"verdict": 7}),
        report(evidence={"ladder": {"a": 1}}),
        report(statements={"cards": [1]}),
        report(per_class=[{"label": 1}]),
        report(data={"rows": {"test": "<b>"}}),
        {"schema_version": [[[]]]},
    ],
)
def test_a_stranger_s_report_that_makes_no_sense_is_one_line(broken):
    shown = panel.evidence(broken)
    assert "cannot be read" in shown
    assert "<b>" not in shown
    assert panel.heading("n", None, "image-classification", 2, broken)


def test_many_classes_are_cut():
    one = {"label": "x", "precision": None, "recall": 0.5, "f1": 0.5, "support": 3}
    shown = panel.evidence(report(per_class=[one] * 150))
    assert shown.count("<td><bdi>x</bdi></td>") == 100
    assert "the first 100 of 150" in shown


@pytest.mark.parametrize(
    ("confidence", "threshold", "title"),
    [(0.5, 0.7, "Not sure"), (0.7, 0.7, "<bdi>a</bdi>"), (0.6, 0.0, "<bdi>a</bdi>"), (0.1, 0.0, "Not sure")],
)
def test_not_sure_under_the_threshold(confidence, threshold, title):
    def said(label):
        answer = {"confidences": [{"label": label, "confidence": confidence}]}
        return panel.best_label(answer, {}, {"evidence": {"abstain": {"threshold": threshold}}}, "")

    assert f"<b>{title}</b>" in said("a")
    assert "\n" not in said("a\nb\u202e")


def test_folders_of_the_machine_are_not_shown():
    ladder = [{"name": "full (/home/me/models/base-bert)", "accuracy": {"value": 1, "low": 1, "high": 1}}]
    local = report(model={"name": "/home/me/models/base-bert"}, data={"name": "../me/a.csv", "rows": {"test": 9}})
    local["evidence"]["ladder"] = ladder
    shown = panel.heading("n", None, "text-classification", 2, local) + panel.evidence(local)
    for part in ("<bdi>base-bert</bdi>", "<bdi>a.csv</bdi>", "<bdi>full (base-bert)</bdi>"):
        assert part in shown
    assert "me/" not in shown
    on_hub = panel.heading(
        "n", None, "text-classification", 2, report(model={"name": "ns/base"}, data={"name": "sample:digits"})
    )
    assert "ns/base" in on_hub
    assert "sample:digits" in on_hub


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({"abstain": {"threshold": 0.7}}, 0.7),
        ({"abstain": {"threshold": 1}}, 1.0),
        ({"abstain": {"threshold": float("nan")}}, 0.0),
        ({"abstain": {"threshold": 7}}, 0.0),
        ({"abstain": {"threshold": True}}, 0.0),
        ({"abstain": {"threshold": "0.7"}}, 0.0),
        ({"abstain": None}, 0.0),
        ("x", 0.0),
        (None, 0.0),
    ],
)
def test_the_threshold(evidence, expected):
    assert panel.threshold({"evidence": evidence}) == expected


def test_labels_above_their_thresholds():
    answer = {"confidences": [{"label": "<b>a</b>", "confidence": 0.6}, {"label": "c", "confidence": 0.4}]}
    own = {"labels": ["<b>a</b>", "c"], "thresholds": [0.7, 0.3]}
    assert "<b><bdi>c</bdi></b> Labels above their thresholds." in panel.labels_above(answer, own, {}, "")
    usual = panel.labels_above(answer, {"labels": ["<b>a</b>", "c"]}, {}, "cut")
    assert "&lt;b&gt;a&lt;/b&gt;" in usual
    assert "Labels above 50.0%. cut" in usual
    none = {"labels": ["<b>a</b>", "c"], "thresholds": [0.9, 0.9]}
    assert "<b>No label</b>" in panel.labels_above(answer, none, {}, "")


def test_a_number_and_its_interval():
    config = {"conformal_width": 0.5, "conformal_level": 0.9}
    shown = panel.number_between(2.25, config, {}, "cut")
    assert "<b>2.25</b> The interval 1.75 to 2.75 holds the truth for 90.0% of rows. cut" in shown
    assert panel.number_between(2.25, {}, {}, "") == ""
    assert panel.number_between(2.25, {"conformal_width": "x"}, {}, "cut") == '<p class="hf-note hf-none">cut</p>'
