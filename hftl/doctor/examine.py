"""All checks, in order, on a source or on the splits of a run."""

from pathlib import Path
from typing import Any

from hftl.config import DataConfig
from hftl.data.splits import Splits
from hftl.doctor.findings import Finding, Records, warned
from hftl.doctor.fix import fix
from hftl.doctor.fix_files import check_out
from hftl.doctor.input_checks import (
    SERIOUS,
    broken_images,
    conflicting_labels,
    cross_split_duplicates,
    empty_or_truncated_texts,
    exact_duplicates,
    missing_values,
    near_duplicates,
    tiny_or_odd_images,
)
from hftl.doctor.label_checks import imbalance, missing_classes, similar_class_names, sorted_rows, too_few_rows
from hftl.doctor.leaks import leaky_feature
from hftl.doctor.reading import Opened, open_source, splits_records
from hftl.errors import ConfigError, did_you_mean
from hftl.methods import check_name


FLAGS = ("text_column", "image_column", "label_column", "method", "fix")


def doctor(data: Any, task: str | None = None, **flags: Any) -> list[Finding]:
    """Examine labelled data before training and return one finding per check, those that passed included.

    Args:
        data: a file, a folder, `sample:<name>`, a Hub id, a Dataset, a DatasetDict or a DataFrame.
        task: "text-classification" or "image-classification"; found from the data when left out.
        flags: `text_column`, `image_column`, `label_column`; `method`, for which `too_few_rows` is judged; `fix`, a new
            folder to write the cleaned data and the log of changes to.

    Raises:
        ConfigError: there is no such flag, task or method.
        DataError: the data cannot be found or read, or have no column of texts, images or labels.
        RunError: the folder of `fix` is in the way or cannot be written.
    """
    return examine_source(data, task, **flags)[1]


def examine_source(data: Any, task: str | None = None, **flags: Any) -> tuple[Opened, list[Finding], list[Finding]]:
    """Return the opened data, what `doctor` returns, and what is left of it after `fix` (the same without it)."""
    for name in flags:
        if name not in FLAGS:
            raise ConfigError(f"hftl.doctor has no flag {name!r}.{did_you_mean(name, FLAGS)}")
    method = flags.get("method")
    check_name(method)
    out = Path(flags["fix"]) if flags.get("fix") is not None else None
    if out is not None:
        check_out(out, data)
    columns: dict[str, Any] = {name: value for name, value in flags.items() if name.endswith("_column")}
    config = DataConfig(data=data, **columns)
    opened = open_source(data, task, config)
    findings = examine(opened.records, method)
    if out is None:
        return opened, findings, findings
    mended = fix(opened, out)
    return opened, findings, examine(mended, method, sure_only=True)


def doctor_splits(splits: Splits, input_column: str, method: str | None = None) -> list[Finding]:
    """Examine loaded splits at the start of a run, in seconds; rows are numbered as the source numbers them.

    Less than `doctor`: images count as the same when their files are, near duplicates are looked for in sets of
    moderate size only (else that finding is left out), and there are no other columns to leak. Broken images were left
    out in loading: they are counted from `splits.skipped`.
    """
    return examine(splits_records(splits, input_column), method, skipped=len(splits.skipped))


def examine(
    records: Records, method: str | None = None, skipped: int = 0, *, sure_only: bool = False
) -> list[Finding]:
    """Run the checks; `sure_only` leaves out those that look for likenesses and leaks, which never fail."""
    findings: list[Finding | None] = [missing_values(records)]
    if records.kind == "text":
        findings += [empty_or_truncated_texts(records)]
    else:
        broken = _skipped_images(records, skipped) if skipped else broken_images(records)
        findings += [broken, tiny_or_odd_images(records)]
    findings += [
        exact_duplicates(records),
        cross_split_duplicates(records),
        None if sure_only else near_duplicates(records),
        conflicting_labels(records),
        similar_class_names(records),
        missing_classes(records),
        imbalance(records),
        too_few_rows(records, method),
        sorted_rows(records),
        None if sure_only else leaky_feature(records),
    ]
    return [finding for finding in findings if finding is not None]


def _skipped_images(records: Records, skipped: int) -> Finding:
    level = warned(fails=skipped >= SERIOUS * (len(records) + skipped))
    mend = "Repair or remove these files; they are left out, and named in the report."
    return Finding("broken_images", level, skipped, {}, {}, mend)
