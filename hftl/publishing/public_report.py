"""What may be published: figures, labels, and words that hftl wrote; no row of the data.

`hftl.report.schema` says which fields of report.json those are; what it does not know of stays in the run. Before
anything leaves, each file is looked at: none holds a path of this machine, a token or a pickle, and none is hidden.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset

from hftl.config import OWN_FLAGS
from hftl.errors import RunError
from hftl.report.limits import LOCAL
from hftl.report.schema import REPORT, public_part, sentence
from hftl.report.visible import one_line
from hftl.tasks import task_of


_LEFT_OUT = "Notes that name files or values of the data stay in the run's own report: {}."
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
_PICKLES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
_PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05].{0,64}(c|\x8c|\x95|\}|\])", re.DOTALL)  # PROTO, and an opcode soon after
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
_HIDDEN_ALLOWED = ".eval_results"
_APART = rb"(?<![\w.-])"  # so that a part of a repository's address is not taken for a folder at the top of the disk
_PLACES = ("output_dir", "overwrite", "resume", "name", "author")
# names out of the user's own table
_COLUMNS = "text_column image_column label_column slice_column group_column"
_TRAINING_WORDS = """
    eval_strategy half_precision_backend logging_strategy lr_scheduler_type metric_for_best_model optim save_strategy
    train_sampling_strategy
"""

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
            finding.pop("mend", None)  # what older reports call "fix"
            finding["fix"] = ""  # may quote classes, files and rows
        inputs = task_of(report).inputs
        natural = {name for name, *_ in inputs.groups(Dataset.from_dict({column: [] for column in inputs.columns}))}
        natural -= {(config or {}).get("slice_column")}  # a column of the user's is private, whatever it is called
        evidence["slices"] = [s for s in evidence.get("slices") or [] if s["by"] in natural and s["slice"]]
        for rung in evidence.get("ladder") or []:
            if rung["kind"] == "method":  # is called after the model, wherever that lies
                rung["name"] = f"{report['method']} ({public['model']['name']})"
        if evidence.get("forgetting"):
            retention = (report["evidence"]["forgetting"] or {}).get("retention")
            evidence["forgetting"]["retention"] = one_line(data_name(str(retention))) if retention else None
    return public


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

    Kept are hftl's own flags but for places and the names of columns, and numbers and well-known words of the others.
    """
    words = {"task", *OWN_FLAGS, *_TRAINING_WORDS.split()} - {*_PLACES, *_COLUMNS.split()}
    values = {
        k: v for k, v in config.items() if k in words or (isinstance(v, bool | int | float) and k not in _PLACES)
    }
    if "data" in values:
        values["data"] = _public_place(str(values["data"]), str(report["data"]["name"]))
    if "model" in values:
        values["model"] = public_name(report["model"])
    if "retain" in values:
        retention = ((report.get("evidence") or {}).get("forgetting") or {}).get("retention")
        values["retain"] = _public_place(str(values["retain"]), str(retention))
    return values


def _public_place(typed: str, reported: str) -> str:
    """Return what was typed when it is no path: hftl reports the last part of a path, and any other name whole."""
    if typed.startswith(("sample:", "(in memory: ")) or (typed == reported and not Path(typed).expanduser().exists()):
        return typed
    return data_name(Path(typed).expanduser().resolve().name)


def hub_commit(model: dict[str, Any]) -> str | None:
    """Return the commit of the base model on the Hub; the hash of packaged weights is none."""
    revision = model.get("revision")
    return str(revision) if isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{7,40}", revision) else None


def machine_places(*more: Path | None) -> tuple[str, ...]:
    """Return the folders whose names must not be published: home, working and temporary folder, and `more`."""
    places = {p.expanduser() for p in (Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *more) if p is not None}
    places |= {path.resolve() for path in places} | {path.absolute() for path in places}
    return tuple(sorted(str(path) for path in places if path.is_absolute() and path != Path(path.anchor)))


def check_clean(folder: Path, forbidden: Iterable[str] = (), places: Iterable[str] | None = None) -> None:
    """Raise `RunError`, naming the file, when anything under `folder` must not be published.

    That is a hidden file, a link, a pickle, an access token, a path below one of `places` (by default those of
    `machine_places`), or any of the `forbidden` strings. Of weights the header is read, not the numbers; in
    vocabularies, which come with the base model, single words such as "/tmp/" are words.
    """
    known = machine_places() if places is None else tuple(places)
    banned = [text for text in forbidden if text]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") and part != _HIDDEN_ALLOWED for part in Path(name).parts):
            raise RunError(f"{name} is hidden, and hidden files are not published: remove it.")
        if path.is_symlink():
            raise RunError(f"{name} is a link, and links are not published: put the file itself there.")
        if path.is_file():
            _check_kind(path, name)
            vocabulary = path.name in _VOCABULARIES
            _check_words(path, name, [p for p in known if not vocabulary or len(Path(p).parts) > 2], banned)


def _check_words(path: Path, name: str, places: list[str], banned: list[str]) -> None:
    content = _header(path) if path.suffix == ".safetensors" else path.read_bytes()
    if _TOKEN.search(content):
        raise RunError(f"{name} holds what looks like an access token (hf_...): take it out, and revoke it.")
    for place in places:
        if any(re.search(_APART + re.escape(spelt) + rb"(?![\w.-])", content) for spelt in _spelt(place)):
            raise RunError(f"{name} names a folder of this machine ({place}): it is not published.")
    for text in banned:
        if any(spelt in content for spelt in _spelt(text)):
            raise RunError(f"{name} names {text[:60]!r}, which is to stay private: it is not published.")


def _check_kind(path: Path, name: str) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    pickled = _PICKLE_HEAD.match(head) or (head[:2] == b"PK" and b"data.pkl" in head)
    if path.suffix.lower() in _PICKLES or pickled:
        raise RunError(f"{name} is a pickle or may hold one, which can run code when it is read: it is not published.")


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(min(size, 100 << 20))  # the format's own limit of a header


def _spelt(text: str) -> list[bytes]:
    """Return the ways in which files spell a string: as it is, and with what JSON escapes."""
    escaped = text.encode("unicode_escape")
    return list({text.encode("utf-8", "surrogatepass"), escaped, escaped.replace(b"/", b"\\/")})
