"""Test results in the two forms that the Hub reads: model-index in the card, and `.eval_results/*.yaml`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    eval_result_entries_to_yaml,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError

from hftl.report.visible import one_line
from hftl.surroundings import hub_reachable


_NAMES = {"text-classification": "Text Classification", "image-classification": "Image Classification"}
# metric of the report -> (metric id on the Hub, name, arguments of its computation)
_METRICS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "accuracy": ("accuracy", "Accuracy", None),
    "macro_f1": ("f1", "Macro F1", {"average": "macro"}),
    "macro_precision": ("precision", "Macro precision", {"average": "macro"}),
    "macro_recall": ("recall", "Macro recall", {"average": "macro"}),
}


@dataclass(frozen=True)
class HubData:
    """A data set on the Hub, as a run names it."""

    id: str
    config: str | None
    revision: str | None


def hub_data(name: str) -> HubData | None:
    """Return the data set of "ns/name[:config][@revision]"; None for samples and local data.

    Names without a namespace count as local: a report calls a local folder by its last part alone.
    """
    match = re.fullmatch(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<config>[^@]+))?(@(?P<revision>.+))?", name)
    if match is None or name.startswith("sample:"):
        return None
    return HubData(match["id"], match["config"], match["revision"])


def model_index(report: dict[str, Any]) -> list[EvalResult]:
    """Return the metrics of the test rows for the card's model-index; intervals stand in the card's text.

    Data that are not on the Hub have the type "local", and their name in the report.
    """
    name = str(report["data"]["name"])
    dataset = hub_data(name)
    values = report["metrics"]["test"]
    return [
        EvalResult(
            task_type=report["task"],
            task_name=_NAMES.get(report["task"], report["task"]),
            dataset_type=dataset.id if dataset else "local",
            dataset_name=dataset.id if dataset else one_line(name),
            dataset_config=dataset.config if dataset else None,
            dataset_revision=dataset.revision if dataset else None,
            dataset_split=source_split(report) or "test",
            metric_type=metric,
            metric_name=title,
            metric_args=args,
            metric_value=round(_value(values[key]), 4),
        )
        for key, (metric, title, args) in _METRICS.items()
        if key in values
    ]


def _value(score: Any) -> float:
    return float(score["value"] if isinstance(score, dict) else score)


def source_split(report: dict[str, Any]) -> str | None:
    """Return the split of the source whose rows, all of them, are the test rows; None when they are a part of one."""
    origin = str((report["data"].get("origins") or {}).get("test", ""))
    match = re.fullmatch(r"the source's (\S+) split", origin)
    return match[1] if match else None


def eval_entries(report: dict[str, Any], repo_id: str | None = None, *, online: bool = True) -> list[EvalResultEntry]:
    """Return the entry for `.eval_results/`, or none where the Hub's leaderboards cannot compare the figure.

    An entry is for a data set on the Hub whose whole split was scored: rows cut off by hftl, samples and local data
    are nobody else's test set. Its value is the accuracy in percent, as leaderboards show it. The task is the one that
    the data set's own eval.yaml has for this configuration and split, else the configuration.
    """
    dataset, split = hub_data(str(report["data"]["name"])), source_split(report)
    if dataset is None or split is None:
        return []
    accuracy = report["metrics"]["test"]["accuracy"]
    low, high = 100 * accuracy["low"], 100 * accuracy["high"]
    rows = report["data"]["rows"]["test"]
    return [
        EvalResultEntry(
            dataset_id=dataset.id,
            task_id=_task_id(dataset, split, online) or dataset.config or "default",
            value=round(100 * accuracy["value"], 2),
            dataset_revision=dataset.revision if re.fullmatch(r"[0-9a-f]{40}", dataset.revision or "") else None,
            source_url=f"https://huggingface.co/{repo_id}/blob/main/report.json" if repo_id else None,
            source_name="report.json" if repo_id else None,
            notes=f"accuracy in percent on all {rows} rows of {split}, 95% interval {low:.1f} to {high:.1f}",
        )
    ]


def _task_id(data: HubData, split: str, online: bool) -> str | None:
    """Look the task up in the data set's eval.yaml; None where there is none that can be read, or no such task."""
    try:
        cached = try_to_load_from_cache(data.id, "eval.yaml", revision=data.revision, repo_type="dataset")
        if not isinstance(cached, str):
            if not online or not hub_reachable():
                return None
            cached = hf_hub_download(data.id, "eval.yaml", revision=data.revision, repo_type="dataset")
        tasks = (yaml.safe_load(Path(cached).read_text(encoding="utf-8")) or {}).get("tasks") or []
    except (HfHubHTTPError, OSError, ValueError, yaml.YAMLError, AttributeError):
        return None  # a data set without leaderboard, the usual case
    target = (data.config or "default", split)
    for task in tasks:
        if isinstance(task, dict) and (task.get("config", "default"), task.get("split", "test")) == target:
            return str(task.get("id"))
    return None


def write_eval_results(folder: Path, entries: list[EvalResultEntry]) -> list[Path]:
    """Write one file per data set into `folder/.eval_results/`, and return what was written."""
    written = []
    for entry in entries:
        path = folder / ".eval_results" / f"{entry.dataset_id.rpartition('/')[2]}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False), encoding="utf-8")
        written.append(path)
    return written
