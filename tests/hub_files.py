"""The files of a repository as the Hub lists them: sizes, digests, folders, and the commit they make."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any


LFS_SUFFIXES = frozenset({".safetensors", ".bin", ".parquet", ".onnx", ".png", ".jpg", ".model"})


@lru_cache(maxsize=4096)
def _digests(path: Path, size: int, modified: int) -> tuple[str, str]:
    """The git blob sha1 and the sha256 of a file; size and time are there to notice a change."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


class Snapshot:
    """The files of one repository at one revision."""

    def __init__(self, folder: Path) -> None:
        self.files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and ".cache" not in path.relative_to(folder).parts
        }

    def entry(self, name: str) -> dict[str, Any]:
        path = self.files[name]
        facts = path.stat()
        blob, sha256 = _digests(path, facts.st_size, facts.st_mtime_ns)
        entry: dict[str, Any] = {"type": "file", "path": name, "size": facts.st_size, "oid": blob}
        if path.suffix in LFS_SUFFIXES:
            entry["lfs"] = {"oid": sha256, "size": facts.st_size, "pointerSize": 134}
        return entry

    @property
    def commit(self) -> str:
        """Forty hex digits that change when any file does."""
        listing = [(name, self.entry(name)["oid"]) for name in self.files]
        return hashlib.sha1(json.dumps(listing).encode()).hexdigest()

    def folders(self) -> set[str]:
        return {str(parent) for name in self.files for parent in _parents(name)}

    def listing(self, sub: str, recursive: bool) -> list[dict[str, Any]]:
        """What the tree endpoint shows: folders first, and with `recursive` all that lies below `sub`."""
        start = f"{sub}/" if sub else ""

        def shown(name: str) -> bool:
            return name.startswith(start) and (recursive or "/" not in name[len(start) :])

        folders = [folder_entry(name) for name in sorted(self.folders()) if shown(name)]
        return folders + [self.entry(name) for name in self.files if shown(name)]


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def folder_entry(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
