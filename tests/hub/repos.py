"""The repositories of the tests' Hub: those in folders of this machine, and those that a client made and pushed to."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.hub.wire import HubError, Request


KINDS = ("models", "datasets", "spaces")
MAIN = "refs/heads/main"
_SUFFIXES = (
    ".7z .arrow .bin .bz2 .ckpt .ftz .gz .h5 .jpg .joblib .mlmodel .model .msgpack .npy .npz .onnx .ot .parquet .pb "
    ".pickle .pkl .png .pt .pth .rar .safetensors .tar .tflite .tgz .wasm .xz .zip .zst"
)
LFS_SUFFIXES = frozenset(_SUFFIXES.split())


@lru_cache(maxsize=4096)
def _digests(content: bytes) -> tuple[str, str]:
    """The git blob sha1 and the sha256."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """The files at one moment; `lfs` names those in large file storage."""

    sha: str
    files: dict[str, bytes]
    lfs: frozenset[str]
    parent: str | None = None
    title: str = "initial commit"
    date: str = "2024-01-01T00:00:00.000Z"

    def entry(self, name: str) -> dict[str, Any]:
        """A file as the Hub lists it."""
        blob, sha256 = _digests(self.files[name])
        size = len(self.files[name])
        entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": blob}
        return entry | ({"lfs": {"oid": sha256, "size": size, "pointerSize": 134}} if name in self.lfs else {})

    def folders(self) -> list[dict[str, Any]]:
        names = {str(parent) for name in self.files for parent in Path(name).parents} - {"."}
        return [
            {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
            for name in sorted(names)
        ]


@dataclass
class Repository:
    """One repository with its history. `refs` are whole: refs/heads/main, refs/tags/v1, refs/pr/1."""

    kind: str
    hub_id: str
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    sdk: str | None = None
    objects: dict[str, bytes] = field(default_factory=dict)  # large files, verified, by their sha256
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    pulls: int = 0

    @property
    def namespace(self) -> str:
        return self.hub_id.split("/")[0]

    def ref(self, revision: str) -> str | None:
        """The whole name of a branch, tag or pull request."""
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        return next((name for name in names if name in self.refs), None)

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a pull request or (seven or more digits of) a commit names."""
        name = self.ref(revision)
        if name is not None:
            return self.commits[self.refs[name]]
        for sha, commit in self.commits.items():
            if re.fullmatch(r"[0-9a-f]{7,40}", revision) and sha.startswith(revision):
                return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, revision: str) -> list[Commit]:
        """The commits behind a revision, the newest first."""
        listed = [self.at(revision)]
        while listed[-1].parent is not None:
            listed.append(self.commits[listed[-1].parent])
        return listed

    def commit(
        self, ref: str, parent: Commit | None, files: Mapping[str, bytes], lfs: frozenset[str], title: str
    ) -> Commit:
        """Add a commit and move the ref to it; whoever calls has checked everything."""
        base = parent.sha if parent else None
        facts = [self.kind, self.hub_id, ref, base, _listing(files), title, len(self.commits)]
        sha = hashlib.sha1(json.dumps(facts).encode()).hexdigest()
        made = Commit(sha, dict(sorted(files.items())), lfs, base, title, now())
        self.commits[sha], self.refs[ref] = made, sha
        return made


def _listing(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [(name, _digests(content)[0]) for name, content in sorted(files.items())]


class Repositories:
    """All repositories and who may do what with them. Whoever changes them holds `lock`.

    One user has a token that writes and one that only reads; `organizations` are those that the user is in, each with
    the user's role: read, contributor, write or admin.
    """

    def __init__(self, root: Path, token: str, user: str, organizations: Mapping[str, str]) -> None:
        self.root = Path(root)
        self.token, self.read_token, self.user, self.organizations = token, f"{token}_read", user, organizations
        self.made: dict[tuple[str, str], Repository] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.uploads: dict[str, bytes] = {}  # large files on their way in
        self.lock = threading.RLock()

    def find(self, kind: str, hub_id: str) -> Repository | None:
        if (kind, hub_id) in self.made:
            return self.made[kind, hub_id]
        return None if (kind, hub_id) in self.deleted else self._from_folder(kind, hub_id)

    def _from_folder(self, kind: str, hub_id: str) -> Repository | None:
        """A repository of what lies in the folder now."""
        folder = self.root / kind / hub_id
        paths = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
        if kind not in KINDS or not paths or not ("/" in hub_id or any(path.parent == folder for path in paths)):
            return None  # or a namespace
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}
        sha = hashlib.sha1(json.dumps(_listing(files)).encode()).hexdigest()
        lfs = frozenset(name for name in files if Path(name).suffix in LFS_SUFFIXES)
        sdk = "static" if kind == "spaces" else None
        return Repository(kind, hub_id, {sha: Commit(sha, files, lfs)}, {MAIN: sha}, sdk=sdk)

    def role(self, request: Request) -> str | None:
        """`write`, `read` or None (no token); 401 for a token that is not known."""
        roles = {None: None, self.token: "write", self.read_token: "read"}
        if request.token not in roles:
            raise HubError(401, "Invalid credentials in Authorization header")
        return roles[request.token]

    def writes_to(self, namespace: str) -> bool:
        return namespace == self.user or self.organizations.get(namespace) in ("write", "admin")

    def readable(self, request: Request, kind: str, hub_id: str) -> Repository:
        """The repository, where this request may know of it; a stranger is not told whether it is private or absent."""
        role, found = self.role(request), self.find(kind, hub_id)
        if found is not None:
            member = found.namespace == self.user or found.namespace in self.organizations
            if not found.private or (role and member):
                return found
        status, message = (404, "Repository not found") if role else (401, "Invalid username or password.")
        raise HubError(status, message, "RepoNotFound")

    def writable(self, request: Request, kind: str, hub_id: str, pull_request: bool = False) -> Repository:
        """The repository, made ready for a change, where this request may change it (or propose a change)."""
        found = self.readable(request, kind, hub_id)
        if request.token is None:
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if self.role(request) != "write":
            raise HubError(403, "This token can only read: a token with the role write is needed")
        if not pull_request and not self.writes_to(found.namespace):
            raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return self.claim(found)

    def claim(self, found: Repository) -> Repository:
        """Take over a repository that so far only mirrors a folder; the folder stays as it is."""
        with self.lock:
            return self.made.setdefault((found.kind, found.hub_id), found)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
