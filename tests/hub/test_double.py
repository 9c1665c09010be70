"""The tests' Hub takes what huggingface_hub pushes as the real one does; with `-m hub`, the same on the real one."""

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.error import HTTPError

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    RepoCard,
    SpaceCard,
    SpaceHardware,
    constants,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.cards import card_problems
from tests.hub.server import HubServer
from tests.hub.target import HubTarget, in_process, loopback_target, target_fixture


CommitOperation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete

CARD = "---\nlicense: mit\ntags:\n- hftl\nbase_model: google-bert/bert-base-uncased\n---\n\n# A card\n"
BROKEN = base64.b64encode(b"---\na: [\n---\n").decode()
WEIGHTS = bytes(range(256)) * 1000  # 256,000 bytes: three parts of 100,000

# huggingface_hub sends files in a way that its HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")

target = target_fixture()
loopback = target_fixture(real=False, chunk_size=100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model folder, with a file that is large to the Hub and one in a sub-folder."""
    made = tmp_path / "model"
    (made / "adapter").mkdir(parents=True)
    (made / "README.md").write_text(CARD)
    (made / "config.json").write_text('{"model_type": "bert"}')
    (made / "model.safetensors").write_bytes(WEIGHTS)
    (made / "adapter" / "adapter_config.json").write_text("{}")
    return made


@pytest.fixture
def repo(target: HubTarget) -> str:
    """A private, empty model repository."""
    name = target.new_repo()
    with target.api() as api:
        api.create_repo(name, private=True)
    return name


@pytest.fixture
def api(loopback: HubTarget) -> Iterator[HfApi]:
    """huggingface_hub in this process, on a loopback Hub without faults of earlier tests."""
    hub = loopback.loopback()
    hub.faults.clear()
    hub.log.clear()
    with loopback.api() as found:
        yield found


@pytest.fixture
def hub(loopback: HubTarget) -> HubServer:
    return loopback.loopback()


@pytest.fixture
def pushed(loopback: HubTarget, api: HfApi, folder: Path) -> str:
    """A private model repository with the folder in it."""
    name = loopback.new_repo()
    api.create_repo(name, private=True)
    api.upload_folder(repo_id=name, folder_path=folder)
    loopback.loopback().log.clear()
    return name


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------- as on the real Hub, and tried there with -m hub


def test_a_folder_becomes_one_commit_and_comes_back(target: HubTarget, repo: str, folder: Path) -> None:
    with target.api() as api:
        before = [commit.commit_id for commit in api.list_repo_commits(repo)]
        made = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="First push")
        after = api.list_repo_commits(repo)
        assert [commit.commit_id for commit in after] == [made.oid, *before]
        assert after[0].title == "First push"
        info = api.model_info(repo, files_metadata=True)
        assert (info.id, info.sha, info.private) == (repo, made.oid, True)
        assert info.card_data is not None
        assert info.card_data.license == "mit"
        assert {"hftl", "license:mit"} <= set(info.tags or [])
        sizes = {item.rfilename: item.size for item in info.siblings or []}
        assert sizes["model.safetensors"] == len(WEIGHTS)
        top = {entry.path: type(entry).__name__ for entry in api.list_repo_tree(repo)}
        assert top["adapter"] == "RepoFolder"
        assert top["config.json"] == "RepoFile"
        assert "adapter/adapter_config.json" not in top
        assert [entry.path for entry in api.list_repo_tree(repo, "adapter")] == ["adapter/adapter_config.json"]
        copy = Path(snapshot_download(repo, revision=made.oid, cache_dir=target.home, token=target.token))
        assert copy.name == made.oid
    assert names(copy) - {".gitattributes"} == names(folder)
    for name in names(folder):
        assert (copy / name).read_bytes() == (folder / name).read_bytes()


def test_unchanged_files_make_no_commit(target: HubTarget, repo: str, folder: Path) -> None:
    with target.api() as api:
        first = api.upload_folder(repo_id=repo, folder_path=folder)
        assert api.upload_folder(repo_id=repo, folder_path=folder).oid == first.oid
        (folder / "config.json").write_text('{"model_type": "distilbert"}')
        second = api.upload_folder(repo_id=repo, folder_path=folder)
        assert second.oid != first.oid
        assert b"distilbert" in target.files(repo)["config.json"]
        assert b'"bert"' in target.files(repo, first.oid)["config.json"]  # history is kept


def test_a_repository_is_made_once(target: HubTarget, repo: str) -> None:
    with target.api() as api:
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_repo(repo, private=True)
        assert caught.value.response.status_code == 409
        assert api.create_repo(repo, private=True, exist_ok=True).repo_id == repo
        api.update_repo_settings(repo, visibility="public")
        assert api.model_info(repo).private is False
        api.delete_repo(repo)
        assert not api.repo_exists(repo)
        with pytest.raises(RepositoryNotFoundError):
            api.delete_repo(repo)
        api.delete_repo(repo, missing_ok=True)


def test_a_branch_leaves_main_alone(target: HubTarget, repo: str) -> None:
    with target.api() as api:
        main = api.model_info(repo).sha
        api.create_branch(repo, branch="v2/small")
        api.create_branch(repo, branch="v2/small", exist_ok=True)
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_branch(repo, branch="v2/small")
        assert caught.value.response.status_code == 409
        made = api.upload_file(
            repo_id=repo, path_or_fileobj=b"two", path_in_repo="a.txt", revision="v2/small", commit_message="Two"
        )
        refs = api.list_repo_refs(repo)
        assert {branch.name: branch.target_commit for branch in refs.branches} == {"main": main, "v2/small": made.oid}
        with pytest.raises(RevisionNotFoundError):
            api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="a.txt", revision="nowhere")
        api.delete_branch(repo, branch="v2/small")
        assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["main"]
    assert "a.txt" not in target.files(repo)


def test_a_pull_request_leaves_main_alone(target: HubTarget, repo: str, folder: Path) -> None:
    with target.api() as api:
        main = api.model_info(repo).sha
        made = api.upload_folder(repo_id=repo, folder_path=folder, create_pr=True)
        assert made.pr_revision == "refs/pr/1"
        assert made.pr_num == 1
        assert made.pr_url == f"{target.endpoint}/{repo}/discussions/1"
        assert api.model_info(repo).sha == main
        assert api.model_info(repo, revision="refs/pr/1").sha == made.oid
        more = api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="b.txt", revision="refs/pr/1")
        pulls = api.list_repo_refs(repo, include_pull_requests=True).pull_requests
        assert [(pull.ref, pull.target_commit) for pull in pulls or []] == [("refs/pr/1", more.oid)]
    assert target.files(repo, "refs/pr/1")["model.safetensors"] == WEIGHTS
    assert "config.json" not in target.files(repo)


def test_a_commit_is_whole_or_not_at_all(target: HubTarget, repo: str) -> None:
    with target.api() as api:
        first = api.model_info(repo).sha
        api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="one.txt")
        main = api.model_info(repo).sha
        add = CommitOperationAdd("two.txt", b"2")
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_commit(repo, [add], commit_message="Late", parent_commit=first)
        assert caught.value.response.status_code == 412
        half: list[CommitOperation] = [CommitOperationAdd("two.txt", b"2"), CommitOperationDelete("never.txt")]
        with pytest.raises(EntryNotFoundError):
            api.create_commit(repo, half, commit_message="Half")
        assert api.model_info(repo).sha == main
        operations: list[CommitOperation] = [CommitOperationAdd("sub/three.txt", b"3")]
        operations.append(CommitOperationDelete("one.txt"))
        api.create_commit(repo, operations, commit_message="Whole", parent_commit=main)
        api.delete_folder("sub", repo)
    assert set(target.files(repo)) == {".gitattributes"}


def test_cards_are_validated(target: HubTarget) -> None:
    with target.api():
        RepoCard(CARD).validate()
        with pytest.raises(ValueError, match="license"):
            ModelCard("---\nlicense: my-own-words\n---\n").validate()
        with pytest.raises(ValueError, match="sdk"):
            SpaceCard("---\ntitle: A\nsdk: cobol\n---\n").validate()


def test_a_readme_with_broken_front_matter_stops_the_push(target: HubTarget, repo: str, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n# x\n")
    with target.api() as api:
        main = api.model_info(repo).sha
        with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
            api.upload_folder(repo_id=repo, folder_path=folder)
        assert api.model_info(repo).sha == main


def test_a_space(target: HubTarget) -> None:
    repo = target.new_repo("space", "space")
    with target.api() as api:
        url = api.create_repo(repo, repo_type="space", space_sdk="static", private=True)
        assert (url.repo_type, url.repo_id) == ("space", repo)
        assert "sdk: static" in target.files(repo, repo_type="space")["README.md"].decode()
        api.add_space_variable(repo, "MODEL_ID", "tester/model", description="what it shows")
        found = api.get_space_variables(repo)
        assert (found["MODEL_ID"].value, found["MODEL_ID"].description) == ("tester/model", "what it shows")
        operations = [CommitOperationAdd("index.html", b"<p>Hello</p>")]
        api.create_commit(repo, operations, commit_message="Page", repo_type="space")
        info = api.space_info(repo)
        assert (info.sdk, info.private) == ("static", True)
        assert "index.html" in api.list_repo_files(repo, repo_type="space")
        assert api.get_space_runtime(repo).stage
        assert api.repo_exists(repo, repo_type="space")
        assert not api.repo_exists(repo, repo_type="model")


# ------------------------------------------------------------------------------------------- who may do what


def test_who_may_write(loopback: HubTarget, api: HfApi, hub: HubServer, tmp_path: Path) -> None:
    assert {"name": "tester", "type": "user"}.items() <= api.whoami().items()
    assert [org["name"] for org in api.whoami()["orgs"]] == ["acme", "watched"]
    api.create_repo("acme/probe", exist_ok=True)
    api.auth_check("acme/probe", write=True)
    refused = {}
    for who, token, namespace in (
        ("nobody", None, "tester"),
        ("a stranger", "hf_wrong", "tester"),
        ("a reader", hub.read_token, "tester"),
        ("elsewhere", hub.token, "google"),
        ("a watcher", hub.token, "watched"),
    ):
        with in_process(hub.url, token, tmp_path) as other, pytest.raises(HfHubHTTPError) as caught:
            other.create_repo(f"{namespace}/never")
        refused[who] = caught.value.response.status_code
    assert refused == {"nobody": 401, "a stranger": 401, "a reader": 403, "elsewhere": 403, "a watcher": 403}
    for token, status in ((None, 401), ("hf_wrong", 401), (hub.read_token, 403)):
        with in_process(hub.url, token, tmp_path) as other, pytest.raises(HfHubHTTPError) as caught:
            other.upload_file(repo_id="acme/probe", path_or_fileobj=b"x", path_in_repo="x.txt")
        assert caught.value.response.status_code == status
    assert set(hub.files("acme/probe")) == {".gitattributes"}
    assert not hub.exists("google/never")


def test_private_and_gated_repositories(api: HfApi, hub: HubServer, pushed: str, tmp_path: Path) -> None:
    with in_process(hub.url, None, tmp_path) as stranger:
        with pytest.raises(RepositoryNotFoundError) as caught:
            stranger.hf_hub_download(pushed, "config.json")
        assert caught.value.response.status_code == 401
        hub.set_access(pushed, private=False)
        assert stranger.model_info(pushed).private is False
        hub.set_access(pushed, gated="manual")
        with pytest.raises(GatedRepoError) as gated:
            stranger.hf_hub_download(pushed, "config.json")
        assert gated.value.response.status_code == 401
        hub.set_access(pushed, gated=False)
        assert stranger.hf_hub_download(pushed, "config.json")
    served = hub.root / "models" / "google" / "secret"
    served.mkdir(parents=True, exist_ok=True)
    (served / "config.json").write_text("{}")
    hub.set_access("google/secret", gated="auto", granted=False)
    with pytest.raises(GatedRepoError) as caught_gated:
        api.hf_hub_download("google/secret", "config.json")
    assert caught_gated.value.response.status_code == 403
    hub.set_access("google/secret", private=True)
    with pytest.raises(RepositoryNotFoundError) as absent:
        api.model_info("google/secret")
    assert absent.value.response.status_code == 404


def test_a_stranger_may_propose_to_a_public_repository(api: HfApi, hub: HubServer) -> None:
    served = hub.root / "models" / "google" / "open"
    served.mkdir(parents=True)
    (served / "config.json").write_text('{"a": 1}')
    before = hub.sha("google/open")
    with pytest.raises(HfHubHTTPError, match="create_pr"):
        api.upload_file(repo_id="google/open", path_or_fileobj=b"{}", path_in_repo="config.json")
    made = api.upload_file(repo_id="google/open", path_or_fileobj=b"{}", path_in_repo="config.json", create_pr=True)
    assert hub.files("google/open", made.pr_revision or "")["config.json"] == b"{}"
    assert hub.sha("google/open") == before
    assert (served / "config.json").read_text() == '{"a": 1}'  # the folder stays as it was


def test_a_served_folder_can_be_pushed_to(api: HfApi, hub: HubServer) -> None:
    served = hub.root / "models" / "tester" / "served"
    served.mkdir(parents=True)
    (served / "config.json").write_text('{"a": 1}')
    before = hub.sha("tester/served")
    made = api.upload_file(repo_id="tester/served", path_or_fileobj=b'{"a": 2}', path_in_repo="config.json")
    assert hub.sha("tester/served") == made.oid
    assert hub.files("tester/served")["config.json"] == b'{"a": 2}'
    assert hub.files("tester/served", before)["config.json"] == b'{"a": 1}'
    assert names(served) == {"config.json"}
    assert (served / "config.json").read_text() == '{"a": 1}'
    (served / "config.json").write_text("changed later")
    assert hub.files("tester/served", before)["config.json"] == b'{"a": 1}'
    api.delete_repo("tester/served")
    assert not hub.exists("tester/served")
    assert served.is_dir()


# ------------------------------------------------------------------------------------------- large files


def test_large_files_travel_in_parts(api: HfApi, hub: HubServer, pushed: str) -> None:
    content = bytes(reversed(range(256))) * 900
    api.upload_file(repo_id=pushed, path_or_fileobj=content, path_in_repo="other.bin")
    parts = [seen.body.stat().st_size for seen in hub.log if seen.method == "PUT" and seen.body]
    assert parts == [100_000, 100_000, 30_400]
    assert hub.files(pushed)["other.bin"] == content
    assert not any(seen.authorized for seen in hub.log if "/lfs-storage/" in seen.path)  # storage gets no token
    hub.log.clear()
    api.upload_file(repo_id=pushed, path_or_fileobj=content, path_in_repo="again.bin")  # it is there already
    assert not any(seen.method == "PUT" for seen in hub.log)
    assert hub.files(pushed)["again.bin"] == content


def _send(hub: HubServer, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """A request without huggingface_hub, which would not do what is tried here."""
    url = path if path.startswith("http") else hub.url + path
    headers = {"Authorization": f"Bearer {hub.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def _commit(hub: HubServer, repo: str, *lines: tuple[str, Mapping[str, object]]) -> int:
    header = ("header", {"summary": "by hand"})
    body = b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in (header, *lines))
    return _send(hub, "POST", f"/api/models/{repo}/commit/main", body)[0]


def test_damaged_large_files_are_refused(hub: HubServer, pushed: str) -> None:
    oid, size, before = "ab" * 32, 5, hub.sha(pushed)
    for transfers in (["basic"], ["basic", "multipart"]):
        asked = {"operation": "upload", "transfers": transfers, "objects": [{"oid": oid, "size": size}]}
        _, reply = _send(hub, "POST", f"/{pushed}.git/info/lfs/objects/batch", json.dumps(asked).encode())
        actions = json.loads(reply)["objects"][0]["actions"]
        check = actions["verify"]["href"], json.dumps({"oid": oid, "size": size}).encode()
        if transfers == ["basic"]:
            assert _send(hub, "POST", *check)[0] == 404  # nothing has arrived
        assert _send(hub, "PUT", actions["upload"]["href"], b"12345")[0] == 200
        assert _send(hub, "POST", *check)[0] == 422  # another content than announced
        pointer = {"path": "x.bin", "algo": "sha256", "oid": oid, "size": size}
        assert _commit(hub, pushed, ("lfsFile", pointer)) == 400
    asked = {"operation": "upload", "transfers": ["multipart"], "objects": [{"oid": oid, "size": 150_000}]}
    _, reply = _send(hub, "POST", f"/{pushed}.git/info/lfs/objects/batch", json.dumps(asked).encode())
    upload = json.loads(reply)["objects"][0]["actions"]["upload"]
    assert set(upload["header"]) == {"chunk_size", "1", "2"}
    _send(hub, "PUT", upload["header"]["1"], b"x" * 100_000)
    wrong = {"oid": oid, "parts": [{"partNumber": 1, "etag": '"no"'}]}
    assert _send(hub, "POST", upload["href"], json.dumps(wrong).encode())[0] == 400
    assert hub.sha(pushed) == before


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("file", {"path": "../up.txt", "content": "", "encoding": "base64"}, 400),
        ("file", {"path": "/top.txt", "content": "", "encoding": "base64"}, 400),
        ("file", {"path": ".git/config", "content": "", "encoding": "base64"}, 400),
        ("file", {"path": "config.json/x", "content": "", "encoding": "base64"}, 400),
        ("file", {"path": "x.txt", "content": "???", "encoding": "base64"}, 400),
        ("file", {"path": "x.safetensors", "content": "AAAA", "encoding": "base64"}, 400),
        ("file", {"path": "README.md", "content": BROKEN, "encoding": "base64"}, 400),
        ("lfsFile", {"path": "x.bin", "algo": "sha256", "oid": "00" * 32, "size": 3}, 400),
        ("deletedFolder", {"path": "nowhere/"}, 404),
        ("renamed", {"path": "config.json"}, 400),
        ("file", {"path": "x.txt", "content": "AAAA", "encoding": "base64"}, 200),
    ],
)  # fmt: skip
def test_commits_made_by_hand(hub: HubServer, pushed: str, key: str, value: dict[str, object], status: int) -> None:
    before = hub.sha(pushed)
    good = ("file", {"path": "good.txt", "content": "AAAA", "encoding": "base64"})
    assert _commit(hub, pushed, good, (key, value)) == status
    assert (hub.sha(pushed) == before) == (status != 200)
    assert ("good.txt" in hub.files(pushed)) == (status == 200)


# ------------------------------------------------------------------------------------------- cards and Spaces

RESULT = "model-index:\n- name: m\n  results:\n  - task: {type: text-classification}\n"
DATASET, METRICS = "    dataset: {type: d/d, name: D}\n", "    metrics:\n    - {type: accuracy, value: 0.5}\n"


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("model", CARD, None),
        ("model", f"---\nlicense: mit\n{RESULT}{DATASET}{METRICS}---\n", None),
        ("model", f"---\nlicense: mit\n{RESULT}{DATASET}---\n", "metrics"),
        ("model", f"---\nlicense: mit\n{RESULT}{METRICS}---\n", "dataset.name"),
        ("model", "---\nlicense: mit\nmodel-index: 3\n---\n", "model-index"),
        ("model", "---\nbase_model: /home/me/bert\n---\n", "base_model"),
        ("model", "---\ntags: {a: 1}\n---\n", "tags"),
        ("model", "---\n- a\n- b\n---\n", "mapping"),
        ("model", "---\na: b: c\n---\n", "YAML"),
        ("space", "---\nsdk: gradio\ncolorFrom: blue\nsdk_version: '6.31.0'\n---\n", None),
        ("space", "---\nsdk: gradio\ncolorFrom: mauve\n---\n", "colorFrom"),
        ("space", "---\nsdk: gradio\nsdk_version: 6.3\n---\n", "sdk_version"),
        ("space", f"---\nsdk: gradio\nshort_description: {'x' * 61}\n---\n", "short_description"),
    ],
)
def test_front_matter_rules(kind: str, text: str, complaint: str | None) -> None:
    errors, _ = card_problems(text, kind)
    assert bool(errors) == bool(complaint)
    assert complaint is None or complaint in errors[0]


def test_no_front_matter_is_a_warning() -> None:
    assert card_problems("# Only words\n", "model") == ([], ["empty or missing yaml metadata in repo card"])


def test_hardware_and_secrets_of_a_space(loopback: HubTarget, api: HfApi, hub: HubServer) -> None:
    repo = loopback.new_repo("space", "space")
    with pytest.raises(ValueError, match="space_sdk"):
        api.create_repo(repo, repo_type="space")
    api.create_repo(repo, repo_type="space", space_sdk="gradio", space_variables=[{"key": "A", "value": "1"}])
    assert api.get_space_variables(repo)["A"].value == "1"
    assert api.get_space_runtime(repo).stage == "NO_APP_FILE"
    api.upload_file(repo_id=repo, repo_type="space", path_or_fileobj=b"print(1)", path_in_repo="app.py")
    asked = api.request_space_hardware(repo, SpaceHardware.ZERO_A10G)
    assert (asked.stage, asked.requested_hardware) == ("BUILDING", SpaceHardware.ZERO_A10G)
    with pytest.raises(HfHubHTTPError) as caught:
        api.add_space_secret(repo, "HF_TOKEN", "never")
    assert caught.value.response.status_code == 403
    assert list(hub.repository(repo, "spaces").secrets) == ["HF_TOKEN"]  # recorded, by name


# ------------------------------------------------------------------------------------------- what arrived


def test_all_that_arrives_can_be_searched(loopback: HubTarget, hub: HubServer, folder: Path) -> None:
    hub.log.clear()
    (folder / "notes.txt").write_text("x" * 600 + " a private sentence")  # beyond the sample that preupload sends
    (folder / "model.safetensors").write_bytes(b"x" * 99_990 + b"straddles two parts" + b"x" * 50_000)
    repo = loopback.new_repo()
    code = f"""
from huggingface_hub import HfApi
api = HfApi()
api.create_repo({repo!r})
api.upload_folder(repo_id={repo!r}, folder_path={str(folder)!r}, commit_message="A spoken title")
"""
    env = {**os.environ, **hub.env(loopback.home, token=hub.token)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    received = hub.received_bytes()
    for words in (b"a private sentence", b"straddles two parts", b"A spoken title", b"adapter_config.json"):
        assert words in received
    assert b"never sent" not in received
    assert hub.token.encode() not in received  # it goes into the Authorization header only
    assert all(seen.authorized for seen in hub.log if seen.path.startswith("/api/models"))
    where = [label for label, content in hub.received() if b"a private sentence" in content]
    assert where == [f"POST /api/models/{repo}/commit/main notes.txt"]


def test_everything_is_cleared_away_and_set_back(tmp_path: Path) -> None:
    before = constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, os.environ.get("HF_TOKEN")
    with loopback_target(tmp_path, user="somebody") as other:
        repo = other.new_repo()
        with other.api() as api:
            api.create_repo(repo)
            assert (api.endpoint, constants.ENDPOINT) == (other.endpoint, other.endpoint)
            assert ModelCard(CARD).push_to_hub(repo).endswith(f"/{repo}/commit/{other.loopback().sha(repo)}")
        assert repo.startswith("somebody/hftl-test-model-")
        other.delete_all()
        assert not other.loopback().exists(repo)
        assert other.token not in repr(other)
    assert (constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, os.environ.get("HF_TOKEN")) == before


# ------------------------------------------------------------------------------------------- faults


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long huggingface_hub wanted to wait between its tries; it does not."""
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 429, 500, 503])
def test_a_refused_commit_leaves_main_as_it_was(api: HfApi, hub: HubServer, pushed: str, status: int) -> None:
    before = hub.sha(pushed)
    fault = hub.fail("POST", "/commit/", status)
    expected = RepositoryNotFoundError if status == 404 else HfHubHTTPError
    with pytest.raises(expected) as caught:
        api.upload_file(repo_id=pushed, path_or_fileobj=b"x", path_in_repo="x.txt")
    assert caught.value.response.status_code == status
    assert (fault.hits, hub.sha(pushed)) == (1, before)
    if status == 429:
        assert caught.value.response.headers["Retry-After"] == "1"
    api.upload_file(repo_id=pushed, path_or_fileobj=b"x", path_in_repo="x.txt")  # it was for one request
    assert hub.files(pushed)["x.txt"] == b"x"


