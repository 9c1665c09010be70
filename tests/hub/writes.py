"""What changes the tests' Hub: repositories made and deleted, settings, branches, tags, and commits."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tests.hub.cards import card_problems
from tests.hub.files import LFS_SUFFIXES, Snapshot, parents
from tests.hub.reads import Endpoint
from tests.hub.replies import HubError, Reply, Request, json_reply, repository_not_found
from tests.hub.repos import KINDS, MAIN, Commit, HubState, Repository, now


REGULAR_LIMIT = 10 * 1024 * 1024  # the Hub takes no larger file inside a commit

_NAME = re.compile(r"(?!.*(--|\.\.|\.git$))[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_COLOURS = "colorFrom: blue\ncolorTo: indigo\n"


def page(state: HubState, kind: str, hub_id: str) -> str:
    """The address of a repository's page."""
    return f"{state.url}/{'' if kind == 'models' else kind + '/'}{hub_id}"


def _named(state: HubState, asked: dict[str, Any]) -> tuple[str, str]:
    """The kind and the whole name that the body of a create or delete request means."""
    kind = f"{asked.get('type') or 'model'}s"
    if kind not in KINDS:
        raise HubError(400, f"Unknown repository type {asked.get('type')!r}")
    name, namespace = asked.get("name"), asked.get("organization") or state.accounts.user
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise HubError(400, f"Invalid repository name {name!r}")
    return kind, f"{namespace}/{name}"


def _check_namespace(state: HubState, request: Request, namespace: str, action: str) -> None:
    role = state.accounts.role(request)
    if role is None:
        raise HubError(401, "Invalid username or password.")
    if role != "write" or not state.accounts.writes_to(namespace):
        raise HubError(403, f'You don\'t have the rights to {action} under the namespace "{namespace}"')


def create_repository(state: HubState, request: Request) -> Reply:
    asked = request.json()
    kind, hub_id = _named(state, asked)
    namespace = hub_id.split("/")[0]
    _check_namespace(state, request, namespace, f"create a {kind[:-1]}")
    body = {"url": page(state, kind, hub_id), "name": hub_id, "id": hub_id}
    with state.lock:
        if state.find(kind, hub_id) is not None:
            raise HubError(409, f"You already created this {kind[:-1]} repo: {hub_id}", body=body)
        if kind == "spaces" and asked.get("sdk") not in ("gradio", "docker", "static", "streamlit"):
            raise HubError(400, '"sdk" must be one of [streamlit, gradio, docker, static]')
        private = asked.get("visibility") == "private" or asked.get("private") is True
        made = Repository(kind, hub_id, private=private, sdk=asked.get("sdk"))
        files = {name: _blob(state, content) for name, content in _first_files(made).items()}
        state.commit(made, MAIN, None, files, frozenset(), "initial commit")
        state.made[kind, hub_id] = made
    return json_reply(body)


def _first_files(repository: Repository) -> dict[str, bytes]:
    """What the Hub puts into a new repository."""
    rules = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES))
    files = {".gitattributes": rules.encode()}
    if repository.kind == "spaces":
        title = repository.hub_id.split("/")[-1]
        files["README.md"] = f"---\ntitle: {title}\n{_COLOURS}sdk: {repository.sdk}\npinned: false\n---\n".encode()
    return files


def delete_repository(state: HubState, request: Request) -> Reply:
    kind, hub_id = _named(state, request.json())
    _check_namespace(state, request, hub_id.split("/")[0], f"delete a {kind[:-1]}")
    with state.lock:
        if state.find(kind, hub_id) is None:
            raise repository_not_found(signed_in=True)
        state.made.pop((kind, hub_id), None)
        state.deleted.add((kind, hub_id))
    return json_reply({})


def validate_yaml(state: HubState, request: Request) -> Reply:
    asked = request.json()
    errors, warnings = card_problems(str(asked.get("content", "")), str(asked.get("repoType") or "model"))
    body = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return json_reply(body, 400 if errors else 200)


