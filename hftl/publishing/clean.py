"""Files that may be published: copied without this machine's folders, and looked at once more before they leave.

Nothing that leaves holds a path of this machine, a token or a pickle, and nothing is hidden.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import transformers

from hftl.errors import RunError


_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
_PICKLES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
_PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05].{0,64}(c|\x8c|\x95|\}|\])", re.DOTALL)  # PROTO, and an opcode soon after
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
_HIDDEN_ALLOWED = ".eval_results"
_APART = rb"(?<![\w.-])"  # so that a part of a repository's address is not taken for a folder at the top of the disk
# What `save_pretrained` of models and processors writes, beside the vocabulary files of the tokenizer's own class.
_SAVED = """
    added_tokens.json chat_template.jinja config.json merges.txt modeling_pooled.py preprocessor_config.json
    processor_config.json special_tokens_map.json tokenizer.json tokenizer_config.json vocab.json vocab.txt
"""
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_PATH_FIELDS = ("_name_or_path", "name_or_path", "base_model_name_or_path")  # of JSON that libraries write


def model_files(folder: Path, *, weights: bool = True) -> list[Path]:
    """Return the files of a model folder that plain transformers loads, with its weights or without; no strays."""
    names = {*_SAVED.split()} | _vocabulary(folder / "tokenizer_config.json")
    files = {path for path in folder.iterdir() if path.name in names and path.is_file()}
    if weights:
        files |= {path for pattern in _WEIGHTS for path in folder.glob(pattern)}
    return sorted(files)


def _vocabulary(tokenizer_config: Path) -> frozenset[str]:
    """Return the names of the vocabulary files that the tokenizer's class reads, such as spiece.model."""
    if not tokenizer_config.is_file():
        return frozenset()
    name = str(json.loads(tokenizer_config.read_text(encoding="utf-8")).get("tokenizer_class"))
    files = getattr(getattr(transformers, name, None), "vocab_files_names", None)  # a class may be unknown
    return frozenset(Path(str(file)).name for file in files.values()) if isinstance(files, dict) else frozenset()


def copy_file(source: Path, target: Path) -> None:
    """Copy one file: weights as a hard link where that is possible, JSON without the folders that it was loaded from."""
    if source.suffix == ".safetensors":
        try:
            os.link(source.resolve(), target)  # gigabytes, not twice on the disk
        except OSError:
            shutil.copyfile(source, target)
    elif source.suffix == ".json" and source.name != "tokenizer.json":
        fields = json.loads(source.read_text(encoding="utf-8"))
        target.write_text(json.dumps(_without_folders(fields), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        shutil.copyfile(source, target)


def _without_folders(fields: Any) -> Any:
    """Return JSON in which the name of a model that lay in a folder is its last part."""
    if not isinstance(fields, dict):
        return fields
    public = dict(fields)
    for field in _PATH_FIELDS:
        name = public.get(field)
        if isinstance(name, str) and (name.count("/") > 1 or name.startswith(("/", ".", "~")) or Path(name).is_dir()):
            public[field] = Path(name).expanduser().resolve().name
    return public


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
    for part in _parts(path):
        if _TOKEN.search(part):
            raise RunError(f"{name} holds what looks like an access token (hf_...): take it out, and revoke it.")
        for place in places:
            if any(re.search(_APART + re.escape(spelt) + rb"(?![\w.-])", part) for spelt in _spelt(place)):
                raise RunError(f"{name} names a folder of this machine ({place}): it is not published.")
        for text in banned:
            if any(spelt in part for spelt in _spelt(text)):
                raise RunError(f"{name} names {text[:60]!r}, which is to stay private: it is not published.")


def _check_kind(path: Path, name: str) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    pickled = _PICKLE_HEAD.match(head) or (head[:2] == b"PK" and b"data.pkl" in head)
    if path.suffix.lower() in _PICKLES or pickled:
        raise RunError(f"{name} is a pickle or may hold one, which can run code when it is read: it is not published.")


def _parts(path: Path) -> Iterator[bytes]:
    """Yield what can hold words: of safetensors the header, of other files everything."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            yield file.read(min(size, 100 << 20))  # the format's own limit of a header
        return
    yield path.read_bytes()


def _spelt(text: str) -> list[bytes]:
    """Return the ways in which files spell a string: as it is, and with what JSON escapes."""
    escaped = text.encode("unicode_escape")
    return list({text.encode("utf-8", "surrogatepass"), escaped, escaped.replace(b"/", b"\\/")})
