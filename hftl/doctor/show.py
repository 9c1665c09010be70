"""Findings as a table on the terminal."""

from collections.abc import Sequence

from hftl.doctor.findings import ACROSS, Finding
from hftl.report.table import print_table


_SHOWN = 5  # row numbers per split


def show_findings(title: str, findings: Sequence[Finding], *, stdout: bool) -> None:
    """Print one line per finding, the gravest first."""
    grave = {"FAIL": 0, "WARN": 1, "INFO": 2, "PASS": 3}
    ordered = sorted(findings, key=lambda finding: grave[finding.level])
    rows = [(f.level, f.check, _count(f), _rows(f), f.mend or "nothing to do") for f in ordered]
    print_table(title, ("level", "check", "count", "rows (from 0)", "what to do"), rows, stdout=stdout)


def _count(finding: Finding) -> str:
    if len(finding.by_split) < 2:
        where = "".join(f" {'' if split == ACROSS else 'in '}{split}" for split in finding.by_split)
        return f"{finding.count:,}{where}"
    return f"{finding.count:,} ({', '.join(f'{split} {count:,}' for split, count in finding.by_split.items())})"


def _rows(finding: Finding) -> str:
    parts = []
    for split, rows in finding.rows.items():
        more = ", ..." if len(rows) > _SHOWN or finding.by_split.get(split, 0) > _SHOWN else ""
        parts.append(f"{split} {', '.join(map(str, rows[:_SHOWN]))}{more}")
    return "; ".join(parts)
