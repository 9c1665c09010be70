"""The repositories of the tests' Hub: those in folders of this machine, and those that a client made and pushed to."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.hub.files import Snapshot, folder_snapshot
from tests.hub.replies import HubError, Request, repository_not_found


KINDS = ("models", "datasets", "spaces")
MAIN = "refs/heads/main"

_FOLDER_DATE = "2024-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Commit:
    snapshot: Snapshot
    parent: str | None = None
    title: str = "initial commit"
    message: str = ""
    author: str = ""
    date: str = _FOLDER_DATE

    @property
    def sha(self) -> str:
        return self.snapshot.commit


@dataclass
class Repository:
    """One repository with its history. `refs` are whole: refs/heads/main, refs/tags/v1, refs/pr/1."""

    kind: str
    hub_id: str
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    sdk: str | None = None
    objects: dict[str, Path] = field(default_factory=dict)  # large files, verified: sha256 -> content
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)  # without the values
    pulls: int = 0

    @property
    def namespace(self) -> str:
        return self.hub_id.split("/")[0]

    def ref(self, revision: str) -> str | None:
        """The whole name of a branch, tag or pull request."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return name
        return None

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a pull request or (seven or more digits of) a commit names."""
        name = self.ref(revision)
        if name is not None:
            return self.commits[self.refs[name]]
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            for sha, commit in self.commits.items():
                if sha.startswith(revision):
                    return commit
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, revision: str) -> list[Commit]:
        """The commits behind a revision, the newest first."""
        commit, listed = self.at(revision), []
        while True:
            listed.append(commit)
            if commit.parent is None:
                return listed
            commit = self.commits[commit.parent]

    def add(self, ref: str, commit: Commit) -> None:
        self.commits[commit.sha] = commit
        self.refs[ref] = commit.sha


@dataclass(frozen=True)
class Accounts:
    """Who may do what: one user with a token that writes and one that only reads, and organisations with roles."""

    token: str
    read_token: str
    user: str
    organizations: Mapping[str, str]  # name -> role there: read, contributor, write or admin

    def role(self, request: Request) -> str | None:
        """`write`, `read` or None (no token); 401 for a token that is not known."""
        if request.token is None:
            return None
        if request.token == self.token:
            return "write"
        if request.token == self.read_token:
            return "read"
        raise HubError(401, "Invalid credentials in Authorization header")

    def belongs(self, namespace: str) -> bool:
        return namespace == self.user or namespace in self.organizations

    def writes_to(self, namespace: str) -> bool:
        return namespace == self.user or self.organizations.get(namespace) in ("write", "admin")


class HubState:
    """Everything that the Hub knows; the endpoints share it. Whoever changes it holds `lock`."""

    def __init__(self, root: Path, accounts: Accounts) -> None:
        self.root, self.accounts = root, accounts
        self.url = ""
        self.store = Path()
        self.made: dict[tuple[str, str], Repository] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.uploads: dict[str, Any] = {}
        self.lock = threading.RLock()
        self._files = 0

    def new_file(self, folder: str) -> Path:
        """A path in the server's own storage that is not used yet."""
        with self.lock:
            self._files += 1
            number = self._files
        path = self.store / folder / f"{number:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def find(self, kind: str, hub_id: str) -> Repository | None:
        if (kind, hub_id) in self.made:
            return self.made[kind, hub_id]
        return None if (kind, hub_id) in self.deleted else self._from_folder(kind, hub_id)

    def _from_folder(self, kind: str, hub_id: str) -> Repository | None:
        folder = self.root / kind / hub_id
        if kind not in KINDS or not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            return None
        if "/" not in hub_id and not any(path.is_file() for path in folder.iterdir()):
            return None  # a namespace
        found = Repository(kind, hub_id, sdk="static" if kind == "spaces" else None)
        found.add(MAIN, Commit(folder_snapshot(folder)))
        return found

    def readable(self, request: Request, kind: str, hub_id: str) -> Repository:
        """The repository, where this request may know of it."""
        role = self.accounts.role(request)
        found = self.find(kind, hub_id)
        if found is None or (found.private and not (role and self.accounts.belongs(found.namespace))):
            raise repository_not_found(signed_in=role is not None)
        return found

    def writable(self, request: Request, kind: str, hub_id: str, pull_request: bool = False) -> Repository:
        """The repository, made ready for a change, where this request may change it (or propose a change)."""
        found = self.readable(request, kind, hub_id)
        if request.token is None:
            raise repository_not_found(signed_in=False)
        if self.accounts.role(request) != "write":
            raise HubError(403, "This token can only read: a token with the role write is needed")
        if not pull_request and not self.accounts.writes_to(found.namespace):
            raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return self.claim(found)

    def claim(self, found: Repository) -> Repository:
        """Take over a repository that so far only mirrors a folder: its files are copied, the folder stays."""
        key = found.kind, found.hub_id
        with self.lock:
            if key not in self.made:
                for sha, commit in found.commits.items():
                    files, lfs = {}, commit.snapshot.lfs
                    for name, path in commit.snapshot.files.items():
                        files[name] = Path(shutil.copyfile(path, self.new_file("blobs")))
                    found.commits[sha] = Commit(Snapshot(files, lfs, sha))
                self.made[key] = found
            return self.made[key]

    def commit(
        self,
        repository: Repository,
        ref: str,
        parent: Commit | None,
        files: Mapping[str, Path],
        lfs: frozenset[str],
        title: str,
        message: str = "",
    ) -> Commit:
        """Add a commit and move the ref to it; whoever calls has checked everything."""
        with self.lock:
            base = parent.sha if parent else None
            listing = sorted((name, str(path)) for name, path in files.items())
            facts = [repository.kind, repository.hub_id, ref, base, listing, title, len(repository.commits)]
            sha = hashlib.sha1(json.dumps(facts).encode()).hexdigest()
            made = Commit(Snapshot(files, lfs, sha), base, title, message, self.accounts.user, now())
            repository.add(ref, made)
        return made


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
