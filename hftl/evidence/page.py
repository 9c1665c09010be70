"""report.html of a run: the rows that the page shows, read from the splits when they are asked for."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hftl.data.images import decode_image
from hftl.evaluation.row_scores import row_scores
from hftl.prepare import Prepared
from hftl.report.html import write_page
from hftl.report.rows import Content, PageRows


def write_run_page(path: Path, report: dict[str, Any], ready: Prepared, logits: np.ndarray) -> dict[str, Any]:
    """Write the page and return the report with the seconds that took; `logits` [n, classes] are of the test rows."""
    start = time.perf_counter()
    splits = ready.splits
    scores = row_scores(logits, np.asarray(splits.test["label"][:]))
    rows = PageRows(
        splits.labels, scores.true, scores.predicted, scores.confidence,
        _reader(splits.test, ready.task.input_column), _reader(splits.train, ready.task.input_column),
    )  # fmt: skip
    write_page(path, report, rows)
    seconds = time.perf_counter() - start
    evidence = {**report["evidence"], "seconds": round(report["evidence"]["seconds"] + seconds, 3)}
    timing = {**report["timing"], "total_seconds": round(report["timing"]["total_seconds"] + seconds, 3)}
    return {**report, "evidence": evidence, "timing": timing}


def _reader(table: Any, column: str) -> Callable[[int], Content]:
    def read(row: int) -> Content:
        value = table[row][column]
        return str(value) if column == "text" else decode_image(value)

    return read
