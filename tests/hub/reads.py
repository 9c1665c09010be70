"""What the tests' Hub tells: who asks, what a repository holds, its files at any revision."""

from collections.abc import Callable
from typing import Any

from tests.hub.cards import front_matter
from tests.hub.files import Snapshot, folder_entry
from tests.hub.replies import HubError, Reply, Request, json_reply
from tests.hub.repos import Commit, HubState, Repository


Endpoint = Callable[[HubState, Request, str, str, list[str]], Reply]


def whoami(state: HubState, request: Request) -> Reply:
    role = state.accounts.role(request)
    if role is None:
        raise HubError(401, "Invalid username or password.")
    organizations = [
        {"type": "org", "id": f"org-{name}", "name": name, "fullname": name.title(), "roleInOrg": place}
        for name, place in state.accounts.organizations.items()
    ]
    user = {"type": "user", "id": "user-1", "name": state.accounts.user, "fullname": state.accounts.user.title()}
    token = {"displayName": "tests", "role": role, "createdAt": "2024-01-01T00:00:00.000Z"}
    return json_reply({**user, "orgs": organizations, "auth": {"type": "access_token", "accessToken": token}})


def info(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    repository = state.readable(request, kind, hub_id)
    commit = repository.at(rest[0] if rest else "main")
    first = next(iter(repository.commits.values()))
    found: dict[str, Any] = {"_id": commit.sha[:24], "id": hub_id, "author": hub_id.split("/")[0], "sha": commit.sha}
    found |= {"private": repository.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
    found |= {"lastModified": commit.date, "createdAt": first.date, "tags": []}
    found["siblings"] = [_sibling(commit.snapshot, name, request.flag("blobs")) for name in commit.snapshot.files]
    found |= {"modelId": hub_id} if kind == "models" else {}
    found |= _space_facts(repository) if kind == "spaces" else {}
    return json_reply(found | _card_facts(commit, kind))


def _sibling(snapshot: Snapshot, name: str, details: bool) -> dict[str, Any]:
    if not details:
        return {"rfilename": name}
    entry = snapshot.entry(name)
    found = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
    if "lfs" in entry:
        found["lfs"] = {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 134}
    return found


def _card_facts(commit: Commit, kind: str) -> dict[str, Any]:
    """cardData and what the Hub derives from it; a README that it cannot read counts as none."""
    readme = commit.snapshot.files.get("README.md")
    if readme is None:
        return {}
    try:
        data = front_matter(readme.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    if not data:
        return {}
    found: dict[str, Any] = {"cardData": data}
    found |= {key: data[key] for key in ("library_name", "pipeline_tag") if kind == "models" and key in data}
    tags = [data[key] for key in ("library_name", "pipeline_tag") if key in data]
    tags += data["tags"] if isinstance(data.get("tags"), list) else []
    tags += [f"license:{data['license']}"] if isinstance(data.get("license"), str) else []
    base = data.get("base_model")
    tags += [f"base_model:{name}" for name in (base if isinstance(base, list) else [base] if base else [])]
    return found | {"tags": list(dict.fromkeys(str(tag) for tag in tags))}


def _space_facts(repository: Repository) -> dict[str, Any]:
    name = repository.hub_id.replace("/", "-").replace(".", "-").lower()
    return {"sdk": repository.sdk, "subdomain": name, "host": f"https://{name}.hf.space"}


def tree(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    commit = state.readable(request, kind, hub_id).at(rest[0] if rest else "main")
    sub = "/".join(rest[1:])
    if sub and sub not in commit.snapshot.folders():
        raise HubError(404, f"{sub} does not exist", "EntryNotFound", commit.sha)
    listing = commit.snapshot.listing(sub, request.flag("recursive"))
    return json_reply(listing, headers={"X-Repo-Commit": commit.sha})


def paths_info(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    snapshot = state.readable(request, kind, hub_id).at(rest[0] if rest else "main").snapshot
    names, folders = request.fields().get("paths", []), snapshot.folders()
    files = [snapshot.entry(name) for name in names if name in snapshot.files]
    return json_reply(files + [folder_entry(name) for name in names if name in folders])


def commits(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """The history, the newest first."""
    repository = state.readable(request, kind, hub_id)
    history = repository.history(rest[0] if rest else "main")
    listed = [
        {
            "id": one.sha,
            "title": one.title,
            "message": one.message,
            "authors": [{"user": one.author}],
            "date": one.date,
        }
        for one in history
    ]
    return json_reply(listed, headers={"X-Total-Count": str(len(listed))})


def resolve(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """The content of one file."""
    commit = state.readable(request, kind, hub_id).at(rest[0])
    name = "/".join(rest[1:])
    if name not in commit.snapshot.files:
        raise HubError(404, "Entry not found", "EntryNotFound", commit.sha)
    entry = commit.snapshot.entry(name)
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{entry["oid"]}"'}
    headers |= {"Content-Type": "application/octet-stream"}
    if "lfs" in entry:
        headers |= {"ETag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Etag": f'"{entry["lfs"]["oid"]}"'}
        headers |= {"X-Linked-Size": str(entry["size"])}
    return Reply(commit.snapshot.files[name].read_bytes(), headers)


READS: dict[str, Endpoint] = {
    "revision": info,
    "tree": tree,
    "paths-info": paths_info,
    "commits": commits,
}
