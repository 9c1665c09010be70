"""The documents name what a run holds."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from hftl.config import OutputConfig
from hftl.report.schema import REPORT
from tests.runs import text_frame, tiny_run


ROOT = Path(__file__).resolve().parents[2]


def _fields(shape: Any) -> set[str]:
    """Every name of a field in a shape of the schema."""
    if isinstance(shape, dict):
        return {name for name in shape if name is not str}.union(*map(_fields, shape.values()))
    return set().union(*map(_fields, shape)) if isinstance(shape, list) else set()


def test_every_field_of_the_report_is_documented() -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs" / "report.md").read_text(encoding="utf-8")))
    assert _fields(REPORT) - words == set()


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_keys(v) for v in value.values()))
    return set().union(*(_keys(v) for v in value)) if isinstance(value, list) else set()


def test_every_key_of_the_evidence_is_documented(tmp_path: Path) -> None:
    evidence = tiny_run("bert", "full", tmp_path, data=text_frame(160), evidence=True).report["evidence"]
    for finding in evidence["doctor"]:
        finding["rows"] = finding["by_split"] = None  # by split
    words = set(re.findall(r"\w+", (ROOT / "docs" / "report.md").read_text(encoding="utf-8")))
    assert _keys(evidence) - words == set()


def test_every_flag_of_the_evidence_is_documented() -> None:
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    names = {f.name for f in dataclasses.fields(OutputConfig)} - {
        "output_dir",
        "overwrite",
        "resume",
        "seeds",
        "name",
        "author",
    }
    assert names == {"evidence", "control", "retain", "target_precision"}
    assert not [name for name in (*names, "slice_column") if f"--{name}" not in text]
