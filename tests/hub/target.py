"""The Hub that a test pushes to: the one on this machine, and the real one when that is asked for.

A test module says

    from tests.hub.target import HubTarget, target_fixture

    target = target_fixture()

    def test_push(target: HubTarget) -> None:
        repo = target.new_repo("probe")              # namespace/hftl-test-probe-1f3a..., deleted afterwards
        done = shell(["-m", "hftl", "push", run, repo], cwd, target.env)     # clients are processes of their own
        assert "config.json" in target.files(repo)   # read back from the Hub
        target.server ...                            # the HubServer behind it; None when it is the real Hub

and each of its tests that takes `target` stands there twice: `[loopback]`, which always runs, and `[real]`, marked
`hub`, which runs with `HFTL_TEST_HUB=1 make test-hub` and a token that may write (HF_TOKEN, or the one that
`hf auth login` kept). On the real Hub the namespace is the token owner's, repositories get names that nobody uses and
are deleted when the module is done, whatever happened in between. What only the loopback Hub can do (faults, what
arrived, a namespace that may not be written) is tested with `target_fixture(real=False)`, or behind
`target.loopback()`, which skips the test elsewhere.

`in_process(url, token, home)` points the huggingface_hub of this very process at a Hub for the length of a `with`.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.hub.server import HubServer


if TYPE_CHECKING:
    from huggingface_hub import HfApi

REAL = os.environ.get("HFTL_TEST_HUB") == "1"
REAL_ENDPOINT = "https://huggingface.co"

Scope = Literal["session", "module", "function"]


@dataclass
class HubTarget:
    """Where to push to. `env` holds the variables of a client process, the token among them."""

    endpoint: str
    namespace: str
    token: str = field(repr=False)
    env: dict[str, str] = field(repr=False)
    home: Path
    server: HubServer | None = None
    made: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_real(self) -> bool:
        return self.server is None

    def loopback(self) -> HubServer:
        """The server behind it; on the real Hub the test is skipped."""
        if self.server is None:
            pytest.skip("only the Hub on this machine can do this")
        return self.server

    def new_repo(self, stem: str = "model", repo_type: str = "model") -> str:
        """A repository name that nobody uses, deleted at the end if something was pushed there."""
        repo_id = f"{self.namespace}/hftl-test-{stem}-{uuid.uuid4().hex[:12]}"
        self.made.append((repo_id, repo_type))
        return repo_id

    @contextmanager
    def api(self) -> Iterator["HfApi"]:
        """huggingface_hub in this process, signed in to this Hub."""
        with in_process(self.endpoint, self.token, self.home) as api:
            yield api

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """Every file at that revision, downloaded."""
        with self.api() as api:
            names = api.list_repo_files(repo_id, revision=revision, repo_type=repo_type)
            paths = [api.hf_hub_download(repo_id, name, revision=revision, repo_type=repo_type) for name in names]
        return {name: Path(path).read_bytes() for name, path in zip(names, paths, strict=True)}

    def delete_all(self) -> None:
        """Delete what the tests made here; faults that are still in force must not be in the way."""
        if self.server is not None:
            self.server.faults.clear()
        with self.api() as api:
            for repo_id, repo_type in self.made:
                api.delete_repo(repo_id, repo_type=repo_type, missing_ok=True)
        self.made.clear()


def target_fixture(scope: Scope = "module", real: bool = True, **server: Any) -> Any:
    """A fixture that gives a HubTarget; `server` are HubServer's own parameters (user, organizations...)."""
    on_hub = pytest.param("real", marks=[pytest.mark.hub, pytest.mark.skipif(not REAL, reason="HFTL_TEST_HUB=1")])

    @pytest.fixture(scope=scope, params=["loopback", on_hub] if real else ["loopback"])
    def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubTarget]:
        home = tmp_path_factory.mktemp("hub")
        opened: Callable[..., Any] = real_target if request.param == "real" else loopback_target
        with opened(home, **({} if request.param == "real" else server)) as found:
            try:
                yield found
            finally:
                found.delete_all()

    return target


@contextmanager
def loopback_target(home: Path, **server: Any) -> Iterator[HubTarget]:
    """A Hub on this machine, empty, with its one user signed in."""
    with HubServer(home / "served", **server) as hub:
        env = {**_without_hub(os.environ), **hub.env(home / "home", token=hub.token), "OMP_NUM_THREADS": "1"}
        yield HubTarget(hub.url, hub.user, hub.token, env, home / "here", hub)


@contextmanager
def real_target(home: Path) -> Iterator[HubTarget]:
    """The real Hub, with the token of whoever runs the tests; caches go below `home`."""
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        pytest.fail("HFTL_TEST_HUB=1 needs a token that may write: set HF_TOKEN")
    env = {**_without_hub(os.environ), "HF_ENDPOINT": REAL_ENDPOINT, "HF_HOME": str(home / "home"), "HF_TOKEN": token}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with in_process(REAL_ENDPOINT, token, home / "here") as api:
        namespace = api.whoami()["name"]
    yield HubTarget(REAL_ENDPOINT, namespace, token, {**env, "OMP_NUM_THREADS": "1"}, home / "here")


def _without_hub(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}


@contextmanager
def in_process(url: str, token: str | None, home: Path) -> Iterator["HfApi"]:
    """Point the huggingface_hub of this process at a Hub, whatever it was set to when it was imported.

    Endpoint, token, caches and the offline switch are as for a client process with those variables; afterwards
    everything is as before.
    """
    from huggingface_hub import HfApi, constants, hf_api
    from huggingface_hub.utils import close_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(hf_api.api, "endpoint", url)  # behind upload_file() and its like
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_ASSETS_CACHE", str(home / "assets"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        for name in ("HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_TOKEN", token or "")
        close_session()  # its client may have been made for other settings
        try:
            yield HfApi(endpoint=url, token=token or False)
        finally:
            close_session()
