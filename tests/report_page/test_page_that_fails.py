"""A page that cannot be written is a warning: the model and report.json are what a run is for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from hftl import load
from hftl.data.splits import Splits
from hftl.errors import Preempted
from hftl.evidence.page import write_page_of
from hftl.tasks import get_task
from tests.report_page.example import LABELS, evidence, report, text_rows
from tests.runs import text_frame, tiny_run


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(path: Path, report: dict[str, Any], *_: Any) -> None:
        assert json.loads(path.with_name("report.json").read_text())["evidence"] == report["evidence"]
        path.write_text("<html>half a pa")
        raise error

    monkeypatch.setattr("hftl.evidence.page.write_page", fail)


def _write(folder: Path) -> dict[str, Any]:
    rows = Dataset.from_dict({"text": ["some words"] * 60, "label": [0, 1, 2] * 20})
    splits = Splits(rows, rows, rows, LABELS, "a set", {}, (), ())
    rows_of_page = text_rows()
    made = json.loads(json.dumps(report(rows_of_page, evidence=evidence(rows_of_page))))
    return write_page_of(
        folder / "report.html",
        made,
        splits,
        get_task("text-classification"),
        np.tile(np.eye(3, dtype=np.float32), (20, 1)),
    )


FULL = OSError(28, "No space left on device", "/home/me/runs/x.partial/report.html")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FULL, "No space left on device"),
        (ValueError("the chart\nhas no marks"), "the chart has no marks"),
        (KeyError(), "KeyError"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["disk", "chart", "bug", "memory"],
)
def test_the_cause_in_one_line(error, says, tmp_path, monkeypatch):
    _failing(monkeypatch, error)
    monkeypatch.delenv("HFTL_RAISE_BUGS")  # as it is for a user
    found = _write(tmp_path)
    assert found["warnings"][-1] == f"There is no report.html: it could not be written ({says}). All else is complete."
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    monkeypatch.undo()
    assert _write(tmp_path)["warnings"] == found["warnings"][:-1]
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("error", [Preempted("SIGTERM"), KeyboardInterrupt()], ids=["sigterm", "ctrl-c"])
def test_who_wants_to_stop_is_heard(error, tmp_path, monkeypatch):
    _failing(monkeypatch, error)
    with pytest.raises(type(error)):
        _write(tmp_path)


def test_a_bug_of_the_page_fails_our_tests(tmp_path, monkeypatch):
    _failing(monkeypatch, KeyError("no such chart"))
    with pytest.raises(KeyError, match="no such chart"):
        _write(tmp_path)


def test_the_run_is_whole(tmp_path, monkeypatch, capfd):
    _failing(monkeypatch, FULL)
    result = tiny_run("bert", "probe", tmp_path, data=text_frame(120), evidence=True, seeds=2)
    told = [line for line in result.report["warnings"] if "report.html" in line]
    assert len(told) == 1
    assert json.loads((result.run_dir / "report.json").read_text())["warnings"] == result.report["warnings"]
    assert not (result.run_dir / "report.html").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("bert-probe")] == ["bert-probe"]
    assert load(result.run_dir).predict(["some words"])[0].label
    terminal = capfd.readouterr().err
    assert told[0] in terminal
    assert "open " not in terminal
