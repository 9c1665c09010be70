"""`hftl doctor`, and what there is to train with: `hftl tasks`, `methods`, `models` and `samples`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from hftl.cli.command import COLUMNS, LIST, TRAIN, Flag, on_stderr, print_json, verb
from hftl.config import TASK_KINDS, TASK_NAMES
from hftl.data.files import check_data
from hftl.errors import HftlError
from hftl.methods import METHODS


class ChecksFailedError(HftlError):
    """The data were read, and a check failed."""

    exit_code = 1  # 2 is for data that cannot be read at all


_DOCTOR = {
    "task": Flag(f"one of {', '.join(TASK_NAMES)} (default: found from the data)"),
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
    check_data(data, TASK_KINDS.get(flags["task"]) if flags["task"] else None)
    from hftl.doctor import examine_source
    from hftl.doctor.findings import failures, show_findings
    from hftl.doctor.fix import LOG_NAME
    from hftl.report.statements import counted

    with on_stderr():
        opened, findings, left = examine_source(data, fix=fix, **flags)
    if json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        records, columns = opened.records, opened.columns
        sizes = ", ".join(f"{split} {int(records.within(split).sum()):,}" for split in records.splits)
        title = f"{records.name}: {sizes} rows; {records.kind.name}s in {' and '.join(map(repr, columns.inputs))}, labels in {columns.label!r}"
        show_findings(
            ". ".join([title, *(line.rstrip(".") for line in opened.source.warnings)]), findings, stdout=True
        )
    if fix is not None:
        log = Path(fix) / LOG_NAME
        changes = counted(log.read_bytes().count(b"\n"), "change", "changes")
        title = f"The cleaned data are in {fix}, with {changes} in {log}. What is left (rows as they were numbered):"
        show_findings(title, left, stdout=not json)
    failed = failures(left)
    if failed:
        raise ChecksFailedError(f"{counted(len(failed), 'check', 'checks')} failed: {', '.join(failed)}.")


def _tasks() -> list[dict[str, Any]]:
    return [{"name": name, "summary": summary} for name, summary in TASK_NAMES.items()]


def _methods() -> list[dict[str, Any]]:
    return [{"name": name, "summary": method.summary} for name, method in METHODS.items()]


def _models() -> list[dict[str, Any]]:
    from hftl.models.packaged import PACKAGED, is_installed

    rows: list[dict[str, Any]] = []
    for p in PACKAGED.values():
        facts = {"name": p.name, "input": p.input, "parameters": p.parameters, "licence": p.license}
        rows.append({**facts, "installed": is_installed(p.name), "summary": p.description})
    return rows


def _samples() -> list[dict[str, Any]]:
    from hftl.data.samples import SAMPLES

    return [
        {"name": f"sample:{s.name}", "task": s.task, "licence": s.license, "summary": s.description}
        for s in SAMPLES.values()
    ]


def _listing(name: str, summary: str, rows: Callable[[], list[dict[str, Any]]]) -> None:
    """Make a verb that prints a table with these rows, or JSON."""

    def show(*, json: bool) -> None:
        table = rows()
        if json:
            print_json(table)
            return
        from hftl.report.table import print_table

        print_table("", tuple(table[0]), [tuple(row.values()) for row in table], stdout=True)

    show.__doc__ = f"{summary}\n\nExample: hftl {name} --json"
    verb(LIST, name=name)(show)


@verb(LIST)
def runs(
    folder: Annotated[str, Argument(metavar="FOLDER", help="a folder that holds runs")] = "runs", *, json: bool
) -> None:
    """List the runs under a folder: finished, running, stopped and failed ones.

    Example: hftl runs runs --json
    """
    from hftl.report.table import print_table
    from hftl.runs import as_row, list_runs, table

    found = list_runs(Path(folder))
    if json:
        print_json([as_row(run) for run in found])
        return
    title = f"{len(found)} run{'s' if len(found) != 1 else ''} under {folder}"
    print_table(title, *table(found), stdout=True)


_listing("tasks", "What can be learned.", _tasks)
_listing("methods", "How it can be learned.", _methods)
_listing("models", "Checkpoints that need no Hub.", _models)
_listing("samples", "Real data that needs no Hub.", _samples)
