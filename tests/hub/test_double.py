"""The tests' Hub takes what huggingface_hub pushes as the real one does; with `-m hub`, the same on the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    ModelCard,
    SpaceCard,
    constants,
    snapshot_download,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub.target import HubTarget, loopback_target, target_fixture


CARD = "---\nlicense: mit\ntags:\n- hftl\nbase_model: google-bert/bert-base-uncased\n---\n\n# A card\n"
WEIGHTS = bytes(range(256)) * 1000

# huggingface_hub sends files in a way that its HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")

target = target_fixture()


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


def status_of(caught: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return caught.value.response.status_code


def test_a_folder_becomes_one_commit_and_comes_back(target: HubTarget, repo: str, folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    with target.api() as api:
        before = [commit.commit_id for commit in api.list_repo_commits(repo)]
        made = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="First push")
        after = api.list_repo_commits(repo)
        assert [commit.commit_id for commit in after] == [made.oid, *before]
        assert after[0].title == "First push"
        info = api.model_info(repo, files_metadata=True)
        assert (info.id, info.sha, info.private) == (repo, made.oid, True)
        assert {"hftl", "license:mit"} <= set(info.tags or [])
        assert {item.rfilename: item.size for item in info.siblings or []}["model.safetensors"] == len(WEIGHTS)
        copy = Path(snapshot_download(repo, revision=made.oid, cache_dir=target.home, token=target.token))
        assert copy.name == made.oid
        for name in names:
            assert (copy / name).read_bytes() == (folder / name).read_bytes()
        assert api.upload_folder(repo_id=repo, folder_path=folder).oid == made.oid  # nothing is new
        (folder / "config.json").write_text('{"model_type": "distilbert"}')
        assert api.upload_folder(repo_id=repo, folder_path=folder).oid != made.oid
    assert set(target.files(repo)) - {".gitattributes"} == names
    assert b'"bert"' in target.files(repo, made.oid)["config.json"]  # history is kept


def test_a_repository_is_made_once(target: HubTarget, repo: str) -> None:
    with target.api() as api:
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_repo(repo, private=True)
        assert status_of(caught) == 409
        assert api.create_repo(repo, private=True, exist_ok=True).repo_id == repo
        api.delete_repo(repo)
        with pytest.raises(RepositoryNotFoundError):
            api.delete_repo(repo)
        api.delete_repo(repo, missing_ok=True)


def test_a_branch_and_a_pull_request_leave_main_alone(target: HubTarget, repo: str, folder: Path) -> None:
    with target.api() as api:
        main = api.model_info(repo).sha
        api.create_branch(repo, branch="v2/small")
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_branch(repo, branch="v2/small")
        assert status_of(caught) == 409
        api.upload_file(repo_id=repo, path_or_fileobj=b"two", path_in_repo="a.txt", revision="v2/small")
        with pytest.raises(RevisionNotFoundError):
            api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="a.txt", revision="nowhere")
        made = api.upload_folder(repo_id=repo, folder_path=folder, create_pr=True)
        assert (made.pr_revision, made.pr_url) == ("refs/pr/1", f"{target.endpoint}/{repo}/discussions/1")
        assert api.model_info(repo, revision="refs/pr/1").sha == made.oid
        assert api.model_info(repo).sha == main
    assert target.files(repo, "v2/small")["a.txt"] == b"two"
    assert target.files(repo, "refs/pr/1")["model.safetensors"] == WEIGHTS
    assert set(target.files(repo)) == {".gitattributes"}


def test_a_commit_is_made_completely_or_not_at_all(target: HubTarget, repo: str) -> None:
    with target.api() as api:
        first = api.model_info(repo).sha
        api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="one.txt")
        main = api.model_info(repo).sha
        add = CommitOperationAdd("two.txt", b"2")
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_commit(repo, [add], commit_message="Late", parent_commit=first)
        assert status_of(caught) == 412
        with pytest.raises(EntryNotFoundError):
            api.create_commit(repo, [add, CommitOperationDelete("never.txt")], commit_message="Half")
        assert api.model_info(repo).sha == main
        api.create_commit(repo, [add, CommitOperationDelete("one.txt")], commit_message="Both", parent_commit=main)
    assert set(target.files(repo)) == {".gitattributes", "two.txt"}


def test_cards_are_validated(target: HubTarget, repo: str, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n# x\n")
    with target.api() as api:
        ModelCard(CARD).validate()
        with pytest.raises(ValueError, match="license"):
            ModelCard("---\nlicense: my-own-words\n---\n").validate()
        with pytest.raises(ValueError, match="sdk"):
            SpaceCard("---\ntitle: A\nsdk: cobol\n---\n").validate()
        with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
            api.upload_folder(repo_id=repo, folder_path=folder)
    assert set(target.files(repo)) == {".gitattributes"}


def test_a_space(target: HubTarget) -> None:
    repo = target.new_repo("space", "space")
    with target.api() as api:
        url = api.create_repo(repo, repo_type="space", space_sdk="static", private=True)
        assert (url.repo_type, url.repo_id) == ("space", repo)
        api.add_space_variable(repo, "MODEL_ID", "tester/model")
        assert api.get_space_variables(repo)["MODEL_ID"].value == "tester/model"
        operations = [CommitOperationAdd("index.html", b"<p>Hello</p>")]
        api.create_commit(repo, operations, commit_message="Page", repo_type="space")
        info = api.space_info(repo)
        assert (info.sdk, info.private) == ("static", True)
        assert "index.html" in api.list_repo_files(repo, repo_type="space")


def test_who_may_write(target: HubTarget) -> None:
    hub, repo = target.loopback(), target.new_repo("mine")
    with target.api() as api:
        for token, name, status in (
            (hub.token, "nobody/x", 403),
            (hub.token, "watched/x", 403),
            (hub.read_token, repo, 403),
            ("hf_" + "w" * 34, repo, 401),
        ):
            with pytest.raises(HfHubHTTPError) as caught:
                api.create_repo(name, token=token)
            assert status_of(caught) == status
        api.create_repo(repo, private=True)
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(repo, token=False)


def test_all_that_arrives_can_be_searched(target: HubTarget, repo: str, folder: Path) -> None:
    hub = target.loopback()
    (folder / "notes.txt").write_text("x" * 600 + " a private sentence")  # beyond the sample that preupload sends
    with target.api() as api:
        hub.log.clear()
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A spoken title")
    received = hub.received_bytes()
    for words in (b"a private sentence", WEIGHTS, b"A spoken title", b"adapter_config.json"):
        assert words in received
    assert hub.token.encode() not in received  # it goes into the Authorization header only
    assert all(seen.authorized for seen in hub.log if seen.path.startswith("/api/models"))


def test_faults(target: HubTarget, repo: str) -> None:
    hub = target.loopback()
    with target.api() as api:
        cut = hub.fail("PUT", "/lfs-storage/", cut_upload=30_000)
        api.upload_file(repo_id=repo, path_or_fileobj=WEIGHTS, path_in_repo="new.bin")
        assert cut.hits == 1
        before = hub.sha(repo)
        refused = hub.fail("POST", "/commit/", 409)
        with pytest.raises(HfHubHTTPError):
            api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="x.txt")
        assert (refused.hits, hub.sha(repo)) == (1, before)
        hub.fail("POST", "/commit/", drop_reply=True)
        with pytest.raises(Exception, match="disconnected"):
            api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="x.txt")
    assert hub.files(repo)["x.txt"] == b"x"  # it was done all the same
    assert hub.files(repo)["new.bin"] == WEIGHTS


def test_everything_is_set_back(tmp_path: Path) -> None:
    before = constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, os.environ.get("HF_TOKEN")
    with loopback_target(tmp_path, user="somebody") as other:
        repo = other.new_repo()
        with other.api() as api:
            api.create_repo(repo)
        other.delete_all()
        assert not other.loopback().exists(repo)
        assert other.token not in repr(other)
    assert (constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, os.environ.get("HF_TOKEN")) == before


def test_other_hosts_are_refused_and_the_server_needs_no_hub_library(target: HubTarget) -> None:
    code = """
import sys
from tests.hub.server import HubServer
assert not {"huggingface_hub", "transformers", "datasets"} & set(sys.modules)
import httpx
print(httpx.get("http://datasets-server.example.invalid/info?dataset=a").status_code)
try:
    httpx.get("https://huggingface.co/api/models/a/b")
except httpx.ProxyError:
    print("refused")
"""
    hub = target.loopback()
    env = {**target.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["404", "refused"], done.stderr[-2000:]
    assert ("CONNECT", "huggingface.co:443") in hub.requests
