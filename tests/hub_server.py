"""A small Hub on the loopback address, for downloads: models and datasets come from folders of this machine.

Standard library only. Nothing here imports `huggingface_hub`, so a process may start the server, set `env()` and only
then import the libraries that read it.
"""

import json
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from tests.hub_files import Snapshot, folder_entry


KINDS = ("models", "datasets", "spaces")

_VERBS = frozenset({"resolve", "revision", "tree", "refs", "paths-info", "discussions", "commits"})
_STAMP = "2024-01-01T00:00:00.000Z"


class _NotFoundError(Exception):
    """What the Hub says with status 404; `code` goes into X-Error-Code."""

    def __init__(self, code: str, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.commit = commit


class _Reply(NamedTuple):
    body: bytes
    headers: dict[str, str]
    status: int = 200


def _json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> _Reply:
    return _Reply(json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, status)


class HubServer:
    """Serves `root/models/<namespace>/<name>/` and `root/datasets/<namespace>/<name>/` as a Hub would.

    The folders are read at every request, so repositories may be added or changed while the server runs. `revisions`
    adds branches or tags to `main`: {"ns/name" or "datasets/ns/name": {"branch": folder with its files}}.
    `requests` lists every (method, path) asked for, the query included; what was meant for another host stands there
    with its whole address.
    """

    def __init__(self, root: Path, revisions: Mapping[str, Mapping[str, Path]] | None = None) -> None:
        self.root = Path(root)
        self.revisions = revisions or {}
        self.requests: list[tuple[str, str]] = []
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._server is not None and self._thread is not None and self._home is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._home.cleanup()
        self._server = self._thread = self._home = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the server is not running")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def env(self, home: Path | None = None) -> dict[str, str]:
        """Variables for a client process, to be set before it imports `huggingface_hub`.

        Every cache goes below `home`, by default a folder that goes away with the server; no token is sent. The
        server is the client's proxy too, and refuses: what is meant for another host (the dataset viewer, say) fails
        at once, with no name looked up and nothing leaving the machine.
        """
        url = self.url  # refuses when the server is not running
        assert self._home is not None
        base = Path(home or self._home.name)
        return {
            "HF_ENDPOINT": url,
            "HF_HOME": str(base),
            "HF_HUB_CACHE": str(base / "hub"),
            "HF_DATASETS_CACHE": str(base / "datasets"),
            "HF_MODULES_CACHE": str(base / "modules"),
            "HF_ASSETS_CACHE": str(base / "assets"),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }

    def sha(self, hub_id: str, revision: str = "main", kind: str = "models") -> str:
        """The commit that a revision of this repository stands at."""
        return self._snapshot(kind, hub_id, revision)[0]

    def _branches(self, kind: str, hub_id: str) -> dict[str, Path]:
        folder = self.root / kind / hub_id
        if kind not in KINDS or not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            raise _NotFoundError("RepoNotFound", "Repository not found")
        if "/" not in hub_id and not any(path.is_file() for path in folder.iterdir()):
            raise _NotFoundError("RepoNotFound", "Repository not found")  # a namespace
        key = hub_id if kind == "models" else f"{kind}/{hub_id}"
        return {"main": folder, **{name: Path(path) for name, path in self.revisions.get(key, {}).items()}}

    def _snapshot(self, kind: str, hub_id: str, revision: str) -> tuple[str, Snapshot]:
        branches = self._branches(kind, hub_id)
        if revision in branches:
            found = Snapshot(branches[revision])
            return found.commit, found
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            for folder in branches.values():
                found = Snapshot(folder)
                commit = found.commit
                if commit.startswith(revision):
                    return commit, found
        raise _NotFoundError("RevisionNotFound", f"Invalid rev id: {revision}")

    # ------------------------------------------------------------------------------------------ endpoints

    def answer(self, path: str, query: str, fields: Mapping[str, list[str]]) -> _Reply:
        """The reply to a request; `fields` is the form that a POST brought."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if any(part in ("", ".", "..") for part in parts):
            raise _NotFoundError("EntryNotFound", "Not found")
        if parts[0] == "api":
            return self._answer_api(parts[1:], query, fields)
        kind = parts.pop(0) if parts[0] in KINDS else "models"
        hub_id, rest = _split_id(parts)
        if len(rest) >= 3 and rest[0] == "resolve":
            return self._file(kind, hub_id, rest[1], "/".join(rest[2:]))
        raise _NotFoundError("EntryNotFound", "Not found")

    def _answer_api(self, parts: list[str], query: str, fields: Mapping[str, list[str]]) -> _Reply:
        if len(parts) < 2 or parts[0] not in KINDS:
            raise _NotFoundError("EntryNotFound", "Not found")
        kind = parts[0]
        hub_id, rest = _split_id(parts[1:])
        verb = rest[0] if rest else "revision"
        revision = rest[1] if len(rest) > 1 else "main"
        if verb == "revision":
            return self._info(kind, hub_id, revision)
        if verb == "tree":
            return self._tree(kind, hub_id, revision, "/".join(rest[2:]), "recursive=true" in query.lower())
        if verb == "paths-info":
            return self._paths_info(kind, hub_id, revision, fields.get("paths", []))
        if verb == "refs":
            return self._refs(kind, hub_id)
        raise _NotFoundError("EntryNotFound", "Not found")

    def _info(self, kind: str, hub_id: str, revision: str) -> _Reply:
        commit, found = self._snapshot(kind, hub_id, revision)
        info: dict[str, Any] = {"_id": commit[:24], "id": hub_id, "author": hub_id.split("/")[0], "sha": commit}
        info |= {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        info |= {
            "lastModified": _STAMP,
            "createdAt": _STAMP,
            "siblings": [{"rfilename": name} for name in found.files],
        }
        return _json_reply(info | ({"modelId": hub_id} if kind == "models" else {}))

    def _tree(self, kind: str, hub_id: str, revision: str, sub: str, recursive: bool) -> _Reply:
        commit, found = self._snapshot(kind, hub_id, revision)
        if sub and sub not in found.folders():
            raise _NotFoundError("EntryNotFound", f"{sub} does not exist", commit)
        return _json_reply(found.listing(sub, recursive), headers={"X-Repo-Commit": commit})

    def _paths_info(self, kind: str, hub_id: str, revision: str, names: Sequence[str]) -> _Reply:
        _, found = self._snapshot(kind, hub_id, revision)
        folders = found.folders()
        files = [found.entry(name) for name in names if name in found.files]
        return _json_reply(files + [folder_entry(name) for name in names if name in folders])

    def _refs(self, kind: str, hub_id: str) -> _Reply:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": Snapshot(folder).commit}
            for name, folder in self._branches(kind, hub_id).items()
        ]
        return _json_reply({"branches": branches, "converts": [], "tags": []})

    def _file(self, kind: str, hub_id: str, revision: str, name: str) -> _Reply:
        commit, found = self._snapshot(kind, hub_id, revision)
        if name not in found.files:
            raise _NotFoundError("EntryNotFound", "Entry not found", commit)
        entry = found.entry(name)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"', "Accept-Ranges": "bytes"}
        headers |= {"Content-Type": "application/octet-stream"}
        if "lfs" in entry:
            headers |= {"ETag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Etag": f'"{entry["lfs"]["oid"]}"'}
            headers |= {"X-Linked-Size": str(entry["size"])}
        return _Reply(found.files[name].read_bytes(), headers)


def _split_id(parts: list[str]) -> tuple[str, list[str]]:
    """`name` or `ns/name`, and what follows it."""
    length = 1 if len(parts) < 2 or parts[1] in _VERBS else 2
    return "/".join(parts[:length]), parts[length:]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: `HubServer.requests` keeps what a test may want to see."""

    def _respond(self) -> None:
        self.hub.requests.append((self.command, self.path))
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        try:
            if self.command == "CONNECT" or target.netloc:  # asked as a proxy
                raise _NotFoundError("EntryNotFound", "Not this host")
            reply = self.hub.answer(target.path, target.query, _fields(sent, self.headers.get("Content-Type", "")))
        except _NotFoundError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            headers |= {"X-Repo-Commit": error.commit} if error.commit else {}
            reply = _json_reply({"error": str(error)}, 404, headers)
        self._send(_ranged(reply, self.headers.get("Range")))

    def _send(self, reply: _Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_CONNECT = _respond  # noqa: N815 - names that the base class looks for


def _fields(sent: bytes, content_type: str) -> dict[str, list[str]]:
    """The fields of a posted form or JSON object, each as a list."""
    if not sent:
        return {}
    if "json" in content_type:
        value = json.loads(sent)
        return {key: item if isinstance(item, list) else [item] for key, item in value.items()}
    fields: dict[str, list[str]] = {}
    for pair in sent.decode().split("&"):
        key, _, value = pair.partition("=")
        fields.setdefault(unquote(key), []).append(unquote(value.replace("+", " ")))
    return fields


def _ranged(reply: _Reply, wanted: str | None) -> _Reply:
    """Cut the body to `bytes=first-last`, where that was asked for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if reply.status != 200 or "Accept-Ranges" not in reply.headers or match is None:
        return reply
    total = len(reply.body)
    first = int(match[1])
    if first >= total:
        return _Reply(b"", {"Content-Range": f"bytes */{total}"}, 416)
    last = min(int(match[2] or total - 1), total - 1)
    return _Reply(
        reply.body[first : last + 1], {**reply.headers, "Content-Range": f"bytes {first}-{last}/{total}"}, 206
    )
