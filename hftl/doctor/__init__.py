"""Examines labelled data before training: duplicates, leaks, faulty rows and labels, and repairs what can be repaired."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftl.config import COLUMN_FLAGS, data_config
from hftl.doctor.findings import Finding, Records
from hftl.doctor.input_checks import (
    conflicting_labels,
    cross_split_duplicates,
    exact_duplicates,
    missing_values,
    near_duplicates,
)
from hftl.doctor.label_checks import imbalance, missing_classes, similar_class_names, sorted_rows, too_few_rows
from hftl.doctor.leaks import leaky_feature
from hftl.errors import ConfigError, did_you_mean
from hftl.methods import check_name


if TYPE_CHECKING:
    from hftl.data.splits import Splits
    from hftl.doctor.reading import Opened
    from hftl.tasks.task import Task

__all__ = ["Finding", "doctor", "doctor_splits"]

FLAGS = (*COLUMN_FLAGS, "method", "fix")


def doctor(data: Any, task: str | None = None, **flags: Any) -> list[Finding]:
    """Examine labelled data before training and return one finding per check, those that passed included.

    Args:
        data: a file, a folder, `sample:<name>`, a Hub id, a Dataset, a DatasetDict or a DataFrame.
        task: "text-classification" or "image-classification"; told by the data when left out.
        flags: `text_column`, `text_pair_column`, `image_column`, `label_column`, `label_columns`, `label_separator`,
            `problem_type`; `method`, for which `too_few_rows` is judged; `fix`, a new folder to write the cleaned
            data and the log of changes to.

    Raises:
        ConfigError: there is no such flag, task or method.
        DataError: the data cannot be found or read, or have no column of texts, images or labels.
        RunError: the folder of `fix` is in the way or cannot be written.
    """
    return examine_source(data, task, **flags)[1]


def examine_source(data: Any, task: str | None = None, **flags: Any) -> "tuple[Opened, list[Finding], list[Finding]]":
    """Return the opened data, what `doctor` returns, and what is left of it after `fix` (the same without it)."""
    from hftl.doctor.fix import check_out, fix  # late, both: with them comes torch
    from hftl.doctor.reading import open_source

    for name in flags:
        if name not in FLAGS:
            raise ConfigError(f"hftl.doctor has no flag {name!r}.{did_you_mean(name, FLAGS)}")
    method = flags.get("method")
    check_name(method)
    out = Path(flags["fix"]) if flags.get("fix") is not None else None
    if out is not None:
        check_out(out, data)
    opened = open_source(data, task, data_config({"data": data, **{k: flags[k] for k in COLUMN_FLAGS if k in flags}}))
    findings = examine(opened.records, method)
    left = findings if out is None else examine(fix(opened, out), method, sure_only=True)
    return opened, findings, left


def doctor_splits(splits: "Splits", task: "Task", method: str | None = None) -> list[Finding]:
    """Examine loaded splits at the start of a run, in seconds; rows are numbered as the source numbers them.

    Less than `doctor`: images count as the same when their files are, near
    duplicates are looked for in sets of moderate size only (else that finding is left out), and there are no other
    columns to leak. Broken images were left out in loading: they are counted from `splits.skipped`.
    """
    from hftl.doctor.reading import splits_records

    return examine(splits_records(splits, task), method)


def examine(records: Records, method: str | None = None, *, sure_only: bool = False) -> list[Finding]:
    """Run the checks; `sure_only` leaves out those that look for likenesses and leaks, which never fail."""
    findings = [
        missing_values(records),
        *(check(records) for check in records.kind.checks),
        exact_duplicates(records),
        cross_split_duplicates(records),
        None if sure_only else near_duplicates(records),
        conflicting_labels(records),
    ]
    if records.classes:
        findings += [
            similar_class_names(records),
            missing_classes(records),
            imbalance(records),
            too_few_rows(records, method),
            sorted_rows(records),
            None if sure_only else leaky_feature(records),
        ]
    return [finding for finding in findings if finding is not None]