def make_branch(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    repository, start = state.writable(request, kind, hub_id), request.json().get("startingPoint") or "main"
    ref = f"refs/heads/{'/'.join(rest)}"
    with state.lock:
        if ref in repository.refs:
            raise HubError(409, f"Reference {ref} already exists")
        repository.refs[ref] = repository.at(start).sha
    return json_reply({})


def _space(state: HubState, request: Request, kind: str, hub_id: str) -> Repository:
    if kind != "spaces":
        raise HubError(404, "Not found", "EntryNotFound")
    return state.writable(request, kind, hub_id)


def variables(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    space = _space(state, request, kind, hub_id)
    if request.method != "GET":
        asked = request.json()
        with state.lock:
            if request.method == "DELETE":
                space.variables.pop(asked["key"], None)
            else:
                found = {"value": asked["value"], "updatedAt": now()}
                found |= {"description": asked["description"]} if asked.get("description") else {}
                space.variables[asked["key"]] = found
    return json_reply(space.variables)


def secrets(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """Record the name of a secret, and refuse it: hftl sends none."""
    space = _space(state, request, kind, hub_id)
    with state.lock:
        space.secrets[request.json()["key"]] = {"updatedAt": now()}
    raise HubError(403, "No secret is expected here")


# ---------------------------------------------------------------------------------------------- commits


def preupload(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """Which of the files go into large file storage, and what stands at their place now."""
    repository = state.writable(request, kind, hub_id, pull_request=request.flag("create_pr"))
    snapshot = repository.at("/".join(rest) or "main").snapshot
    return json_reply({"files": [_upload_mode(snapshot, file) for file in request.json().get("files", [])]})


def _upload_mode(snapshot: Snapshot, file: dict[str, Any]) -> dict[str, Any]:
    name = file["path"]
    large = Path(name).suffix in LFS_SUFFIXES or file["size"] > REGULAR_LIMIT
    large = large or b"\0" in base64.b64decode(file.get("sample", ""))
    found = {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
    if name in snapshot.files:
        entry = snapshot.entry(name)
        found["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
    return found


def commit(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """One commit from its lines: everything is checked before anything changes."""
    revision, propose = "/".join(rest) or "main", request.flag("create_pr")
    repository = state.writable(request, kind, hub_id, pull_request=propose)
    lines = list(_lines(request.content()))
    if not lines or lines[0][0] != "header" or not lines[0][1].get("summary"):
        raise HubError(400, "The first line must be a header with a summary")
    header = lines[0][1]
    with state.lock:
        ref, head = repository.ref(revision), repository.at(revision)
        parent = header.get("parentCommit")
        if propose:
            head = repository.at(parent) if parent else head
            ref = f"refs/pr/{repository.pulls + 1}"
        elif ref is None or ref.startswith("refs/tags/"):
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        elif parent and parent != head.sha:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files, lfs = _changed(state, repository, head, lines[1:])
        _check_readme(files, head, kind)
        title, text = header["summary"], header.get("description") or ""
        made = state.commit(repository, ref, head, files, lfs, title, text)
        repository.pulls += 1 if propose else 0
    url = page(state, kind, hub_id)
    body = {"success": True, "commitOid": made.sha, "commitUrl": f"{url}/commit/{made.sha}", "hookOutput": ""}
    body |= {"pullRequestUrl": f"{url}/discussions/{repository.pulls}"} if propose else {}
    return json_reply(body)


def _lines(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            item = json.loads(line)
            yield item["key"], item["value"]
        except (ValueError, KeyError, TypeError):
            raise HubError(400, f"Line {number} of the commit is not valid") from None


def _changed(
    state: HubState, repository: Repository, head: Commit, lines: list[tuple[str, dict[str, Any]]]
) -> tuple[dict[str, Path], frozenset[str]]:
    """The files after the commit, and which of them are in large file storage."""
    files, lfs = dict(head.snapshot.files), set(head.snapshot.lfs)
    for key, value in lines:
        name = _safe_path(value.get("path"), folder=key == "deletedFolder")
        if key in ("file", "lfsFile"):
            if any(folder in files for folder in parents(name)):
                raise HubError(400, f"{name}: a file stands where a folder should be")
            files[name] = _large(repository, value) if key == "lfsFile" else _regular(state, name, value)
            (lfs.add if key == "lfsFile" else lfs.discard)(name)
        elif key in ("deletedFile", "deletedFolder"):
            gone = [name] if key == "deletedFile" else [file for file in files if file.startswith(f"{name}/")]
            if not gone or not set(gone) <= set(files):
                raise HubError(404, f"A file with this name doesn't exist: {name}", "EntryNotFound")
            for file in gone:
                del files[file]
                lfs.discard(file)
        else:
            raise HubError(400, f"Unknown operation {key!r}")
    return files, frozenset(lfs)


def _safe_path(path: Any, folder: bool) -> str:
    name = path.rstrip("/") if folder and isinstance(path, str) else path
    if not isinstance(name, str) or name != PurePosixPath(name).as_posix() or name.startswith("/"):
        raise HubError(400, f"Invalid path {path!r}")
    if {"", ".", "..", ".git"} & set(name.split("/")):
        raise HubError(400, f"Invalid path {path!r}")
    return name


def _regular(state: HubState, name: str, value: dict[str, Any]) -> Path:
    if value.get("encoding") != "base64":
        raise HubError(400, f"{name}: the content must be base64")
    try:
        content = base64.b64decode(value["content"], validate=True)
    except (binascii.Error, KeyError):
        raise HubError(400, f"{name}: the content is not base64") from None
    if len(content) > REGULAR_LIMIT or (content and Path(name).suffix in LFS_SUFFIXES):
        raise HubError(400, f"Your push was rejected because {name} must go into large file storage")
    return _blob(state, content)


def _large(repository: Repository, value: dict[str, Any]) -> Path:
    stored = repository.objects.get(value.get("oid", ""))
    if value.get("algo") != "sha256" or stored is None or value.get("size", stored.stat().st_size) != _size(stored):
        raise HubError(400, f"LFS pointer of {value['path']} points to a file that does not exist")
    return stored


def _size(path: Path) -> int:
    return path.stat().st_size


def _blob(state: HubState, content: bytes) -> Path:
    """The content in the server's storage, under its own digest."""
    path = state.store / "blobs" / hashlib.sha256(content).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content)
    return path


def _check_readme(files: dict[str, Path], head: Commit, kind: str) -> None:
    readme = files.get("README.md")
    if readme is None or readme == head.snapshot.files.get("README.md"):
        return
    errors, _ = card_problems(readme.read_text(encoding="utf-8"), kind[:-1])
    if errors:
        raise HubError(400, "Invalid metadata in README.md: " + "; ".join(errors))


WRITES: dict[tuple[str, str], Endpoint] = {
    ("POST", "branch"): make_branch,
    ("POST", "preupload"): preupload,
    ("POST", "commit"): commit,
    ("POST", "secrets"): secrets,
    **{(method, "variables"): variables for method in ("GET", "POST", "DELETE")},
}
