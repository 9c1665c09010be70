"""`hftl doctor`, and what there is to train with: `hftl tasks`, `methods`, `models` and `samples`."""

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from hftl.cli.command import LIST, TRAIN, Json, verb
from hftl.cli.use import ImageColumn, LabelColumn, TextColumn, print_json
from hftl.errors import HftlError
from hftl.names import METHOD_NAMES, TASK_NAMES
from hftl.progress import hide_bars, quiet_libraries


class ChecksFailedError(HftlError):
    """The data were read, and a check failed."""

    exit_code = 1  # 2 is for data that cannot be read at all


@verb(
    "doctor",
    TRAIN,
    "find duplicates, leaks, faulty rows and labels in data, before training",
    "hftl doctor tickets.csv --fix cleaned",
)
def doctor(
    data: Annotated[str, Argument(metavar="DATA", help="one DATA")],
    task: Annotated[
        str | None,
        Option("--task", help="text-classification or image-classification (default: found from the data)"),
    ] = None,
    text_column: TextColumn = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    method: Annotated[
        str | None, Option("--method", help="judge the number of rows for this method (default: the task's own)")
    ] = None,
    fix: Annotated[
        str | None,
        Option("--fix", help="new folder for the cleaned data and changes.log, the log of every change"),
    ] = None,
    as_json: Annotated[bool, Option("--json", help='print {"findings": [...]} and nothing else on stdout')] = False,
) -> None:
    """Print the findings as a table, or with `--json` as one document; raise `ChecksFailedError` for a FAIL."""
    import datasets

    from hftl.doctor.examine import examine_source
    from hftl.doctor.findings import failures, plural
    from hftl.doctor.fix_files import LOG_NAME
    from hftl.doctor.show import show_findings

    quiet_libraries()
    if hide_bars():
        datasets.disable_progress_bars()
    columns = {"text_column": text_column, "image_column": image_column, "label_column": label_column}
    with contextlib.redirect_stdout(sys.stderr):
        opened, findings, left = examine_source(data, task, **columns, method=method, fix=fix)
    records = opened.records
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        sizes = ", ".join(f"{split} {int(records.within(split).sum()):,}" for split in records.splits)
        title = f"{records.name}: {sizes} rows; {records.kind}s in {opened.columns.input!r}, labels in {opened.columns.label!r}"
        show_findings(title, findings, stdout=True)
    if fix is not None:
        log = Path(fix) / LOG_NAME
        with log.open("rb") as file:
            changes = plural(sum(1 for _ in file), "change")
        title = f"The cleaned data are in {fix}, with {changes} in {log}. What is left (rows as they were numbered):"
        show_findings(title, left, stdout=not as_json)
    failed = failures(left)
    if failed:
        raise ChecksFailedError(f"{plural(len(failed), 'check')} failed: {', '.join(failed)}.")


@verb("tasks", LIST, "what can be learned", "hftl tasks --json")
def tasks(as_json: Json = False) -> None:
    """List the tasks."""
    _list([{"name": name, "summary": summary} for name, summary in TASK_NAMES.items()], as_json)


@verb("methods", LIST, "how it can be learned", "hftl methods")
def methods(as_json: Json = False) -> None:
    """List the methods."""
    _list([{"name": name, "summary": summary} for name, summary in METHOD_NAMES.items()], as_json)


@verb("models", LIST, "checkpoints that need no Hub", "hftl models --json")
def models(as_json: Json = False) -> None:
    """List the packaged checkpoints."""
    from hftl.models.packaged import PACKAGED, is_installed

    rows: list[dict[str, Any]] = []
    for p in PACKAGED.values():
        numbers = {"name": p.name, "input": p.input, "parameters": p.parameters, "licence": p.license}
        rows.append({**numbers, "installed": is_installed(p.name), "summary": p.description})
    _list(rows, as_json)


@verb("samples", LIST, "real data that needs no Hub", "hftl samples")
def samples(as_json: Json = False) -> None:
    """List the packaged data sets."""
    from hftl.data.samples import SAMPLES

    rows = [
        {"name": f"sample:{s.name}", "task": s.task, "licence": s.license, "summary": s.description}
        for s in SAMPLES.values()
    ]
    _list(rows, as_json)


def _list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from hftl.report.table import print_table

    print_table("", tuple(rows[0]), [tuple(r.values()) for r in rows], stdout=True)
