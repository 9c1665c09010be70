"""What the terminal says of a finished run, beside the ladder."""

import copy
from pathlib import Path
from typing import Any

import pytest

from hftl import terminal
from hftl.report.show import show_result
from tests.report_page.example import evidence, report, score, text_rows


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    """`--verbose`."""
    monkeypatch.setattr(terminal, "verbose", True)


def shown(capfd: pytest.CaptureFixture, folder: Path, **changes: Any) -> dict[str, str]:
    """The evidence table as {first column: second column}."""
    rows = text_rows()
    found = evidence(rows)
    found["forgetting"]["unchanged"] = False
    for part, change in changes.items():
        found[part] = {**copy.deepcopy(found[part]), **change} if isinstance(change, dict) else change
    show_result({**report(rows, evidence=found), "parity": {}}, str(folder))
    lines = capfd.readouterr().err.split("\nEvidence\n")[1].split("\n\n")[0].splitlines()[1:]
    return {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in lines}


def test_kept_is_a_figure_only_where_it_was_measured(capfd, tmp_path):
    assert shown(capfd, tmp_path)["kept of the base"].startswith(
        "97.8% of the base's features can still be read (500 rows, on sample:x, a stand-in; 95% interval"
    )
    said = shown(capfd, tmp_path, forgetting={"kept": 1.0, "unchanged": True})["kept of the base"]
    assert said == "The body of the base model did not change: all of it is kept."


def test_what_to_try_next(capfd, tmp_path):
    assert shown(capfd, tmp_path)["next"] == "train longer --max_steps 90: The loss still fell."


def test_abstain(capfd, tmp_path):
    assert shown(capfd, tmp_path)["abstain"] == (
        "If it only answers when at least 83.0% confident, 95.3% of its answers are right (95% interval 93.3 to 97.3%; "
        "target: 95%), and it answers 71.0% of the rows."
    )
    said = shown(capfd, tmp_path, abstain={"threshold": None, "test_precision": None})["abstain"]
    assert said.startswith("No threshold reached the target of 95%")


def test_weak_slices(capfd, tmp_path):
    def one(name: str, value: float, weak: bool) -> dict[str, Any]:
        return {"by": "source", "slice": name, "count": 40, "accuracy": score(value), "weak": weak}

    assert "weak slice" not in shown(capfd, tmp_path, slices=[one("a", 0.2, False)])
    said = shown(capfd, tmp_path, slices=[one("a", 0.9, False), one("b\n\x1b[31mc", 0.5, True)])["weak slice"]
    assert said.startswith("Weaker than overall by source, b")
    assert said.endswith("c: accuracy 50.0% on 40 test rows.")
    assert "\x1b" not in said


def test_suspects(capfd, tmp_path):
    suspects = [{"row": i, "confident": i < 2} for i in range(7)]
    said = shown(capfd, tmp_path, suspects=suspects)["labels to look at"]
    assert said == "report.json names 7 training rows, 2 contradicted with confidence"
    assert "labels to look at" not in shown(capfd, tmp_path, suspects=[])


def test_the_page_is_named_where_there_is_one(capfd, tmp_path):
    rows = text_rows()
    made = {**report(rows, evidence=None), "parity": {}}
    show_result(made, str(tmp_path))
    assert "report.html" not in capfd.readouterr().err
    (tmp_path / "report.html").touch()
    show_result(made, str(tmp_path))
    assert f"open {tmp_path}/report.html" in capfd.readouterr().err
