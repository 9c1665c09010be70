"""Which licence a model is published under: carried over from its base model and its data, or given.

What is done here is inheritance by the rules below, so that terms do not get lost on the way; it is no legal advice.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from hftl.data.samples import SAMPLES
from hftl.errors import ConfigError, did_you_mean
from hftl.models.packaged import PACKAGED
from hftl.surroundings import hub_reachable


# Licences that let a derived work carry another licence, as long as their notices are kept.
_FREE = """
    apache-2.0 mit afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 etalab-2.0 isc ms-pl
    odc-by openmdw-1.0 postgresql ncsa unlicense zlib pddl
"""
_PERMISSIVE = frozenset(_FREE.split())
_NO_ANSWER = frozenset({"cc", "unknown", "other"})  # a family, or nothing: says too little to be carried over
# The identifiers that the Hub takes: https://huggingface.co/docs/hub/repositories-licenses
_TERMS = """
    openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m cc-by-sa-3.0
    cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0
    gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 h-research intel-research lppl-1.3c apple-ascl apple-amlr mpl-2.0 odbl openrail++
    osl-3.0 ofl-1.1 lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 grok2-community gemma
"""
LICENSES = _PERMISSIVE | _NO_ANSWER | frozenset(_TERMS.split())


@dataclass(frozen=True)
class Source:
    """The licence of the base model or of the data, as far as it is known."""

    what: str  # "base model" or "data"
    name: str  # without folders of this machine
    id: str | None  # identifier of the Hub; None when not known
    stated: str = ""  # what its card says, also where that is no such identifier
    where: str = ""  # where it was read


class Known(NamedTuple):
    """The licences of what the model was made from."""

    base: Source
    data: Source


@dataclass(frozen=True)
class Licence:
    """The licence that the model is published under, and why."""

    id: str
    reason: str


def license_id(text: str) -> str | None:
    """Return the Hub's identifier for a licence in other case or spacing ("CC BY-SA 4.0 (Wikipedia)"), or None.

    A Creative Commons licence without its version counts as 4.0, the current one.
    """
    slug = re.sub(r"[\s_]+", "-", re.sub(r"\(.*?\)", "", text.lower()).strip())
    versions = (slug, f"{slug}-4.0") if slug.startswith("cc-by") else (slug,)
    return next((one for one in versions if one in LICENSES), None)


def check_license(given: str) -> str:
    """Return the identifier. Raises `ConfigError`, with the closest ones, when the Hub has no such identifier."""
    name = given.strip().lower()
    if name not in LICENSES:
        near = license_id(given)
        hint = f" Did you mean {near!r}?" if near else did_you_mean(name, LICENSES)
        raise ConfigError(
            f"--license takes an identifier of the Hub, such as apache-2.0, cc-by-4.0 or other, not {given!r}.{hint}"
        )
    return name


def known_license(report: dict[str, Any], *, online: bool = True) -> Known:
    """Return what is known of the licences of the base model and the data of a run.

    Asked are the packaged checkpoints and samples, the README of a local model folder, the Hub cache and, with
    `online`, the Hub. Data in local files have no licence that could be read.
    """
    return Known(_of_model(report["model"], online), _of_data(str(report["data"]["name"]), online))


def _of_model(model: dict[str, Any], online: bool) -> Source:
    name, folder = str(model["name"]), Path(str(model["name"])).expanduser()
    if model["source"] == "packaged" and name in PACKAGED:
        stated = PACKAGED[name].license
        return Source("base model", name, license_id(stated), stated, f"the package {PACKAGED[name].package}")
    if model["source"] == "folder":
        return _from_card("base model", folder.resolve().name, folder / "README.md", "its README.md")
    return _of_hub("base model", name, model.get("revision"), "model", online)


def _of_data(name: str, online: bool) -> Source:
    sample = SAMPLES.get(name.removeprefix("sample:")) if name.startswith("sample:") else None
    if sample is not None:
        return Source("data", name, license_id(sample.license), sample.license, f"the package {sample.package}")
    if "/" not in name:  # a file, a folder or a table in memory: the report keeps the last part of their path
        return Source("data", name, None, where="local data")
    parts = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::[^@]+)?(?:@(.+))?", name)
    return _of_hub("data", parts[1] if parts else name, parts[2] if parts else None, "dataset", online)


def _of_hub(what: str, name: str, revision: str | None, kind: str, online: bool) -> Source:
    """Read the card of a repository: out of the Hub cache, else from the Hub."""
    try:
        card = try_to_load_from_cache(name, "README.md", revision=revision, repo_type=kind)
        if not isinstance(card, str):
            if not online or not hub_reachable():
                return Source(what, name, None, where="the Hub was not asked")
            card = hf_hub_download(name, "README.md", revision=revision, repo_type=kind)
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # no such repository, no card, no access
        return Source(what, name, None, where=f"the Hub's answer: {' '.join(str(error).split())[:120]}")
    return _from_card(what, name, Path(card), "its card on the Hub")


def _from_card(what: str, name: str, readme: Path, where: str) -> Source:
    """Read the metadata at the top of a card; one that cannot be read says nothing."""
    try:
        block = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", readme.read_text(encoding="utf-8"), re.DOTALL)
        fields = yaml.safe_load(block[1]) if block else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        fields = None
    fields = fields if isinstance(fields, dict) else {}
    stated = fields.get("license")
    several = [str(one) for one in stated] if isinstance(stated, list) else [str(stated)] if stated else []
    if several == ["other"] and fields.get("license_name"):
        several = [str(fields["license_name"])]
    text = " and ".join(several)
    return Source(what, name, license_id(text) if len(several) == 1 else None, text, where)


def choose_license(base: Source, data: Source, given: str | None = None) -> Licence:
    """Return the licence of the model: the given one, else the one that carries over all terms of base and data.

    A permissive licence (attribution at most) yields to one with more terms: share-alike, non-commercial, or an
    agreement of its own. Two permissive ones leave the base's. Raises `ConfigError` for a `given` licence that the Hub
    has no identifier for, and when nothing can be carried over: a licence is not known, forbids derivatives, or the
    two demand different things.
    """
    if given is not None:
        return Licence(check_license(given), _given(base, data))
    if base.id is None or data.id is None or {base.id, data.id} & _NO_ANSWER:
        unknown = [source for source in (base, data) if source.id is None or source.id in _NO_ANSWER]
        raise ConfigError(f"The licence of {' and '.join(map(_unknown, unknown))} is not known: add --license ID.")
    for source in (base, data):
        if "-nd" in str(source.id):
            raise ConfigError(
                f"The {source.what} {source.name} is under {source.id}, which allows no derived works to be shared: "
                "add --license ID if you may publish the model."
            )
    both = f"base model under {base.id}, data under {data.id}"
    if data.id in _PERMISSIVE or data.id == base.id:
        return Licence(base.id, f"carried over from the base model ({both})")
    if base.id in _PERMISSIVE:
        return Licence(data.id, f"carried over from the data ({both})")
    for one, other in ((base.id, data.id), (data.id, base.id)):
        if (one, other) in _HOLDS:
            return Licence(one, f"the one that carries over the terms of both ({both})")
    raise ConfigError(
        f"The base model {base.name} is under {base.id} and the data {data.name} under {data.id}, which ask for "
        "different things: add --license ID."
    )


# Pairs of which the first holds all terms of the second: the same terms in a later version, or share-alike beside
# non-commercial. Share-alike asks for the very same terms.
_NC, _SA, _NC_SA = (
    [one for one in (f"cc-by-{terms}-{n}.0" for n in (2, 3, 4)) if one in LICENSES] for terms in ("nc", "sa", "nc-sa")
)
_HOLDS = {(later, earlier) for same in (_NC, _SA, _NC_SA) for later in same for earlier in same if later > earlier}
_HOLDS |= {(strict, loose) for strict in _NC_SA for loose in _NC}


def _unknown(source: Source) -> str:
    text = source.id or source.stated
    return f"the {source.what} {source.name}" + (f" (it says {text!r})" if text else "")


def _given(base: Source, data: Source) -> str:
    """Say what was given past: terms of base and data that hold beside any other licence."""
    strict = [s for s in (base, data) if s.id is not None and s.id not in _PERMISSIVE and s.id not in _NO_ANSWER]
    if not strict:
        return "chosen by the publisher"
    terms = " and ".join(f"the {s.what} {s.name} is under {s.id}" for s in strict)
    return f"chosen by the publisher; {terms}, whose terms hold for what is made from it"
