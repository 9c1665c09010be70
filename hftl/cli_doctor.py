"""`hftl doctor`: what is wrong with labelled data, and cleaned data on request."""

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from hftl.errors import ConfigError, HftlError
from hftl.flags import Flags, check_flags, is_on
from hftl.progress import hide_bars, quiet_libraries


DOCTOR_FLAGS = {
    "task": "text-classification or image-classification (default: found from the data)",
    "text_column": "column with the text",
    "image_column": "column with the image",
    "label_column": "column with the label",
    "method": "judge the number of rows for this method (default: the task's own)",
    "fix": "new folder for the cleaned data and changes.log, the log of every change",
    "json": 'print {"findings": [...]} and nothing else on stdout',
}


class ChecksFailedError(HftlError):
    """The data were read, and a check failed."""

    exit_code = 1  # 2 is for data that cannot be read at all


def doctor_verb(positional: list[str], flags: Flags) -> None:
    """Print the findings as a table, or with `--json` as one document; raise `ChecksFailedError` for a FAIL."""
    check_flags(flags, set(DOCTOR_FLAGS), "doctor")
    if len(positional) != 1:
        got = f", but got {len(positional)}: {' '.join(positional)}" if positional else ""
        raise ConfigError(f"hftl doctor needs one DATA{got}, such as: hftl doctor tickets.csv")
    as_json = is_on(flags, "json")
    flags.pop("json", None)
    import datasets

    from hftl.doctor.examine import examine_source
    from hftl.doctor.findings import failures, plural, show_findings
    from hftl.doctor.fix_files import LOG_NAME

    quiet_libraries()
    if hide_bars():
        datasets.disable_progress_bars()
    with contextlib.redirect_stdout(sys.stderr):
        opened, findings, left = examine_source(positional[0], flags.pop("task", None), **flags)
    records = opened.records
    if as_json:
        sys.stdout.write(json.dumps({"findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        sizes = ", ".join(f"{split} {int(records.within(split).sum()):,}" for split in records.splits)
        title = f"{records.name}: {sizes} rows; {records.kind}s in {opened.columns.input!r}, labels in {opened.columns.label!r}"
        show_findings(title, findings, stdout=True)
    if "fix" in flags:
        log = Path(flags["fix"]) / LOG_NAME
        with log.open("rb") as file:
            changes = plural(sum(1 for _ in file), "change")
        title = f"The cleaned data are in {flags['fix']}, with {changes} in {log}. What is left (rows as they were numbered):"
        show_findings(title, left, stdout=not as_json)
    failed = failures(left)
    if failed:
        raise ChecksFailedError(f"{plural(len(failed), 'check')} failed: {', '.join(failed)}.")
