"""Which licence a model is published under: carried over from its base model and its data, or given.

What is done here is inheritance by the rules below, so that terms do not get lost on the way; it is no legal advice.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from hftl.data.samples import SAMPLES
from hftl.errors import ConfigError, did_you_mean
from hftl.models.packaged import PACKAGED
from hftl.surroundings import hub_reachable


# The identifiers that the Hub takes: https://huggingface.co/docs/hub/repositories-licenses
LICENSES = frozenset({
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "h-research",
    "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl", "openmdw-1.0",
    "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr",
    "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2",
    "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
})  # fmt: skip
# Licences that let a derived work carry another licence, as long as their notices are kept.
_PERMISSIVE = frozenset({
    "apache-2.0", "mit", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "etalab-2.0", "isc", "ms-pl", "odc-by",
    "openmdw-1.0", "postgresql", "ncsa", "unlicense", "zlib", "pddl",
})  # fmt: skip
_NO_ANSWER = frozenset({"cc", "unknown", "other"})  # a family, or nothing: says too little to be carried over


@dataclass(frozen=True)
class Source:
    """The licence of the base model or of the data, as far as it is known."""

    what: str  # "base model" or "data"
    name: str  # without folders of this machine
    id: str | None  # identifier of the Hub; None when not known
    stated: str = ""  # what was found, when it is no such identifier
    where: str = ""  # where it was found


@dataclass(frozen=True)
class Known:
    """The licences of what the model was made from."""

    base: Source
    data: Source


@dataclass(frozen=True)
class Licence:
    """The licence that the model is published under, and why."""

    id: str
    reason: str


def license_id(text: str) -> str | None:
    """Return the Hub's identifier for a licence as people write it ("CC BY-SA 4.0 (Wikipedia)"), or None.

    A Creative Commons licence without its version counts as 4.0, the current one; a version that the Hub has no
    identifier for gives None.
    """
    if text.strip().lower() in LICENSES:
        return text.strip().lower()
    plain = re.sub(r"\(.*?\)|\[.*?\]|https?://\S+", " ", text.lower())
    plain = re.sub(r"\b(the|licen[cs]es?|licensed|under|version|universal|international)\b|[,;\"']", " ", plain)
    slug = re.sub(r"-v(?=\d)", "-", re.sub(r"[\s_/-]+", "-", plain).strip("-."))
    slug = _LONG_NAMES.get(slug, slug)
    for name, short in _CREATIVE:
        slug = slug.replace(name, short)
    creative = re.fullmatch(r"cc-(by(?:-nc)?(?:-sa|-nd)?)(?:-(\d(?:\.\d)?))?", slug)
    if creative:
        number = creative[2] or "4.0"
        slug = f"cc-{creative[1]}-{number if '.' in number else number + '.0'}"
    return slug if slug in LICENSES else None


_LONG_NAMES = {
    "apache": "apache-2.0", "apache2": "apache-2.0", "apache-2": "apache-2.0", "apache-software-2.0": "apache-2.0",
    "cc0": "cc0-1.0", "cc0-1": "cc0-1.0", "public-domain": "cc0-1.0", "creative-commons-zero": "cc0-1.0",
    "bsd-3": "bsd-3-clause", "bsd3": "bsd-3-clause", "3-clause-bsd": "bsd-3-clause", "new-bsd": "bsd-3-clause",
    "bsd-2": "bsd-2-clause", "2-clause-bsd": "bsd-2-clause", "gplv3": "gpl-3.0", "gplv2": "gpl-2.0",
    "gpl-3": "gpl-3.0", "gpl-2": "gpl-2.0", "agplv3": "agpl-3.0", "odc-odbl": "odbl", "mit-mit": "mit",
}  # fmt: skip
_CREATIVE = (
    ("creative-commons", "cc"), ("attribution", "by"), ("non-commercial", "nc"), ("noncommercial", "nc"),
    ("share-alike", "sa"), ("sharealike", "sa"), ("no-derivatives", "nd"), ("noderivatives", "nd"),
)  # fmt: skip


def check_license(given: str) -> str:
    """Return the identifier. Raises `ConfigError`, with the closest ones, when the Hub has no such identifier."""
    found = given.strip().lower()
    if found not in LICENSES:
        near = license_id(given)
        hint = f" Did you mean {near!r}?" if near else did_you_mean(found, LICENSES)
        raise ConfigError(
            f"--license takes an identifier of the Hub, such as apache-2.0, cc-by-4.0 or other, not {given!r}.{hint}"
        )
    return found


def known_license(report: dict[str, Any], *, online: bool = True) -> Known:
    """Return what is known of the licences of the base model and the data of a run.

    Asked are the packaged checkpoints and samples, the README of a local model folder, the Hub cache and, with
    `online`, the Hub. Data in local files have no licence that could be read.
    """
    return Known(_of_model(report["model"], online), _of_data(str(report["data"]["name"]), online))


def _of_model(model: dict[str, Any], online: bool) -> Source:
    name = str(model["name"])
    if model["source"] == "packaged" and name in PACKAGED:
        stated = PACKAGED[name].license
        return Source("base model", name, license_id(stated), stated, f"the package {PACKAGED[name].package}")
    if model["source"] == "folder":
        shown = Path(name).expanduser().resolve().name
        return _from_card("base model", shown, _front_matter(Path(name).expanduser() / "README.md"), "its README.md")
    return _of_hub("base model", name, model.get("revision"), "model", online)


def _of_data(name: str, online: bool) -> Source:
    sample = SAMPLES.get(name.removeprefix("sample:")) if name.startswith("sample:") else None
    if sample is not None:
        return Source("data", name, license_id(sample.license), sample.license, f"the package {sample.package}")
    if "/" not in name:  # a file, a folder or a table in memory: the report keeps the last part of their path
        return Source("data", name, None, where="local data")
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::[^@]+)?(?:@(.+))?", name)
    return _of_hub("data", found[1] if found else name, found[2] if found else None, "dataset", online)


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
    return _from_card(what, name, _front_matter(Path(card)), "its card on the Hub")


def _front_matter(readme: Path) -> dict[str, Any]:
    """Return the metadata at the top of a card; an empty dict where there is none that can be read."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", text, re.DOTALL)
    try:
        fields = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _from_card(what: str, name: str, fields: dict[str, Any], where: str) -> Source:
    stated = fields.get("license")
    several = [str(one) for one in stated] if isinstance(stated, list) else [str(stated)] if stated else []
    if len(several) != 1:
        return Source(what, name, None, " and ".join(several), where)
    if several[0] == "other" and fields.get("license_name"):
        several = [str(fields["license_name"])]
    return Source(what, name, license_id(several[0]), several[0], where)


