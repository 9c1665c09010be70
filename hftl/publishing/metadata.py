"""What the Hub reads of a model: its licence, its data set, and its test results.

Licences are inherited by the rules below, so that terms do not get lost on the way; it is no legal advice. Results
stand in two forms: model-index in the card, and `.eval_results/*.yaml`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    eval_result_entries_to_yaml,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.repocard import metadata_load

from hftl.data.samples import SAMPLES
from hftl.errors import ConfigError
from hftl.evaluation.scale import score_name
from hftl.models.packaged import PACKAGED
from hftl.publishing.licences import NO_ANSWER, PERMISSIVE, check_license, license_id
from hftl.report.visible import one_line
from hftl.surroundings import hub_reachable


# score of the report -> (metric id on the Hub, arguments of its computation)
METRICS: dict[str, tuple[str | None, dict[str, Any] | None]] = {
    "accuracy": ("accuracy", None),
    "f1": ("f1", None),
    "micro_f1": ("f1", {"average": "micro"}),
    "macro_f1": ("f1", {"average": "macro"}),
    "strict_f1": ("f1", {"mode": "strict"}),
    "exact": ("exact_match", None),
    "map": (None, None),
    "miou": ("mean_iou", None),
    "pixel_accuracy": (None, None),
    "dice": (None, None),
    "precision": ("precision", None),
    "recall": ("recall", None),
    "micro_precision": ("precision", {"average": "micro"}),
    "micro_recall": ("recall", {"average": "micro"}),
    "macro_precision": ("precision", {"average": "macro"}),
    "macro_recall": ("recall", {"average": "macro"}),
    "r2": ("r_squared", None),
    "rmse": ("mse", {"squared": False}),
    "mae": ("mae", None),
    "pearson": ("pearsonr", None),
    "spearman": ("spearmanr", None),
    "log_loss": (None, None),
}


@dataclass(frozen=True)
class Source:
    """The licence of the base model or of the data, as far as it is known."""

    what: str  # "base model" or "data"
    name: str  # without folders of this machine
    id: str | None  # identifier of the Hub; None when not known
    stated: str = ""  # what its card says, also where that is no such identifier


class Known(NamedTuple):
    """The licences of what the model was made from."""

    base: Source
    data: Source


@dataclass(frozen=True)
class Licence:
    """The licence that the model is published under, and why."""

    id: str
    reason: str


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


def known_license(report: dict[str, Any], *, online: bool = True) -> Known:
    """Return what is known of the licences of the base model and the data of a run.

    Asked are the packaged checkpoints and samples, the README of a local model folder, the Hub cache and, with
    `online`, the Hub. Data in local files have no licence that could be read.
    """
    return Known(license_of_model(report["model"], online), _of_data(str(report["data"]["name"]), online))


def license_of_model(model: dict[str, Any], online: bool) -> Source:
    """Return what is known of a model's licence; `model` is that part of a report: name, source, revision."""
    name, folder = str(model["name"]), Path(str(model["name"])).expanduser()
    if model["source"] == "packaged" and name in PACKAGED:
        stated = PACKAGED[name].license
        return Source("base model", name, license_id(stated), stated)
    if model["source"] == "folder":
        return _from_card("base model", folder.resolve().name, folder / "README.md")
    return _from_card("base model", name, _hub_file(name, "README.md", model.get("revision"), "model", online))


def _of_data(name: str, online: bool) -> Source:
    sample = SAMPLES.get(name.removeprefix("sample:")) if name.startswith("sample:") else None
    if sample is not None:
        return Source("data", name, license_id(sample.license), sample.license)
    data = hub_data(name)
    if data is None:  # a file, a folder or a table in memory: the report keeps the last part of their path
        return Source("data", name, None)
    return _from_card("data", data.id, _hub_file(data.id, "README.md", data.revision, "dataset", online))


def _hub_file(name: str, file: str, revision: str | None, kind: str, online: bool) -> Path | None:
    """Return a file of a repository, out of the Hub cache, else from the Hub; None where it cannot be had."""
    try:
        path = try_to_load_from_cache(name, file, revision=revision, repo_type=kind)
        if not isinstance(path, str):
            if not online or not hub_reachable():
                return None
            path = hf_hub_download(name, file, revision=revision, repo_type=kind)
        return Path(path)
    except (OSError, ValueError):  # no such repository or file, no access
        return None


def _from_card(what: str, name: str, card: Path | None) -> Source:
    """Read the metadata at the top of a card; one that cannot be read says nothing."""
    try:
        fields = (metadata_load(card) if card is not None else None) or {}
    except (OSError, ValueError, yaml.YAMLError):
        fields = {}
    stated = fields.get("license")
    several = [str(one) for one in stated] if isinstance(stated, list) else [str(stated)] if stated else []
    if several == ["other"] and fields.get("license_name"):
        several = [str(fields["license_name"])]
    text = " and ".join(several)
    return Source(what, name, license_id(text) if len(several) == 1 else None, text)


