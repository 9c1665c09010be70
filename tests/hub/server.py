"""A small Hub on the loopback address: models, datasets and Spaces to download from folders, and to push to.

Standard library only (PyYAML for front matter). Nothing here imports `huggingface_hub`, so a process may start the
server, set `env()` and only then import the libraries that read it.

    with HubServer(tmp_path) as hub:                         # serves the folders below tmp_path/models and so on
        run("push", env={**os.environ, **hub.env(token=hub.token)})   # who pushes is a subprocess
        hub.files("tester/name")["config.json"]              # what stands there now
        hub.fail("PUT", "/lfs-storage/", 503, times=2)       # the next two uploads of large files fail
        assert b"secret" not in hub.received_bytes()         # everything that ever arrived

In the same process: `tests.hub.target.in_process`. Where each part is: repos (state), reads, writes, lfs, cards
(validation of front matter), faults, http (the wire).
"""

import base64
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from tests.hub.faults import Fault, Faults
from tests.hub.http import LoopbackServer, Seen, handler_for
from tests.hub.lfs import STORAGE, batch, storage, verify
from tests.hub.reads import READS, Endpoint, info, resolve, whoami
from tests.hub.replies import HubError, Reply, Request
from tests.hub.repos import KINDS, Accounts, HubState, Repository
from tests.hub.writes import WRITES, create_repository, delete_repository, validate_yaml


TOKEN = "hf_" + "T" * 34  # as long as real ones, and no secret
ORGANIZATIONS = {"acme": "write", "watched": "read"}  # name -> the user's role in it

_TABLE: dict[tuple[str, str], Endpoint] = {
    **{(method, verb): endpoint for verb, endpoint in READS.items() for method in ("GET", "HEAD", "POST")},
    **WRITES,
}
_VERBS = frozenset(verb for _, verb in _TABLE) | {"resolve", "discussions"}


