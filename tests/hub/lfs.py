"""Large file storage of the tests' Hub: the batch endpoint, uploads in one or many parts, and the check after them."""

import hashlib
from dataclasses import dataclass, field
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
    """A large file on its way in. `parts` are (content, ETag) by number; `content` is there when it is whole."""

    oid: str
    size: int
    chunk_size: int | None
    parts: dict[int, tuple[Path, str]] = field(default_factory=dict)
    content: Path | None = None


def batch(state: HubState, request: Request, kind: str, hub_id: str) -> Reply:
    """Where each object is to be sent; nothing for those that the repository has."""
    repository = state.writable(request, kind, hub_id, pull_request=True)
    asked = request.json()
    if asked.get("operation") != "upload" or asked.get("hash_algo", "sha256") != "sha256":
        raise HubError(422, "Only uploads by sha256 are known here")
    multipart = "multipart" in asked.get("transfers", ["basic"])
    objects = [_entry(state, repository, item, multipart) for item in asked.get("objects", [])]
    parts = any("chunk_size" in item.get("actions", {}).get("upload", {}).get("header", {}) for item in objects)
    headers = {"Content-Type": "application/vnd.git-lfs+json"}
    return json_reply({"transfer": "multipart" if parts else "basic", "objects": objects}, headers=headers)


def _entry(state: HubState, repository: Repository, item: dict[str, Any], multipart: bool) -> dict[str, Any]:
    oid, size = item["oid"], item["size"]
    found: dict[str, Any] = {"oid": oid, "size": size}
    if size <= 0:
        return found | {"error": {"code": 422, "message": "An empty file cannot be stored as a large one"}}
    if oid in repository.objects:
        return found
    chunk = state.chunk_size if multipart and size > state.chunk_size else None
    key = hashlib.sha256(f"{repository.kind}/{repository.hub_id}/{oid}".encode()).hexdigest()
    with state.lock:
        state.uploads[key] = Upload(oid, size, chunk)
    place, header = f"{state.url}/{STORAGE}/{key}", {}
    if chunk:
        count = -(-size // chunk)
        header = {"chunk_size": str(chunk)} | {str(number): f"{place}/{number}" for number in range(1, count + 1)}
    check = f"{state.url}/{'' if repository.kind == 'models' else repository.kind + '/'}{repository.hub_id}.git"
    actions = {
        "upload": {"href": place, "header": header},
        "verify": {"href": f"{check}/info/lfs/objects/verify", "header": {}},
    }
    return found | {"actions": actions}


def storage(state: HubState, request: Request, parts: list[str]) -> Reply:
    """A file or a part of one arrives, or the parts are declared complete."""
    upload = state.uploads.get(parts[0]) if parts else None
    if upload is None or request.method not in ("PUT", "POST"):
        raise HubError(403, "Access denied")
    if request.method == "POST":
        return _complete(state, upload, request.json())
    content = request.body or _empty(state)
    etag = f'"{hashlib.md5(content.read_bytes(), usedforsecurity=False).hexdigest()}"'
    if len(parts) > 1:
        upload.parts[int(parts[1])] = content, etag
    else:
        upload.content = content
    return Reply(b"", {"ETag": etag})


def _empty(state: HubState) -> Path:
    path = state.new_file("bodies")
    path.touch()
    return path


def _complete(state: HubState, upload: Upload, asked: dict[str, Any]) -> Reply:
    named = [(int(part["partNumber"]), part["etag"]) for part in asked.get("parts", [])]
    if asked.get("oid") != upload.oid or named != [(number, part[1]) for number, part in sorted(upload.parts.items())]:
        raise HubError(400, "The parts named are not those that arrived")
    path = state.new_file("joined")
    with path.open("wb") as file:
        for _, (content, _) in sorted(upload.parts.items()):
            file.write(content.read_bytes())
    upload.content = path
    return json_reply({})


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
