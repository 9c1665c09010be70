"""The last look at a folder before it is published: no path of this machine, no token, no pickle, nothing hidden."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from hftl.errors import RunError


_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
_PICKLES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
_PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05].{0,64}(c|\x8c|\x95|\}|\])", re.DOTALL)  # PROTO, and an opcode soon after
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
_HIDDEN_ALLOWED = ".eval_results"
_APART = rb"(?<![\w.-])"  # so that a part of a repository's address is not taken for a folder at the top of the disk


def machine_places(*more: Path | None) -> tuple[str, ...]:
    """Return the folders whose names must not be published: home, working and temporary folder, and `more`."""
    found = {p.expanduser() for p in (Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *more) if p is not None}
    found |= {path.resolve() for path in found} | {path.absolute() for path in found}
    return tuple(sorted(str(path) for path in found if path.is_absolute() and path != Path(path.anchor)))


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