class HubServer:
    """Serves `root/models/<namespace>/<name>/`, `root/datasets/...` and `root/spaces/...` as a Hub would.

    The folders are read at every request, so repositories may be added or changed while the server runs, until a
    client commits to one: from then on the server has its own copy, and the folder is never written to.

    `token` writes to the namespaces `user` and those of `organizations` whose role is write or admin; `read_token`
    is valid and may not write. Any other token is refused everywhere. `requests` lists every (method, path) asked for, the query included; what was
    meant for another host stands there with its whole address. `log` has the same with headers, bodies and replies.
    """

    def __init__(
        self,
        root: Path,
        token: str = TOKEN,
        user: str = "tester",
        organizations: Mapping[str, str] = ORGANIZATIONS,
    ) -> None:
        self.token, self.read_token, self.user = token, f"{token}_read", user
        self.state = HubState(Path(root), Accounts(token, self.read_token, user, organizations))
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self.log: list[Seen] = []
        self._server: LoopbackServer | None = None
        self._thread: threading.Thread | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None

    @property
    def root(self) -> Path:
        return self.state.root

    def start(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-")
        self.state.store = Path(self._home.name) / "server"
        self._server = LoopbackServer(("127.0.0.1", 0), handler_for(self))
        self.state.url = self.url
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

    def env(self, home: Path | None = None, token: str | None = None) -> dict[str, str]:
        """Variables for a client process, to be set before it imports `huggingface_hub`.

        Every cache goes below `home`, by default a folder that goes away with the server; no token is sent unless
        one is given. The server is the client's proxy too, and refuses: what is meant for another host (the dataset
        viewer, say) fails at once, with no name looked up and nothing leaving the machine.
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
            "HF_TOKEN": token or "",
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

    # ------------------------------------------------------------------------------------------ what a test asks

    def repository(self, hub_id: str, kind: str = "models") -> Repository:
        """The repository as the server knows it (private, gated, variables, refs); KeyError where there is none."""
        found = self.state.find(kind, hub_id)
        if found is None:
            raise KeyError(f"{kind}/{hub_id}")
        return found

    def exists(self, hub_id: str, kind: str = "models") -> bool:
        return self.state.find(kind, hub_id) is not None

    def sha(self, hub_id: str, revision: str = "main", kind: str = "models") -> str:
        """The commit that a revision of this repository stands at."""
        return self.repository(hub_id, kind).at(revision).sha

    def files(self, hub_id: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        """Every file at that revision, by its path."""
        snapshot = self.repository(hub_id, kind).at(revision).snapshot
        return {name: path.read_bytes() for name, path in snapshot.files.items()}

    def history(self, hub_id: str, revision: str = "main", kind: str = "models") -> list[str]:
        """The titles of the commits, the newest first."""
        return [commit.title for commit in self.repository(hub_id, kind).history(revision)]

    def set_access(self, hub_id: str, kind: str = "models", *, private: bool) -> None:
        """Make a repository private, or public."""
        self.state.claim(self.repository(hub_id, kind)).private = private

    def fail(self, method: str, path: str, status: int | None = None, **how: Any) -> Fault:
        """The next requests that match fail: see `tests.hub.faults.Fault` for what may be asked."""
        return self.faults.add(Fault(method, path, status=status, **how))

    def received(self) -> Iterator[tuple[str, bytes]]:
        """(where it came in, bytes) of all that arrived: request lines and headers, bodies, files out of commits.

        The token that authorises a request is not among it; one that stood anywhere else is.
        """
        for seen in self.log:
            label = f"{seen.method} {seen.path}"
            headers = "\n".join(f"{name}: {value}" for name, value in seen.headers.items())
            yield f"{label} (headers)", f"{label}\n{unquote(label)}\n{headers}".encode()
            if seen.body is not None and seen.body.exists():
                content = seen.body.read_bytes()
                yield label, content
                yield from _inside(label, content)

    def received_bytes(self) -> bytes:
        """All that arrived in one piece, to be searched for what should not be there."""
        return b"\n".join(content for _, content in self.received())

    # ------------------------------------------------------------------------------------------ endpoints

    def answer(self, request: Request) -> Reply:
        """The reply to a request; raises HubError for a refusal."""
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        if any(part in ("", ".", "..") for part in parts):
            raise HubError(404, "Not found", "EntryNotFound")
        if parts[0] == "api":
            return self._answer_api(request, parts[1:])
        if parts[0] == STORAGE:
            return storage(self.state, request, parts[1:])
        kind = parts.pop(0) if parts[0] in KINDS else "models"
        hub_id, rest = _split_id(parts)
        if rest[:3] == ["info", "lfs", "objects"] and hub_id.endswith(".git") and request.method == "POST":
            endpoint = {"batch": batch, "verify": verify}.get(rest[-1])
            if endpoint is not None:
                return endpoint(self.state, request, kind, hub_id.removesuffix(".git"))
        if len(rest) >= 3 and rest[0] == "resolve" and request.method in ("GET", "HEAD"):
            return resolve(self.state, request, kind, hub_id, rest[1:])
        raise HubError(404, "Not found", "EntryNotFound")

    def _answer_api(self, request: Request, parts: list[str]) -> Reply:
        named = {
            ("GET", "whoami-v2"): whoami,
            ("POST", "validate-yaml"): validate_yaml,
            ("POST", "repos/create"): create_repository,
            ("DELETE", "repos/delete"): delete_repository,
        }.get((request.method, "/".join(parts)))
        if named is not None:
            return named(self.state, request)
        if len(parts) < 2 or parts[0] not in KINDS:
            raise HubError(404, "Not found", "EntryNotFound")
        hub_id, rest = _split_id(parts[1:])
        if not rest and request.method in ("GET", "HEAD"):
            return info(self.state, request, parts[0], hub_id, [])
        endpoint = _TABLE.get((request.method, rest[0] if rest else ""))
        if endpoint is None:
            raise HubError(404, "Not found", "EntryNotFound")
        return endpoint(self.state, request, parts[0], hub_id, rest[1:])


def _split_id(parts: list[str]) -> tuple[str, list[str]]:
    """`name` or `ns/name`, and what follows it."""
    length = 1 if len(parts) < 2 or parts[1] in _VERBS else 2
    return "/".join(parts[:length]), parts[length:]


def _inside(label: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in a commit, and the samples in a request before it: both travel as base64."""
    if "/commit/" in label:
        for line in content.splitlines():
            value = json.loads(line).get("value", {}) if line.startswith(b"{") and line.endswith(b"}") else {}
            if "content" in value:
                yield f"{label} {value.get('path')}", base64.b64decode(value["content"])
    elif "/preupload/" in label:
        for file in json.loads(content).get("files", []):
            yield f"{label} {file.get('path')}", base64.b64decode(file.get("sample", ""))