def choose_license(base: Source, data: Source, given: str | None = None) -> Licence:
    """Return the licence of the model: the given one, else the one that carries over all terms of base and data.

    A permissive licence (attribution at most) yields to one with more terms: share-alike, non-commercial, or an
    agreement of its own. Two permissive ones leave the base's. Raises `ConfigError` for a `given` licence that the Hub
    has no identifier for, and when nothing can be carried over: a licence is not known, forbids derivatives, or the
    two demand different things.
    """
    if given is not None:
        return Licence(check_license(given), _given(base, data))
    unknown = [source for source in (base, data) if source.id is None or source.id in _NO_ANSWER]
    if unknown:
        raise ConfigError(f"The licence of {' and '.join(map(_unknown, unknown))} is not known: add --license ID.")
    assert base.id is not None
    assert data.id is not None
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
    joint = _joint(base.id, data.id)
    if joint is None:
        raise ConfigError(
            f"The base model {base.name} is under {base.id} and the data {data.name} under {data.id}, which ask for "
            "different things: add --license ID."
        )
    return Licence(joint, f"the one that carries over the terms of both ({both})")


def _joint(base: str, data: str) -> str | None:
    """Return which of two Creative Commons licences holds all terms of the other; None where neither does.

    Share-alike asks for the very same terms, in this version or a later one.
    """
    found = [re.fullmatch(r"cc-by((?:-nc)?)((?:-sa)?)-([\d.]+)", one) for one in (base, data)]
    if not all(found):
        return None
    terms = [(m[1], m[2]) for m in found if m]
    versions = [float(m[3]) for m in found if m]
    if terms[0] == terms[1]:
        return base if versions[0] >= versions[1] else data
    for mine, other, answer in ((0, 1, base), (1, 0, data)):
        if terms[mine] == ("-nc", "-sa") and terms[other] == ("-nc", ""):
            return answer
    return None


def _unknown(source: Source) -> str:
    said = f" (it says {source.stated!r})" if source.stated and source.id is None else ""
    if source.id in _NO_ANSWER:
        said = f" (it says {source.id!r})"
    return f"the {source.what} {source.name}{said}"


def _given(base: Source, data: Source) -> str:
    """Say what was given past: terms of base and data that hold beside any other licence."""
    strict = [s for s in (base, data) if s.id is not None and s.id not in _PERMISSIVE and s.id not in _NO_ANSWER]
    if not strict:
        return "chosen by the publisher"
    terms = " and ".join(f"the {s.what} {s.name} is under {s.id}" for s in strict)
    return f"chosen by the publisher; {terms}, whose terms hold for what is made from it"