def choose_license(base: Source, data: Source, given: str | None = None) -> Licence:
    """Return the licence of the model: the given one, else the one that carries over all terms of base and data.

    Those are equal, or one of the two is permissive (attribution at most) and yields to the other. Raises `ConfigError`
    for a `given` licence that the Hub has no identifier for, and when nothing can be carried over: a licence is not
    known, forbids derivatives, or the two demand different things.
    """
    if given is not None:
        return Licence(check_license(given), _given(base, data))
    unknown = [source for source in (base, data) if source.id is None or source.id in NO_ANSWER]
    if unknown:
        raise ConfigError(f"The licence of {' and '.join(map(_unknown, unknown))} is not known: add --license ID.")
    for source in (base, data):
        if "-nd" in str(source.id):
            raise ConfigError(
                f"The {source.what} {source.name} is under {source.id}, which allows no derived works to be shared: "
                "add --license ID if you may publish the model."
            )
    strict = {str(source.id): source for source in (data, base) if source.id not in PERMISSIVE}
    if len(strict) > 1:
        raise ConfigError(
            f"The base model {base.name} is under {base.id} and the data {data.name} under {data.id}, which ask for "
            "different things: add --license ID."
        )
    source = next(iter(strict.values()), base)
    reason = f"carried over from the {source.what} (base model under {base.id}, data under {data.id})"
    return Licence(str(source.id), reason)


def _unknown(source: Source) -> str:
    text = source.id or source.stated
    return f"the {source.what} {source.name}" + (f" (it says {text!r})" if text else "")


def _given(base: Source, data: Source) -> str:
    """Say what was given past: terms of base and data that hold beside any other licence."""
    strict = [s for s in (base, data) if s.id is not None and s.id not in PERMISSIVE and s.id not in NO_ANSWER]
    if not strict:
        return "chosen by the publisher"
    terms = " and ".join(f"the {s.what} {s.name} is under {s.id}" for s in strict)
    return f"chosen by the publisher; {terms}, whose terms hold for what is made from it"


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
            task_name=str(report["task"]).replace("-", " ").title(),
            dataset_type=dataset.id if dataset else "local",
            dataset_name=dataset.id if dataset else one_line(name),
            dataset_config=dataset.config if dataset else None,
            dataset_revision=dataset.revision if dataset else None,
            dataset_split=source_split(report) or "test",
            metric_type=metric,
            metric_name=score_name(key, heads=True),
            metric_args=args,
            metric_value=round(float(values[key]["value"] if isinstance(values[key], dict) else values[key]), 4),
        )
        for key, (metric, args) in METRICS.items()
        if metric is not None and key in values
    ]


def source_split(report: dict[str, Any]) -> str | None:
    """Return the split of the source whose rows, all of them, are the test rows; None when they are a part of one."""
    return (report["data"].get("source_splits") or {}).get("test")


def eval_entries(report: dict[str, Any], repo_id: str | None = None, *, online: bool = True) -> list[EvalResultEntry]:
    """Return the entry for `.eval_results/`, or none where the Hub's leaderboards cannot compare the figure.

    An entry is for a data set on the Hub whose whole split was scored: rows cut off by hftl, samples and local data
    are nobody else's test set. Its value is the accuracy in percent, as leaderboards show it; other scores have no
    form that they agree on. The task is the one that
    the data set's own eval.yaml has for this configuration and split, else the configuration.
    """
    dataset, split = hub_data(str(report["data"]["name"])), source_split(report)
    accuracy = report["metrics"]["test"].get("accuracy")
    if dataset is None or split is None or accuracy is None:
        return []
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
        path = _hub_file(data.id, "eval.yaml", data.revision, "dataset", online)
        fields = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
        tasks = [task for task in fields["tasks"] if isinstance(task, dict)]
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError):
        return None  # a data set without leaderboard, the usual case
    target = (data.config or "default", split)
    ids = (t.get("id") for t in tasks if (t.get("config", "default"), t.get("split", "test")) == target)
    return next((str(one) for one in ids), None)


def write_eval_results(folder: Path, entries: list[EvalResultEntry]) -> list[Path]:
    """Write one file per data set into `folder/.eval_results/`, and return what was written."""
    written = []
    for entry in entries:
        path = folder / ".eval_results" / f"{entry.dataset_id.rpartition('/')[2]}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False), encoding="utf-8")
        written.append(path)
    return written