@pytest.mark.parametrize(("status", "expected"), [(429, [8.0, 8.0]), (503, [1.0, 2.0])])
def test_what_huggingface_hub_tries_again(
    api: HfApi, hub: HubServer, pushed: str, waits: list[float], status: int, expected: list[float]
) -> None:
    headers = {"Retry-After": "7"} if status == 429 else {}
    hub.fail("POST", "/preupload/", status, times=2, headers=headers)
    api.upload_file(repo_id=pushed, path_or_fileobj=b"x", path_in_repo="x.txt")
    assert waits == expected
    assert hub.files(pushed)["x.txt"] == b"x"


def test_an_upload_cut_in_the_middle(api: HfApi, hub: HubServer, pushed: str, waits: list[float]) -> None:
    fault = hub.fail("PUT", "/lfs-storage/", cut_upload=30_000, skip=1)
    content = os.urandom(250_000)
    api.upload_file(repo_id=pushed, path_or_fileobj=content, path_in_repo="new.bin")
    assert (fault.hits, len(waits)) == (1, 1)
    sizes = [seen.body.stat().st_size for seen in hub.log if seen.method == "PUT" and seen.body]
    assert sizes == [100_000, 30_000, 100_000, 50_000]
    assert hub.files(pushed)["new.bin"] == content


