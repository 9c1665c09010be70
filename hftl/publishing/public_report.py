"""report.json and config.yaml as they may be published: figures, labels, and words that hftl wrote; no row of the data.

Both are walks over lists of what may be public. What they do not know of stays in the run.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hftl.config import OWN_FLAGS
from hftl.report.visible import one_line


Spec = Any  # a function of one value, {field: Spec} with "*" for any other field, or [Spec] of the items

# What stays out of a sentence: paths, file names, web addresses, and quotations, which may come from a row.
_TELLING = re.compile(
    r"""[~\\]|/[^\s/]+/|(^|[\s'"(])\.{0,2}/\w|\w\.[A-Za-z][A-Za-z0-9]{1,7}\b(?!\.)|://|(^|[\s(:])['"`][^'"`]+['"`]"""
)
_FIRST_FILE = re.compile(r"; the first: .*$", re.DOTALL)  # of the images that could not be read
_LEFT_OUT = "Notes that name files or values of the data stay in the run's own report: {}."
_WIDTHS = re.compile(r"\(missing\)|[\d.e+-]+( to [\d.e+-]+)?( characters| pixels on the short side)")
_MODE = re.compile(r"\(missing\)|\(other\)|[A-Za-z0-9;_]{1,8}")  # of images, as Pillow calls them
_STANDARD_SLICES = {"text length": _WIDTHS, "image size": _WIDTHS, "image mode": _MODE}


def number(value: Any) -> Any:
    """Let numbers, booleans and None through; anything else becomes None."""
    return value if isinstance(value, bool | int | float) else None


def word(value: Any) -> Any:
    """Let a name through that hftl or a library gave, such as "lora" or "2.13.0+cpu"."""
    return one_line(value) if isinstance(value, str) and "/" not in value and "\\" not in value else None


def label(value: Any) -> Any:
    """Let a class name through: they stand in config.json as well."""
    return value if isinstance(value, str) else None


def sentence(value: Any) -> Any:
    """Let a sentence of hftl's through, unless it names a file or quotes something: then it is "" instead."""
    if not isinstance(value, str):
        return None
    text = _FIRST_FILE.sub("", value)
    return "" if _TELLING.search(text) else text


_SCORE = {"value": number, "low": number, "high": number}
_METRICS = {
    "accuracy": _SCORE, "macro_f1": _SCORE, "macro_precision": number, "macro_recall": number, "log_loss": number,
}  # fmt: skip
_RUNG = {"name": sentence, "kind": word, "accuracy": _SCORE, "macro_f1": _SCORE, "seconds": number, "note": sentence}
_SPREAD = {"values": [number], "mean": number, "std": number}
_CROSS_VALIDATION = {
    "rows": number, "baseline": sentence, "probe_accuracy": number, "baseline_accuracy": number, "gap": _SCORE,
}  # fmt: skip
_GAP = {"label": word, "gap": number, "low": number, "high": number, "p": number}
_BINS = [{"low": number, "high": number, "count": number, "confidence": number, "accuracy": number}]
_SURENESS = {
    "ece": number, "ece_low": number, "ece_high": number, "ece_if_calibrated": number, "log_loss": number,
    "brier": number,
}  # fmt: skip
_EVIDENCE: Spec = {
    "ladder": [_RUNG],
    "verdict": {  # not its advice, which is for who trained it
        **_GAP, "against": sentence, "macro_f1": _GAP, "kind": word, "rows_needed": number,
        "cross_validation": _CROSS_VALIDATION,
    },
    "forgetting": {
        "kept": number, "unchanged": number, "low": number, "high": number, "definition": sentence, "rows": number, "left_out": number,
        "note": sentence, "knn_agreement": number, "knn_chance": number, "retention_kind": word, "seconds": number, "seconds_after": number,
        "probe": {"before": number, "after": number, "low": number, "high": number},
        "cka": [{"block": word, "value": number}],
        "original_head": {"kind": word, "loss_before": number, "loss_after": number},
    },
    "calibration": {
        "temperature": number, "before": _SURENESS, "after": _SURENESS, "bins_before": _BINS, "bins_after": _BINS,
        "note": sentence,
    },
    "abstain": {
        "precision": number, "threshold": number, "test_precision": _SCORE, "coverage": number, "curve": [[number]],
        "note": sentence,
    },
    "slices": [{"by": word, "slice": word, "count": number, "weak": number, "accuracy": _SCORE}],
    "confusion": [[number]],
    "worst_rows": [{"*": number}],
    "suspects": [{"*": number}],
    "doctor": [
        {"check": word, "level": word, "count": number, "by_split": {"*": number}, "rows": {"*": [number]}}
    ],
    "seconds": number,
}  # fmt: skip
_REPORT: Spec = {
    "schema_version": number, "task": word, "method": word, "pooling": word, "seed": number,
    "model": {"source": word, "revision": word, "architecture": word, "parameters": number},
    "data": {
        "labels": [label], "rows": {"*": number},
        "origins": {"train": sentence, "validation": sentence, "test": sentence},
    },
    "metrics": {"test": _METRICS, "validation": _METRICS},
    "baselines": [_RUNG],
    "per_class": [{"label": label, "precision": number, "recall": number, "f1": number, "support": number}],
    "probe": {"C": number, "pooling": word, "cv_accuracy": {"*": {"*": number}}, "features": word},
    "stages": [
        {
            "name": word, "trainable_parameters": number, "learning_rates": {"*": number}, "seconds": number,
            "steps": number, "epochs": number, "history": [{"*": number}], "reads": word, "weights": word,
            "interpolation": {"metric": word, "alpha": number, "curve": [{"*": number}]},
        }
    ],
    "seeds": {
        "seeds": [number], "kept": number,
        "test": {"*": _SPREAD}, "validation": {"*": _SPREAD},
    },
    "timing": {"*": number},
    "environment": {"versions": {"*": word}, "device": sentence, "processes": number, "threads": number},
    "evidence": _EVIDENCE,
    "parity": {
        "*": {
            "rows": number, "origin": word, "max_difference": number, "labels_equal": number, "tolerance": number,
            "seconds": number, "note": sentence,
        }
    },
}  # fmt: skip


# What runs of other versions may lack.
_ABSENT: dict[str, Any] = {
    "pooling": "native", "seed": None, "baselines": [], "per_class": [], "stages": [], "timing": {}, "parity": {},
    "evidence": None, "environment": {"versions": {}, "device": None, "processes": None, "threads": None},
}  # fmt: skip


def public_report(report: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what of report.json may be published.

    Local data and models are called by the last part of their path. Left out are the names of skipped files (their
    number stays), the slices of `--slice_column`, the doctor's advice, and notes that name files or quote. `config` is
    the run's config.yaml, which says what that column is called.
    """
    shown = {**_ABSENT, **{k: v for k, v in _walk(_REPORT, report).items() if v is not None}}
    shown["model"]["name"] = public_name(report["model"])
    data = report["data"]
    shown["data"]["name"] = one_line(data_name(str(data["name"])))
    shown["data"] |= {"skipped": [], "skipped_count": len(data.get("skipped") or [])}
    said = [sentence(note) for note in report.get("warnings") or []]
    dropped = sum(not note for note in said)
    shown["warnings"] = [note for note in said if note] + ([_LEFT_OUT.format(dropped)] if dropped else [])
    evidence = shown.get("evidence")
    if evidence:
        for finding in evidence.get("doctor") or []:
            finding["mend"] = ""  # may quote classes, files and rows
        column = (config or {}).get("slice_column")
        evidence["slices"] = [s for s in evidence.get("slices") or [] if _is_standard(s, column)]
        for rung in evidence.get("ladder") or []:
            if rung["kind"] == "method":  # is called after the model, wherever that lies
                rung["name"] = f"{report['method']} ({shown['model']['name']})"
        if evidence.get("forgetting"):
            retention = (report["evidence"]["forgetting"] or {}).get("retention")
            evidence["forgetting"]["retention"] = one_line(data_name(str(retention))) if retention else None
    return shown


def _is_standard(found: dict[str, Any], column: Any) -> bool:
    pattern = _STANDARD_SLICES.get(str(found["by"]))
    return found["by"] != column and pattern is not None and pattern.fullmatch(str(found["slice"])) is not None


def _walk(spec: Spec, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(spec, dict):
        if not isinstance(value, dict):
            return None
        rest: Callable[[Any], Any] | None = spec.get("*")
        known = {k: v for k, v in value.items() if k in spec or (rest is not None and word(k) == k)}
        return {k: _walk(spec.get(k, rest), v) for k, v in known.items()}
    if isinstance(spec, list):
        return [_walk(spec[0], item) for item in value] if isinstance(value, list | tuple) else None
    return spec(value)


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
    kept: dict[str, Any] = {}
    for name, value in config.items():
        if name in _PLACES or name in _COLUMNS:
            continue
        if name in OWN_FLAGS or name == "task" or name in _TRAINING_WORDS or isinstance(value, bool | int | float):
            kept[name] = value
    shown = public_report(report, config)
    if "data" in kept:
        kept["data"] = _public_place(str(kept["data"]), str(report["data"]["name"]))
    if "model" in kept:
        kept["model"] = shown["model"]["name"]
    if "retain" in kept:
        found = ((report.get("evidence") or {}).get("forgetting") or {}).get("retention")
        kept["retain"] = _public_place(str(kept["retain"]), str(found))
    return kept


LOCAL = "local data"  # instead of a file's name
_PLACES = ("output_dir", "overwrite", "resume")
_COLUMNS = ("text_column", "image_column", "label_column", "slice_column")  # names out of the user's own table
_TRAINING_WORDS = (
    "eval_strategy", "half_precision_backend", "logging_strategy", "lr_scheduler_type", "metric_for_best_model",
    "optim", "save_strategy", "train_sampling_strategy",
)  # fmt: skip


def _public_place(typed: str, reported: str) -> str:
    """Return what was typed when it is no path: hftl reports the last part of a path, and any other name whole."""
    if typed.startswith(("sample:", "(in memory: ")) or (typed == reported and not Path(typed).expanduser().exists()):
        return typed
    return data_name(Path(typed).expanduser().resolve().name)


def hub_commit(model: dict[str, Any]) -> str | None:
    """Return the commit of the base model on the Hub; the hash of packaged weights is none."""
    revision = model.get("revision")
    return str(revision) if isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{7,40}", revision) else None
