"""The files of a repository as the Hub lists them: sizes, digests, folders, and the commit they make."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any


_SUFFIXES = (
    ".7z .arrow .bin .bz2 .ckpt .ftz .gz .h5 .jpg .joblib .mlmodel .model .msgpack .npy .npz .onnx .ot .parquet .pb "
    ".pickle .pkl .png .pt .pth .rar .safetensors .tar .tflite .tgz .wasm .xz .zip .zst"
)
LFS_SUFFIXES = frozenset(_SUFFIXES.split())


@lru_cache(maxsize=4096)
def _digests(path: Path, size: int, modified: int) -> tuple[str, str]:
    """The git blob sha1 and the sha256 of a file; size and time are there to notice a change."""
    blob, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            blob.update(part)
            sha256.update(part)
    return blob.hexdigest(), sha256.hexdigest()


def digests(path: Path) -> tuple[str, str]:
    """The git blob sha1 and the sha256 of a file."""
    facts = path.stat()
    return _digests(path, facts.st_size, facts.st_mtime_ns)


class Snapshot:
    """The files of one repository at one revision; `lfs` names those in large file storage, by suffix unless given."""

    def __init__(
        self, files: Mapping[str, Path], lfs: frozenset[str] | None = None, commit: str | None = None
    ) -> None:
        self.files = dict(sorted(files.items()))
        self.lfs = frozenset(name for name in files if Path(name).suffix in LFS_SUFFIXES) if lfs is None else lfs
        self._commit = commit

    def entry(self, name: str) -> dict[str, Any]:
        path = self.files[name]
        blob, sha256 = digests(path)
        size = path.stat().st_size
        entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": blob}
        if name in self.lfs:
            entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 134}
        return entry

    @property
    def commit(self) -> str:
        """Forty hex digits; of a folder they change when any file does."""
        if self._commit is not None:
            return self._commit
        listing = [(name, self.entry(name)["oid"]) for name in self.files]
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()

    def folders(self) -> set[str]:
        return {str(parent) for name in self.files for parent in parents(name)}

    def listing(self, sub: str, recursive: bool) -> list[dict[str, Any]]:
        """What the tree endpoint shows: folders first, and with `recursive` all that lies below `sub`."""
        start = f"{sub}/" if sub else ""

        def shown(name: str) -> bool:
            return name.startswith(start) and (recursive or "/" not in name[len(start) :])

        folders = [folder_entry(name) for name in sorted(self.folders()) if shown(name)]
        return folders + [self.entry(name) for name in self.files if shown(name)]


def folder_snapshot(folder: Path) -> Snapshot:
    """What lies in a folder of this machine now."""
    return Snapshot(
        {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and ".cache" not in path.relative_to(folder).parts
        }
    )


def parents(name: str) -> list[str]:
    """The folders that a file lies in, the outermost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def folder_entry(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