def test_an_upload_cut_each_time_fails_and_can_be_repeated(
    api: HfApi, hub: HubServer, pushed: str, folder: Path, waits: list[float]
) -> None:
    before = hub.sha(pushed)
    (folder / "model.safetensors").write_bytes(os.urandom(50_000))
    fault = hub.fail("PUT", "/lfs-storage/", cut_upload=10_000, times=None)
    with pytest.raises(Exception, match=r"model\.safetensors"):
        api.upload_folder(repo_id=pushed, folder_path=folder)
    assert fault.hits == 6
    assert hub.sha(pushed) == before
    hub.faults.clear()
    api.upload_folder(repo_id=pushed, folder_path=folder)
    assert hub.files(pushed)["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_a_download_cut_in_the_middle_goes_on_where_it_stopped(
    api: HfApi, hub: HubServer, pushed: str, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # what is kept of a download that broke
    fault = hub.fail("GET", r"/resolve/.*model\.safetensors", cut_download=120_000)
    path = api.hf_hub_download(pushed, "model.safetensors", cache_dir=tmp_path / "fresh")
    assert Path(path).read_bytes() == WEIGHTS
    assert fault.hits == 1
    asked = [seen.headers.get("range") for seen in hub.log if seen.method == "GET" and "/resolve/" in seen.path]
    assert asked == [None, "bytes=100000-"]


def test_a_lost_reply_to_a_commit(api: HfApi, hub: HubServer, pushed: str) -> None:
    before = hub.history(pushed)
    hub.fail("POST", "/commit/", drop_reply=True)
    with pytest.raises(Exception, match="disconnected"):
        api.upload_file(repo_id=pushed, path_or_fileobj=b"x", path_in_repo="x.txt", commit_message="Twice?")
    assert hub.history(pushed) == ["Twice?", *before]  # it was done all the same
    api.upload_file(repo_id=pushed, path_or_fileobj=b"x", path_in_repo="x.txt", commit_message="Twice?")
    assert hub.history(pushed) == ["Twice?", *before]


def test_a_slow_reply(api: HfApi, hub: HubServer, pushed: str) -> None:
    fault = hub.fail("GET", "/api/models/", delay=1.0)
    with pytest.raises(Exception, match="timed out"):
        api.model_info(pushed, timeout=0.1)
    assert api.model_info(pushed, timeout=60).id == pushed
    assert fault.hits == 1
