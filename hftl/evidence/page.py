"""report.html of a run: the rows that the page shows, read from the splits when they are asked for."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hftl.config import RunConfig
from hftl.data.load import load_task
from hftl.data.splits import Splits
from hftl.errors import HftlError, reraise_in_tests
from hftl.evaluation.row_scores import row_scores
from hftl.evidence.again import Answered, answered
from hftl.predict import load
from hftl.prepare import Prepared
from hftl.report.html import write_page
from hftl.report.overlays import overlay
from hftl.report.report import write_report
from hftl.report.rows import Content, PageRows
from hftl.report.views import statements_of
from hftl.tasks.task import Inputs, Output, Task
from hftl.training.features import predict_logits
from hftl.training.precision import runs_on_cpu
from hftl.training.world import from_every_process, is_main_process


PAGE = "report.html"
_NO_PAGE = f"There is no {PAGE}: "


def write_run_page(
    path: Path, report: dict[str, Any], ready: Prepared, logits: np.ndarray, again: Answered, config: Any
) -> dict[str, Any]:
    """Write report.json and the page beside it; `logits` [n, classes] are of the test rows. See `write_page_of`."""
    report = {**report, "statements": statements_of(report)}
    return write_page_of(path, report, ready.splits, ready.task, logits, again=again, config=config)


def write_page_of(
    path: Path,
    report: dict[str, Any],
    splits: Splits,
    task: Task,
    logits: np.ndarray,
    run_dir: Path | None = None,
    again: Answered | None = None,
    config: Any = None,
) -> dict[str, Any]:
    """Write report.json and the page of a run beside it, and return the report with the seconds that took.

    report.json comes first: the page is not worth a run. Where the page cannot be made, none is left, and the report
    that is returned has the cause among its warnings. `run_dir` is where the run will lie in the end, if not here. `again`
    answers test rows by their numbers, for maps that lie over images in the colours of the model's `config`.
    """
    start = time.perf_counter()
    report = {**report, "warnings": [w for w in report["warnings"] if not w.startswith(_NO_PAGE)]}  # of a page before
    write_report(path.with_name("report.json"), report)
    try:
        test, train = (_reader(table, task.inputs) for table in (splits.test, splits.train))
        rows = PageRows(splits.labels, *_classes(task.output, splits, logits), test, train)
        if again is not None and task.output.colours is not None:
            colours = task.output.colours(config, len(splits.labels))
            rows = replace(rows, overlaid=_overlaid(splits.test, task, again, colours), colours=colours)
        write_page(path, report, rows, run_dir)
    except Exception as error:  # hours of training are not lost to a bug of the page; our tests are told
        if not isinstance(error, HftlError | OSError | MemoryError):
            reraise_in_tests(error)
        report = _without_page(path, report, error)
    return timed(report, time.perf_counter() - start)


def write_page_again(run: Path, config: RunConfig, report: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Write the page of the finished run in `run` anew, with `report`, before it moves to `run_dir`.

    The rows are cut again by `config`, the run's own, and the saved model answers them again: all processes call this
    together, and rank 0 writes. Returns the report as `write_page_of` does.
    """
    start = time.perf_counter()
    path = run / PAGE
    problem: HftlError | OSError | None = None
    try:
        task, splits = load_task(config.task, config.data, config.train_seed)
        predictor = load(run)
        task = predictor.task
        test = task.encode(splits.test, predictor.processor)
    except (HftlError, OSError) as error:
        problem = error
    problems = [p for p in from_every_process(problem) if p is not None]
    if problems:  # on one process is on all: the answers are shared out over them
        return _without_page(path, report, problems[0]) if is_main_process() else report
    collate = task.collator(predictor.processor)
    model, use_cpu = predictor.model, runs_on_cpu(config.training)
    logits = predict_logits(model, test, collate, use_cpu=use_cpu, title="test")
    if not is_main_process():
        return report
    report = timed(report, time.perf_counter() - start)
    again = answered(model, predictor.processor, task, splits, logits, use_cpu)
    return write_page_of(path, report, splits, task, logits, run_dir, again, model.config)


def _without_page(path: Path, report: dict[str, Any], error: Exception) -> dict[str, Any]:
    cause = (
        error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    )  # paths stay out of the report
    warning = f"{_NO_PAGE}it could not be written ({cause or type(error).__name__}). All else is complete."
    with contextlib.suppress(OSError):  # a folder of that name, say: it is not in the way of the run
        path.unlink(missing_ok=True)  # half a page, or one that names a folder which will be gone
    return {**report, "warnings": [*(w for w in report["warnings"] if not w.startswith(_NO_PAGE)), warning]}


def checked(report: dict[str, Any], check: Future[dict[str, Any]]) -> dict[str, Any]:
    """Wait for the check of the saved model; return the report with its result. Raises `ParityError`."""
    start = time.perf_counter()
    report["parity"]["final"] = check.result()
    return timed(report, time.perf_counter() - start)


def timed(report: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the report with so many seconds more of evidence."""
    evidence = {**report["evidence"], "seconds": round(report["evidence"]["seconds"] + seconds, 3)}
    timing = {**report["timing"], "total_seconds": round(report["timing"]["total_seconds"] + seconds, 3)}
    return {**report, "evidence": evidence, "timing": timing}


def _classes(output: Output, splits: Splits, logits: np.ndarray) -> tuple[Any, Any, Any]:
    """Return the true class, the answered one and its probability of each test row; of other answers see `PageRows`."""
    if output.link == "none":
        return output.gather(splits.test["label"][:]), output.decode(logits), None
    if "confusion" not in output.parts or output.units is None:
        return None, None, None
    scores = row_scores(*output.units(logits, output.gather(splits.test["label"][:])))
    return scores.true, scores.predicted, scores.confidence


def _overlaid(
    table: Any, task: Task, again: Answered, colours: list[list[int]]
) -> Callable[[list[int]], list[dict[str, Any]]]:
    read: Callable[[int], Any] = _reader(table, task.inputs)

    def overlaid(rows: list[int]) -> list[dict[str, Any]]:
        truth = task.output.gather(table.select(rows)["label"][:])
        answers = [answer.value for answer in again(rows)]
        return [overlay(read(row), truth[i], answers[i], colours) for i, row in enumerate(rows)]

    return overlaid


def _reader(table: Any, inputs: Inputs) -> Callable[[int], Content]:
    def read(row: int) -> Content:
        return inputs.show(inputs.values(table.select([row], new_fingerprint=f"row-{row}"))[0])  # a hash takes longer

    return read
