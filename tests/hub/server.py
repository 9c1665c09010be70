"""A small Hub on the loopback address: models, datasets and Spaces to download from folders, and to push to.

Standard library only (PyYAML for front matter). Nothing here imports `huggingface_hub`, so a process may start the
server, set `env()` and only then import the libraries that read it.

    with HubServer(tmp_path) as hub:                         # serves the folders below tmp_path/models and so on
        run("push", env={**os.environ, **hub.env(token=hub.token)})   # who pushes is a subprocess
        hub.files("tester/name")["config.json"]              # what stands there now
        hub.fail("PUT", "/lfs-storage/", 503, times=2)       # the next two uploads of large files fail
        assert b"secret" not in hub.received_bytes()         # everything that ever arrived

In the same process: `tests.hub.target.in_process`.
"""

import base64
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from tests.hub import endpoints
from tests.hub.repos import KINDS, Repositories, Repository
from tests.hub.wire import Fault, HubError, LoopbackServer, Reply, Request, Seen, handler_for


TOKEN = "hf_" + "T" * 34  # as long as real ones, and no secret
ORGANIZATIONS = {"acme": "write", "watched": "read"}  # name -> the user's role in it


class HubServer(Repositories):
    """Serves `root/models/<namespace>/<name>/`, `root/datasets/...` and `root/spaces/...` as a Hub would.

    The folders are read at every request, so repositories may be added or changed while the server runs, until a
    client commits to one: from then on the server has its own copy, and the folder is never written to.

    `token` writes to the namespaces `user` and those of `organizations` whose role is write or admin; `read_token`
    is valid and may not write. Any other token is refused everywhere. `requests` lists every (method, path) asked
    for, the query included; what was meant for another host stands there with its whole address. `log` has the same
    with headers and bodies.
    """

    def __init__(
        self,
        root: Path,
        token: str = TOKEN,
        user: str = "tester",
        organizations: Mapping[str, str] = ORGANIZATIONS,
    ) -> None:
        super().__init__(root, token, user, organizations)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.log: list[Seen] = []
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-")
        self._server = LoopbackServer(("127.0.0.1", 0), handler_for(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def env(self, home: Path | None = None, token: str | None = None) -> dict[str, str]:
        """Variables for a client process, to be set before it imports `huggingface_hub`.

        Every cache goes below `home`, by default a folder that goes away with the server; no token is sent unless
        one is given. The server is the client's proxy too, and refuses: what is meant for another host (the dataset
        viewer, say) fails at once, with no name looked up and nothing leaving the machine.
        """
        base = Path(home or self._home.name)
        places = {
            "HUB_CACHE": "hub",
            "DATASETS_CACHE": "datasets",
            "MODULES_CACHE": "modules",
            "ASSETS_CACHE": "assets",
        }
        on = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
        off = ("HF_UPDATE_DOWNLOAD_COUNTS", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        proxies = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(base),
            "HF_TOKEN": token or "",
            **{f"HF_{name}": str(base / place) for name, place in places.items()},
            **dict.fromkeys(on, "1"),
            **dict.fromkeys(off, "0"),
            **dict.fromkeys(proxies, self.url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }

    # ------------------------------------------------------------------------------------------ what a test asks

    def repository(self, hub_id: str, kind: str = "models") -> Repository:
        """The repository as the server knows it (private, variables, refs); KeyError where there is none."""
        found = self.find(kind, hub_id)
        if found is None:
            raise KeyError(f"{kind}/{hub_id}")
        return found

    def exists(self, hub_id: str, kind: str = "models") -> bool:
        return self.find(kind, hub_id) is not None

    def sha(self, hub_id: str, revision: str = "main") -> str:
        """The commit that a revision of this model stands at."""
        return self.repository(hub_id).at(revision).sha

    def files(self, hub_id: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        """Every file at that revision, by its path."""
        return dict(self.repository(hub_id, kind).at(revision).files)

    def history(self, hub_id: str, revision: str = "main", kind: str = "models") -> list[str]:
        """The titles of the commits, the newest first."""
        return [commit.title for commit in self.repository(hub_id, kind).history(revision)]

    def set_access(self, hub_id: str, kind: str = "models", *, private: bool) -> None:
        """Make a repository private, or public."""
        self.claim(self.repository(hub_id, kind)).private = private

    def fail(self, method: str, path: str, status: int | None = None, **how: Any) -> Fault:
        """The next requests that match fail: see `tests.hub.wire.Fault` for what may be asked."""
        self.faults.append(Fault(method, path, status, **how))
        return self.faults[-1]

    def received_bytes(self) -> bytes:
        """All that arrived in one piece: request lines and headers, bodies, files out of commits.

        The token that authorises a request is not among it; one that stood anywhere else is.
        """
        return b"\n".join(part for seen in self.log for part in _parts(seen))

    # ------------------------------------------------------------------------------------------ endpoints

    def answer(self, request: Request) -> Reply:
        """The reply to a request; raises HubError for a refusal."""
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        if not any(part in ("", ".", "..") for part in parts):
            if parts[0] == "api":
                return self._answer_api(request, parts[1:])
            if parts[0] == endpoints.STORAGE and request.method == "PUT":
                return endpoints.storage(self, request, parts[1:])
            kind = parts.pop(0) if parts[0] in KINDS else "models"
            hub_id, rest = _split_id(parts)
            large = {"batch": endpoints.batch, "verify": endpoints.verify}.get(rest[-1] if rest else "")
            if large is not None and hub_id.endswith(".git") and request.method == "POST":
                return large(self, request, kind, hub_id.removesuffix(".git"))
            if len(rest) >= 3 and rest[0] == "resolve" and request.method in ("GET", "HEAD"):
                return endpoints.resolve(self, request, kind, hub_id, rest[1:])
        raise HubError(404, "Not found", "EntryNotFound")

    def _answer_api(self, request: Request, parts: list[str]) -> Reply:
        named = endpoints.BY_NAME.get((request.method, "/".join(parts)))
        if named is not None:
            return named(self, request)
        if len(parts) >= 2 and parts[0] in KINDS:
            hub_id, rest = _split_id(parts[1:])
            method = "GET" if request.method == "HEAD" else request.method
            endpoint = endpoints.OF_A_REPOSITORY.get((method, rest[0] if rest else "revision"))
            if endpoint is not None:
                return endpoint(self, request, parts[0], hub_id, rest[1:])
        raise HubError(404, "Not found", "EntryNotFound")


def _split_id(parts: list[str]) -> tuple[str, list[str]]:
    """`name` or `ns/name`, and what follows it."""
    length = 1 if len(parts) < 2 or parts[1] in endpoints.VERBS else 2
    return "/".join(parts[:length]), parts[length:]


def _parts(seen: Seen) -> Iterator[bytes]:
    """All that came with a request, and what travels as base64 in it: files of a commit, samples before it."""
    line = f"{seen.method} {seen.path}"
    headers = "\n".join(f"{name}: {value}" for name, value in seen.headers.items())
    yield f"{line}\n{unquote(line)}\n{headers}".encode()
    yield seen.body
    if "/commit/" in line:
        values = [json.loads(item)["value"] for item in seen.body.splitlines()]
        yield from (base64.b64decode(value["content"]) for value in values if "content" in value)
    elif "/preupload/" in line:
        yield from (base64.b64decode(file.get("sample", "")) for file in json.loads(seen.body).get("files", []))
