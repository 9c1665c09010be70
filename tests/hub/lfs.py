"""Large file storage of the tests' Hub: the batch endpoint, uploads in one piece, and the check after them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hub.files import digests
from tests.hub.replies import HubError, Reply, Request, json_reply
from tests.hub.repos import HubState, Repository


STORAGE = (
    "lfs-storage"  # stands for the bucket that the Hub has elsewhere: addresses are secret, no token is asked for
)


@dataclass
class Upload:
    """A large file on its way in."""

    content: Path | None = None


def batch(state: HubState, request: Request, kind: str, hub_id: str) -> Reply:
    """Where each object is to be sent; nothing for those that the repository has."""
    repository = state.writable(request, kind, hub_id, pull_request=True)
    asked = request.json()
    if asked.get("operation") != "upload" or asked.get("hash_algo", "sha256") != "sha256":
        raise HubError(422, "Only uploads by sha256 are known here")
    objects = [_entry(state, repository, item) for item in asked.get("objects", [])]
    headers = {"Content-Type": "application/vnd.git-lfs+json"}
    return json_reply({"transfer": "basic", "objects": objects}, headers=headers)


def _entry(state: HubState, repository: Repository, item: dict[str, Any]) -> dict[str, Any]:
    oid, size = item["oid"], item["size"]
    found: dict[str, Any] = {"oid": oid, "size": size}
    if size <= 0:
        return found | {"error": {"code": 422, "message": "An empty file cannot be stored as a large one"}}
    if oid in repository.objects:
        return found
    key = hashlib.sha256(f"{repository.kind}/{repository.hub_id}/{oid}".encode()).hexdigest()
    with state.lock:
        state.uploads[key] = Upload()
    check = f"{state.url}/{'' if repository.kind == 'models' else repository.kind + '/'}{repository.hub_id}.git"
    actions = {
        "upload": {"href": f"{state.url}/{STORAGE}/{key}", "header": {}},
        "verify": {"href": f"{check}/info/lfs/objects/verify", "header": {}},
    }
    return found | {"actions": actions}


def storage(state: HubState, request: Request, parts: list[str]) -> Reply:
    """A file arrives."""
    upload = state.uploads.get(parts[0]) if parts else None
    if upload is None or request.method != "PUT" or request.body is None:
        raise HubError(403, "Access denied")
    upload.content = request.body
    return Reply(b"", {})


def verify(state: HubState, request: Request, kind: str, hub_id: str) -> Reply:
    """Take an object in when size and digest are those that were announced."""
    repository, asked = state.writable(request, kind, hub_id, pull_request=True), request.json()
    key = hashlib.sha256(f"{kind}/{hub_id}/{asked.get('oid')}".encode()).hexdigest()
    upload = state.uploads.get(key)
    if upload is None or upload.content is None:
        raise HubError(404, "This object was never uploaded", "EntryNotFound")
    size, (_, sha256) = upload.content.stat().st_size, digests(upload.content)
    if (asked.get("oid"), asked.get("size")) != (sha256, size):
        raise HubError(422, f"The object does not match: {size} bytes arrived with sha256 {sha256}")
    with state.lock:
        repository.objects[sha256] = upload.content
    return json_reply({})
