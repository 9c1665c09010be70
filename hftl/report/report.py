"""Writes report.json. `hftl.evidence.document` builds its content, and docs/report.md explains it."""

import json
from pathlib import Path
from typing import Any


SCHEMA_VERSION = 1


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as indented JSON."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
