"""`hftl doctor`, and what there is to train with: `hftl tasks`, `methods`, `models` and `samples`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from hftl.cli.command import COLUMNS, LIST, TRAIN, Flag, on_stderr, print_json, verb
from hftl.config import TASK_NAMES
from hftl.errors import HftlError
from hftl.methods import METHODS


class ChecksFailedError(HftlError):
    """The data were read, and a check failed."""

    exit_code = 1  # 2 is for data that cannot be read at all


_DOCTOR = {
    "task": Flag("text-classification or image-classification (default: found from the data)"),
    **COLUMNS,
    "method": Flag("judge the number of rows for this method (default: the task's own)"),
    "fix": Flag("new folder for the cleaned data and changes.log, the log of every change"),
    "json": Flag('print {"findings": [...]} and nothing else on stdout', bool),
}


@verb(TRAIN, _DOCTOR)
def doctor(
    data: Annotated[str, Argument(metavar="DATA", help="a file, a folder, sample:<name> or a Hub id")],
    *,
    json: bool,
    fix: str | None,
    **flags: Any,
) -> None:
    """Find duplicates, leaks, faulty rows and labels in data, before training.

    Example: hftl doctor tickets.csv --fix cleaned
    """
    from hftl.doctor.examine import examine_source
    from hftl.doctor.findings import failures, plural, show_findings
    from hftl.doctor.fix_files import LOG_NAME

    with on_stderr():
        opened, findings, left = examine_source(data, fix=fix, **flags)
    if json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        records, columns = opened.records, opened.columns
        sizes = ", ".join(f"{split} {int(records.within(split).sum()):,}" for split in records.splits)
        title = f"{records.name}: {sizes} rows; {records.kind}s in {columns.input!r}, labels in {columns.label!r}"
        show_findings(title, findings, stdout=True)
    if fix is not None:
        log = Path(fix) / LOG_NAME
        changes = plural(log.read_bytes().count(b"\n"), "change")
        title = f"The cleaned data are in {fix}, with {changes} in {log}. What is left (rows as they were numbered):"
        show_findings(title, left, stdout=not json)
    failed = failures(left)
    if failed:
        raise ChecksFailedError(f"{plural(len(failed), 'check')} failed: {', '.join(failed)}.")


@verb(LIST)
def tasks(*, json: bool) -> None:
    """What can be learned.

    Example: hftl tasks --json
    """
    _list([{"name": name, "summary": summary} for name, summary in TASK_NAMES.items()], json)


@verb(LIST)
def methods(*, json: bool) -> None:
    """How it can be learned.

    Example: hftl methods
    """
    _list([{"name": name, "summary": method.summary} for name, method in METHODS.items()], json)


@verb(LIST)
def models(*, json: bool) -> None:
    """Checkpoints that need no Hub.

    Example: hftl models --json
    """
    from hftl.models.packaged import PACKAGED, is_installed

    facts = {"name": "name", "input": "input", "parameters": "parameters", "licence": "license"}
    rows = [
        {key: getattr(p, name) for key, name in facts.items()}
        | {"installed": is_installed(p.name), "summary": p.description}
        for p in PACKAGED.values()
    ]
    _list(rows, json)


@verb(LIST)
def samples(*, json: bool) -> None:
    """Real data that needs no Hub.

    Example: hftl samples
    """
    from hftl.data.samples import SAMPLES

    rows = [
        {"name": f"sample:{s.name}", "task": s.task, "licence": s.license, "summary": s.description}
        for s in SAMPLES.values()
    ]
    _list(rows, json)


def _list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from hftl.report.table import print_table

    print_table("", tuple(rows[0]), [tuple(r.values()) for r in rows], stdout=True)
