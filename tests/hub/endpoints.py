"""What clients ask of the tests' Hub: what a repository holds, changes to it, and large files on their way in."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hub.cards import card_problems, front_matter
from tests.hub.repos import LFS_SUFFIXES, MAIN, Commit, Repositories, Repository, now
from tests.hub.wire import HubError, Reply, Request, json_reply


Endpoint = Callable[[Repositories, Request, str, str, list[str]], Reply]
STORAGE = (
    "lfs-storage"  # stands for the bucket that the Hub has elsewhere: addresses are secret, no token is asked for
)


def page(request: Request, kind: str, hub_id: str) -> str:
    """The address of a repository's page."""
    return f"http://{request.headers['host']}/{'' if kind == 'models' else kind + '/'}{hub_id}"


# ---------------------------------------------------------------------------------------------- reads


def info(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    repository = hub.readable(request, kind, hub_id)
    commit = repository.at(rest[0] if rest else "main")
    first = next(iter(repository.commits.values()))
    found: dict[str, Any] = {"_id": commit.sha[:24], "id": hub_id, "author": hub_id.split("/")[0], "sha": commit.sha}
    found |= {"private": repository.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
    found |= {"lastModified": commit.date, "createdAt": first.date, "tags": []}
    found["siblings"] = [_sibling(commit, name, request.flag("blobs")) for name in commit.files]
    found |= {"modelId": hub_id} if kind == "models" else {}
    found |= {"sdk": repository.sdk} if kind == "spaces" else {}
    return json_reply(found | _card_facts(commit, kind))


def _sibling(commit: Commit, name: str, details: bool) -> dict[str, Any]:
    entry = commit.entry(name)
    lfs = {"lfs": {**entry["lfs"], "sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {}
    return {"rfilename": name, **({"size": entry["size"], "blobId": entry["oid"], **lfs} if details else {})}


def _card_facts(commit: Commit, kind: str) -> dict[str, Any]:
    """cardData and what the Hub derives from it; a README that it cannot read counts as none."""
    try:
        data = front_matter(commit.files.get("README.md", b"").decode())
    except ValueError:
        data = None
    if not data:
        return {}
    named = {key: data[key] for key in ("library_name", "pipeline_tag") if kind == "models" and key in data}
    tags = data["tags"] if isinstance(data.get("tags"), list) else []
    licence = [f"license:{data['license']}"] if isinstance(data.get("license"), str) else []
    # Dates, which YAML makes of some words, are words here.
    card = json.loads(json.dumps(data, default=str))
    return {"cardData": card, **named, "tags": [*map(str, named.values()), *map(str, tags), *licence]}


def tree(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """The entries below a folder: folders first, and with `recursive` all of them."""
    commit = hub.readable(request, kind, hub_id).at(rest[0] if rest else "main")
    start = "".join(f"{part}/" for part in rest[1:])
    if start and not any(name.startswith(start) for name in commit.files):
        raise HubError(404, f"{start} does not exist", "EntryNotFound")
    entries = [*commit.folders(), *map(commit.entry, commit.files)]
    below = [entry for entry in entries if entry["path"].startswith(start)]
    return json_reply([e for e in below if request.flag("recursive") or "/" not in e["path"][len(start) :]])


def paths_info(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    commit = hub.readable(request, kind, hub_id).at(rest[0] if rest else "main")
    names = request.fields().get("paths", [])
    entries = [*map(commit.entry, commit.files), *commit.folders()]
    return json_reply([entry for entry in entries if entry["path"] in names])


def commits(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """The history, the newest first."""
    history = hub.readable(request, kind, hub_id).history(rest[0] if rest else "main")
    authors = [{"user": hub.user}]
    return json_reply(
        [{"id": c.sha, "title": c.title, "message": "", "authors": authors, "date": c.date} for c in history]
    )


def resolve(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """The content of one file."""
    commit = hub.readable(request, kind, hub_id).at(rest[0])
    name = "/".join(rest[1:])
    if name not in commit.files:
        return HubError(404, "Entry not found", "EntryNotFound").reply({"X-Repo-Commit": commit.sha})
    entry = commit.entry(name)
    oid = entry.get("lfs", entry)["oid"]
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
    headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(entry["size"])} if "lfs" in entry else {}
    return Reply(commit.files[name], headers)


# ---------------------------------------------------------------------------------------------- repositories


def _named(hub: Repositories, request: Request, action: str) -> tuple[str, str]:
    """The kind and the whole name that the body of a create or delete request means, if it may be done there."""
    asked = request.json()
    namespace = asked.get("organization") or hub.user
    role = hub.role(request)
    if role is None:
        raise HubError(401, "Invalid username or password.")
    if role != "write" or not hub.writes_to(namespace):
        raise HubError(403, f'You don\'t have the rights to {action} a repo under the namespace "{namespace}"')
    return f"{asked.get('type') or 'model'}s", f"{namespace}/{asked['name']}"


def create_repository(hub: Repositories, request: Request) -> Reply:
    asked, (kind, hub_id) = request.json(), _named(hub, request, "create")
    body = {"url": page(request, kind, hub_id), "name": hub_id, "id": hub_id}
    with hub.lock:
        if hub.find(kind, hub_id) is not None:
            raise HubError(409, f"You already created this {kind[:-1]} repo: {hub_id}", **body)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        made = Repository(kind, hub_id, private=private, sdk=asked.get("sdk"))
        made.commit(MAIN, None, _first_files(made), frozenset(), "initial commit")
        hub.made[kind, hub_id] = made
    return json_reply(body)


def _first_files(repository: Repository) -> dict[str, bytes]:
    """What the Hub puts into a new repository."""
    rules = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES))
    files = {".gitattributes": rules.encode()}
    if repository.kind == "spaces":
        files["README.md"] = f"---\ntitle: A Space\nsdk: {repository.sdk}\npinned: false\n---\n".encode()
    return files


def delete_repository(hub: Repositories, request: Request) -> Reply:
    kind, hub_id = _named(hub, request, "delete")
    with hub.lock:
        if hub.find(kind, hub_id) is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        hub.made.pop((kind, hub_id), None)
        hub.deleted.add((kind, hub_id))
    return json_reply({})


def validate_yaml(hub: Repositories, request: Request) -> Reply:
    asked = request.json()
    errors, warnings = card_problems(str(asked.get("content", "")), str(asked.get("repoType") or "model"))
    body = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return json_reply(body, 400 if errors else 200)


def make_branch(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    repository, start = hub.writable(request, kind, hub_id), request.json().get("startingPoint") or "main"
    ref = f"refs/heads/{'/'.join(rest)}"
    with hub.lock:
        if ref in repository.refs:
            raise HubError(409, f"Reference {ref} already exists")
        repository.refs[ref] = repository.at(start).sha
    return json_reply({})


def variables(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """The variables of a Space; secrets have no endpoint, since hftl sends none."""
    space = hub.writable(request, kind, hub_id)
    asked = request.json()
    with hub.lock:
        if request.method == "DELETE":
            space.variables.pop(asked["key"], None)
        elif request.method == "POST":
            space.variables[asked["key"]] = {"value": asked["value"], "updatedAt": now()}
    return json_reply(space.variables)


# ---------------------------------------------------------------------------------------------- commits


def preupload(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """Which of the files go into large file storage, and what stands at their place now."""
    repository = hub.writable(request, kind, hub_id, pull_request=request.flag("create_pr"))
    commit = repository.at("/".join(rest) or "main")
    return json_reply({"files": [_upload_mode(commit, file) for file in request.json().get("files", [])]})


def _upload_mode(commit: Commit, file: dict[str, Any]) -> dict[str, Any]:
    name = file["path"]
    large = Path(name).suffix in LFS_SUFFIXES or b"\0" in base64.b64decode(file.get("sample", ""))
    entry = commit.entry(name) if name in commit.files else {}
    there = {"oid": entry.get("lfs", entry)["oid"]} if entry else {}
    return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **there}


def commit(hub: Repositories, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """One commit from its lines: everything is checked before anything changes."""
    revision, propose = "/".join(rest) or "main", request.flag("create_pr")
    repository = hub.writable(request, kind, hub_id, pull_request=propose)
    header, *lines = [json.loads(line) for line in request.body.splitlines()]
    parent = header["value"].get("parentCommit")
    with hub.lock:
        ref, head = repository.ref(revision), repository.at(revision)
        if propose:
            head = repository.at(parent) if parent else head
            ref = f"refs/pr/{repository.pulls + 1}"
        elif ref is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        elif parent and parent != head.sha:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files, lfs = _changed(repository, head, lines)
        _check_readme(files, head, kind)
        made = repository.commit(ref, head, files, lfs, header["value"]["summary"])
        repository.pulls += propose
    url = page(request, kind, hub_id)
    body = {"success": True, "commitOid": made.sha, "commitUrl": f"{url}/commit/{made.sha}", "hookOutput": ""}
    return json_reply(body | ({"pullRequestUrl": f"{url}/discussions/{repository.pulls}"} if propose else {}))


def _changed(
    repository: Repository, head: Commit, lines: list[dict[str, Any]]
) -> tuple[dict[str, bytes], frozenset[str]]:
    """The files after the commit, and which of them are in large file storage."""
    files, lfs = dict(head.files), set(head.lfs)
    for line in lines:
        key, value = line["key"], line["value"]
        name = value["path"]
        if key == "deletedFile":
            if files.pop(name, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {name}", "EntryNotFound")
            lfs.discard(name)
        elif key == "lfsFile":
            if value["oid"] not in repository.objects:
                raise HubError(400, f"LFS pointer of {name} points to a file that does not exist")
            files[name] = repository.objects[value["oid"]]
            lfs.add(name)
        else:
            files[name] = base64.b64decode(value["content"], validate=True)
            if files[name] and Path(name).suffix in LFS_SUFFIXES:
                raise HubError(400, f"Your push was rejected because {name} must go into large file storage")
            lfs.discard(name)
    return files, frozenset(lfs)


def _check_readme(files: dict[str, bytes], head: Commit, kind: str) -> None:
    readme = files.get("README.md")
    if readme is None or readme == head.files.get("README.md"):
        return
    errors, _ = card_problems(readme.decode(), kind[:-1])
    if errors:
        raise HubError(400, "Invalid metadata in README.md: " + "; ".join(errors))


# ---------------------------------------------------------------------------------------------- large files


def batch(hub: Repositories, request: Request, kind: str, hub_id: str) -> Reply:
    """Where each object is to be sent; nothing for those that the repository has."""
    repository = hub.writable(request, kind, hub_id, pull_request=True)
    host, check = f"http://{request.headers['host']}", f"{page(request, kind, hub_id)}.git/info/lfs/objects/verify"
    objects = []
    for item in request.json()["objects"]:
        found = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in repository.objects:
            upload = {"href": f"{host}/{STORAGE}/{_key(kind, hub_id, item['oid'])}", "header": {}}
            found["actions"] = {"upload": upload, "verify": {"href": check, "header": {}}}
        objects.append(found)
    headers = {"Content-Type": "application/vnd.git-lfs+json"}
    return json_reply({"transfer": "basic", "objects": objects}, headers=headers)


def _key(kind: str, hub_id: str, oid: str) -> str:
    """What an object is called in the storage until it is verified."""
    return hashlib.sha256(f"{kind}/{hub_id}/{oid}".encode()).hexdigest()


def storage(hub: Repositories, request: Request, parts: list[str]) -> Reply:
    """A file arrives."""
    with hub.lock:
        hub.uploads[parts[0]] = request.body
    return Reply(b"", {})


def verify(hub: Repositories, request: Request, kind: str, hub_id: str) -> Reply:
    """Take an object in when size and digest are those that were announced."""
    repository, asked = hub.writable(request, kind, hub_id, pull_request=True), request.json()
    content = hub.uploads.get(_key(kind, hub_id, asked["oid"]), b"")
    if (asked["oid"], asked["size"]) != (hashlib.sha256(content).hexdigest(), len(content)):
        raise HubError(422, f"The object does not match: {len(content)} bytes arrived")
    with hub.lock:
        repository.objects[asked["oid"]] = content
    return json_reply({})


BY_NAME: dict[tuple[str, str], Callable[[Repositories, Request], Reply]] = {
    ("POST", "validate-yaml"): validate_yaml,
    ("POST", "repos/create"): create_repository,
    ("DELETE", "repos/delete"): delete_repository,
}
OF_A_REPOSITORY: dict[tuple[str, str], Endpoint] = {
    ("GET", "revision"): info,
    ("GET", "tree"): tree,
    ("POST", "paths-info"): paths_info,
    ("GET", "commits"): commits,
    ("POST", "branch"): make_branch,
    ("POST", "preupload"): preupload,
    ("POST", "commit"): commit,
    **{(method, "variables"): variables for method in ("GET", "POST", "DELETE")},
}
VERBS = frozenset(verb for _, verb in OF_A_REPOSITORY) | {"resolve", "discussions"}
