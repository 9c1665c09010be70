"""report.json and config.yaml as they may be published: figures, labels, and words that hftl wrote; no row of the data.

`hftl.report.schema` says which fields of the report those are. What it does not know of stays in the run.
"""

import re
from pathlib import Path
from typing import Any

from hftl.config import OWN_FLAGS
from hftl.report.limits import LOCAL
from hftl.report.schema import REPORT, public_part, sentence
from hftl.report.visible import one_line


_LEFT_OUT = "Notes that name files or values of the data stay in the run's own report: {}."
_WIDTHS = re.compile(r"\(missing\)|[\d.e+-]+( to [\d.e+-]+)?( characters| pixels on the short side)")
_MODE = re.compile(r"\(missing\)|\(other\)|[A-Za-z0-9;_]{1,8}")  # of images, as Pillow calls them
_STANDARD_SLICES = {"text length": _WIDTHS, "image size": _WIDTHS, "image mode": _MODE}


# What runs of other versions may lack.
_ABSENT: dict[str, Any] = {
    "pooling": "native",
    "seed": None,
    "baselines": [],
    "per_class": [],
    "stages": [],
    "timing": {},
    "parity": {},
    "evidence": None,
    "environment": {"versions": {}, "device": None, "processes": None, "threads": None},
}


def public_report(report: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what of report.json may be published.

    Local data and models are called by the last part of their path. Left out are the names of skipped files (their
    number stays), the slices of `--slice_column`, the doctor's advice, and notes that name files or quote. `config` is
    the run's config.yaml, which says what that column is called.
    """
    public = {**_ABSENT, **{k: v for k, v in public_part(REPORT, report).items() if v is not None}}
    public["model"]["name"] = public_name(report["model"])
    data = report["data"]
    public["data"]["name"] = one_line(data_name(str(data["name"])))
    public["data"] |= {"skipped": [], "skipped_count": len(data.get("skipped") or [])}
    notes = [sentence(note) for note in report.get("warnings") or []]
    dropped = sum(not note for note in notes)
    public["warnings"] = [note for note in notes if note] + ([_LEFT_OUT.format(dropped)] if dropped else [])
    evidence = public.get("evidence")
    if evidence:
        for finding in evidence.get("doctor") or []:
            finding["mend"] = ""  # may quote classes, files and rows
        column = (config or {}).get("slice_column")
        evidence["slices"] = [s for s in evidence.get("slices") or [] if _is_standard(s, column)]
        for rung in evidence.get("ladder") or []:
            if rung["kind"] == "method":  # is called after the model, wherever that lies
                rung["name"] = f"{report['method']} ({public['model']['name']})"
        if evidence.get("forgetting"):
            retention = (report["evidence"]["forgetting"] or {}).get("retention")
            evidence["forgetting"]["retention"] = one_line(data_name(str(retention))) if retention else None
    return public


def _is_standard(entry: dict[str, Any], column: Any) -> bool:
    pattern = _STANDARD_SLICES.get(str(entry["by"]))
    return entry["by"] != column and pattern is not None and pattern.fullmatch(str(entry["slice"])) is not None


def public_name(model: dict[str, Any]) -> str:
    """Return the name of the base model, of a folder the last part."""
    name = str(model["name"])
    return one_line(Path(name).expanduser().resolve().name if model.get("source") == "folder" else name)


def hub_base(model: dict[str, Any]) -> str | None:
    """Return the base model's id on the Hub; None for a folder, or a checkpoint that the Hub does not have."""
    name, source = str(model["name"]), model.get("source")
    on_hub = source in ("cache", "hub") or (source == "packaged" and "/" in name)
    return name if on_hub and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) else None


def data_name(name: str) -> str:
    """Return a sample's name or Hub id as it is, and the last part of anything that can be a path."""
    if name.startswith("sample:") or re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?", name):
        return name
    return LOCAL if Path(name).suffix else Path(name).name or name


def public_config(config: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return what of config.yaml may be published: it is read like any config, and no path is left in it.

    Kept are hftl's own flags but for places and the names of columns, and numbers and well-known words among the training flags.
    """
    values: dict[str, Any] = {}
    for name, value in config.items():
        if name in _PLACES or name in _COLUMNS:
            continue
        if name in OWN_FLAGS or name == "task" or name in _TRAINING_WORDS or isinstance(value, bool | int | float):
            values[name] = value
    public = public_report(report, config)
    if "data" in values:
        values["data"] = _public_place(str(values["data"]), str(report["data"]["name"]))
    if "model" in values:
        values["model"] = public["model"]["name"]
    if "retain" in values:
        retention = ((report.get("evidence") or {}).get("forgetting") or {}).get("retention")
        values["retain"] = _public_place(str(values["retain"]), str(retention))
    return values


_PLACES = ("output_dir", "overwrite", "resume")
_COLUMNS = ("text_column", "image_column", "label_column", "slice_column")  # names out of the user's own table
_TRAINING_WORDS = (
    "eval_strategy",
    "half_precision_backend",
    "logging_strategy",
    "lr_scheduler_type",
    "metric_for_best_model",
    "optim",
    "save_strategy",
    "train_sampling_strategy",
)


def _public_place(typed: str, reported: str) -> str:
    """Return what was typed when it is no path: hftl reports the last part of a path, and any other name whole."""
    if typed.startswith(("sample:", "(in memory: ")) or (typed == reported and not Path(typed).expanduser().exists()):
        return typed
    return data_name(Path(typed).expanduser().resolve().name)


def hub_commit(model: dict[str, Any]) -> str | None:
    """Return the commit of the base model on the Hub; the hash of packaged weights is none."""
    revision = model.get("revision")
    return str(revision) if isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{7,40}", revision) else None
