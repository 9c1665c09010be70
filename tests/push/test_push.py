"""`hftl push` to a Hub: what arrives, for whom, on which branch; with `-m hub` to the real one."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from hftl.errors import DataError
from hftl.hub_errors import HubError
from hftl.models.pooled import MeanPooledForSequenceClassification
from hftl.predict import load
from hftl.publishing import hub
from hftl.publishing.bundle import Bundle, build_bundle
from hftl.publishing.hub import Pushed, push_to_hub
from hftl.publishing.hub_repository import left_behind
from hftl.publishing.parity import DownloadError, ParityError
from tests.command import hftl as command
from tests.command import shell, write_csv
from tests.hub.target import HubTarget, target_fixture
from tests.push import CHECKED, LICENSE, on_the_hub, push, text_run, texts_of
from tests.runs import split_folder, tiny_run
from tests.tiny import tiny_text_rows


target = target_fixture()

# huggingface_hub sends files in a way that its HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A push leaves nothing behind, whatever happened in it."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    assert list(place.glob("hftl-*")) == []


def hub_files(target: HubTarget, repo_id: str, revision: str = "main") -> dict[str, bytes]:
    found = target.files(repo_id, revision)
    found.pop(".gitattributes", None)
    return found


def head(target: HubTarget, repo_id: str, revision: str = "main") -> str:
    with target.api() as api:
        return str(api.model_info(repo_id, revision=revision).sha)


def titles(target: HubTarget, repo_id: str, revision: str = "main") -> list[str]:
    with target.api() as api:
        return [commit.title for commit in api.list_repo_commits(repo_id, revision=revision)]


def test_push_and_load_back(target: HubTarget, trained: Path, run: Path, tmp_path: Path) -> None:
    """The whole way, as a user goes it: a private repository, one commit, and the same answers downloaded again."""
    repo = target.new_repo("whole")
    words = ["-m", "hftl", "push", run, repo, "--license", LICENSE, "--json"]
    done = shell(words, tmp_path, {**target.env, "TMPDIR": str(tmp_path / "temporary")})
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    found = done.json
    assert found["url"] == f"{target.endpoint}/{repo}"
    assert (found["repo_id"], found["revision"], found["pr_url"], found["space_url"]) == (repo, None, None, None)
    assert found["commit"] == head(target, repo)
    assert found["parity"]["labels_equal"] is True
    assert found["parity"]["rows"] == 18
    assert found["parity"]["max_difference"] < 1e-4
    kept = json.loads((run / "report.json").read_text())["parity"]
    assert kept["hub"] == found["parity"]

    with target.api() as api:
        assert api.model_info(repo).private is True
    assert titles(target, repo)[1:] == ["initial commit"]
    there = hub_files(target, repo)
    assert {"README.md", "config.json", "config.yaml", "model.safetensors", "report.json"} <= set(there)
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "tokenizer.json"} <= set(there)
    assert there["model.safetensors"] == (run / "final" / "model.safetensors").read_bytes()
    card = ModelCard(there["README.md"].decode())
    assert card.data.license == LICENSE
    assert card.data.pipeline_tag == "text-classification"

    text = texts_of(trained)[0]
    with target.api():
        ours, theirs = (load(*where).predict([text])[0] for where in ((run,), (repo, found["commit"])))
    assert ours.label == theirs.label
    assert ours.probability == pytest.approx(theirs.probability, abs=1e-6)


def test_again_and_changed(target: HubTarget, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = target.new_repo("again")
    first = push(target, run, repo)
    assert "Committed " in capsys.readouterr().err
    if target.server is not None:
        target.server.requests.clear()
    assert push(target, run, repo).commit == first.commit
    assert "has all of this already" in capsys.readouterr().err
    second = push(target, run, repo, commit_message="Another licence", license="cc-by-4.0")
    assert second.commit == head(target, repo) != first.commit
    assert titles(target, repo) == ["Another licence", "lora of base-bert, by hftl", "initial commit"]
    if target.server is not None:  # weights that the Hub has are not sent again
        assert [path for method, path in target.server.requests if method == "PUT"] == []


def test_what_was_checked_earlier_makes_no_new_commit(target: HubTarget, run: Path) -> None:
    repo = target.new_repo("kept")
    first = push(target, run, repo)
    report = json.loads((run / "report.json").read_text())
    report["parity"]["hub"] = {**CHECKED, "max_difference": 5e-8}
    (run / "report.json").write_text(json.dumps(report))
    assert push(target, run, repo).commit == first.commit


def test_public_only_when_said(target: HubTarget, run: Path) -> None:
    repo = target.new_repo("public")
    push(target, run, repo, public=True)
    with target.api() as api:
        assert api.model_info(repo).private is False
    before = head(target, repo)
    with pytest.raises(HubError, match="is public, and a push never changes that: nothing was sent") as caught:
        push(target, run, repo, license="cc-by-4.0")
    assert "\n" not in str(caught.value)
    assert head(target, repo) == before
    push(target, run, repo, license="cc-by-4.0", public=True)
    assert head(target, repo) != before

    private = target.new_repo("private")
    push(target, run, private)
    with pytest.raises(HubError, match="is private, and a push never changes that"):
        push(target, run, private, public=True)
    with target.api() as api:
        assert api.model_info(private).private is True


def test_branch(target: HubTarget, run: Path) -> None:
    repo = target.new_repo("branch")
    first = push(target, run, repo)
    there = push(target, run, repo, revision="try/lora", license="cc-by-4.0")
    assert there.url == f"{target.endpoint}/{repo}/tree/try/lora"
    assert there.revision == "try/lora"
    assert head(target, repo) == first.commit
    assert head(target, repo, "try/lora") == there.commit
    assert b"cc-by-4.0" in hub_files(target, repo, "try/lora")["README.md"]
    push(target, run, repo, revision="try/lora", license="mit")
    assert b"license: mit" in hub_files(target, repo, "try/lora")["README.md"]
    assert push(target, run, repo, revision="main").url == f"{target.endpoint}/{repo}"
    with pytest.raises(HubError, match="no such revision"):
        push(target, run, repo, revision="refs/pr/77")


def test_branch_of_a_new_repository(target: HubTarget, run: Path) -> None:
    repo = target.new_repo("branched")
    there = push(target, run, repo, revision="v1")
    assert head(target, repo, "v1") == there.commit
    assert hub_files(target, repo) == {}


def test_pull_request(target: HubTarget, run: Path) -> None:
    repo = target.new_repo("pull")
    with pytest.raises(HubError, match="to open a pull request on: push without --create_pr"):
        push(target, run, repo, create_pr=True)
    first = push(target, run, repo)
    there = push(target, run, repo, create_pr=True, license="cc-by-4.0")
    assert there.url == there.pr_url == f"{target.endpoint}/{repo}/discussions/1"
    assert there.revision == "refs/pr/1"
    assert head(target, repo) == first.commit
    assert b"cc-by-4.0" in hub_files(target, repo, "refs/pr/1")["README.md"]
    push(target, run, repo, revision="refs/pr/1", license="cc-by-sa-4.0")
    assert b"cc-by-sa-4.0" in hub_files(target, repo, "refs/pr/1")["README.md"]


def test_a_new_model_replaces_the_old_one(
    target: HubTarget, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter beside merged weights, or the other way round, would be loaded as something else."""
    made, repo = on_the_hub(trained, target, tmp_path / "run"), target.new_repo("replaced")
    push(target, made, repo)
    with target.api() as api:
        for name in ("notes.md", "onnx/model.onnx"):
            api.upload_file(path_or_fileobj=b"mine", path_in_repo=name, repo_id=repo)
    push(target, made, repo, adapter_only=True)
    there = hub_files(target, repo)
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", "notes.md", "onnx/model.onnx"} <= set(
        there
    )
    assert not [name for name in there if name == "model.safetensors" or name.startswith("adapter/")]
    assert "Removed with it, as the new model lacks them: adapter/adapter_config.json" in capsys.readouterr().err
    push(target, made, repo)
    there = hub_files(target, repo)
    assert "model.safetensors" in there
    assert "adapter_config.json" not in there
    assert there["notes.md"] == b"mine"
    assert len(titles(target, repo)) == 6


def test_organisation(run: Path, target: HubTarget) -> None:
    server = target.loopback()
    found = push(target, run, "acme/tickets")
    assert server.repository("acme/tickets").private is True
    assert found.url == f"{server.url}/acme/tickets"
    with pytest.raises(HubError, match="may not write to watched") as caught:
        push(target, run, "watched/tickets")
    assert "\n" not in str(caught.value)
    assert not server.exists("watched/tickets")


def test_space(target: HubTarget, run: Path) -> None:
    repo, space = target.new_repo("served"), target.new_repo("space", "space")
    if target.is_real:
        pytest.skip("Spaces that run need a subscription")
    found = push(target, run, repo, space=space)
    assert found.space_url == f"{target.endpoint}/spaces/{space}"
    with target.api() as api:
        assert api.space_info(space).private is True
        assert api.get_space_variables(space)["MODEL_ID"].value == repo
    assert "app.py" in target.files(space, repo_type="space")


def test_a_space_that_fails_leaves_the_model(target: HubTarget, run: Path) -> None:
    server, repo = target.loopback(), target.new_repo("served")
    server.fail("POST", "/api/repos/create", 403, skip=1)
    with pytest.raises(HubError, match=f"The model is at {server.url}/{repo} .* but its Space failed: .*403"):
        push(target, run, repo, space=f"{server.user}/some-space")
    assert "model.safetensors" in server.files(repo)


def test_a_difference_is_loud(target: HubTarget, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the commit, and how to undo it; the run's report does not claim a check that failed."""

    def differs(*_: object, **__: object) -> None:
        raise ParityError("it is not the model that was trained.")

    monkeypatch.setattr(hub, "check_pushed", differs)
    repo, before = target.new_repo("differs"), (run / "report.json").read_bytes()
    with target.api(), pytest.raises(ParityError) as caught:
        push_to_hub(run, repo, license=LICENSE)
    assert f"It is commit {head(target, repo)} of {repo}: `hf repos delete {repo}`" in str(caught.value)
    assert caught.value.exit_code == 1
    first = head(target, repo)
    with target.api(), pytest.raises(ParityError, match=f"or load revision {first}, which stood there before"):
        push_to_hub(run, repo, license="cc-by-4.0")
    with (
        target.api(),
        pytest.raises(ParityError, match=f"It is the pull request {target.endpoint}/{repo}/discussions/1"),
    ):
        push_to_hub(run, repo, license="cc-by-sa-4.0", create_pr=True)
    assert (run / "report.json").read_bytes() == before


def test_the_check_is_told_in_the_words_of_the_answers(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """A number has no probability, and no label to be the same."""
    rows = [(text, label + 0.25) for text, label in tiny_text_rows(60, 3)]
    data = str(write_csv(tmp_path / "rows.csv", rows))
    run = tiny_run("bert", "probe", tmp_path, data=data, problem_type="regression").run_dir
    monkeypatch.setattr(
        hub, "push", lambda *_: Pushed("https://hub/me/x", "0" * 40, "me/x", None, None, CHECKED, None)
    )
    monkeypatch.setattr("hftl.publishing.hub_repository.usable_token", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    done = command(capsys, "push", run, "me/x", "--license", "mit")
    assert (done.code, done.out) == (0, "https://hub/me/x\n")
    assert "1 row (test rows of the run): the same numbers, apart by at most 0." in done.err
    assert "probabilities" not in done.err


def test_no_rows_to_check_with(target: HubTarget, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_rows(*_: object, **__: object) -> None:
        raise DataError("the data are gone")

    monkeypatch.setattr(hub, "check_pushed", no_rows)
    with target.api():
        found = push_to_hub(run, target.new_repo("rows"), license=LICENSE)
    assert found.parity["note"] == "not checked: the data are gone"
    assert json.loads((run / "report.json").read_text())["parity"]["hub"] == found.parity


@pytest.mark.slow
def test_other_weights_are_found_out(target: HubTarget, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is downloaded again is really compared: weights changed on the way do not pass."""

    def changed(*arguments: object, **options: object) -> Bundle:
        made = build_bundle(*arguments, **options)  # type: ignore[arg-type]
        path = made.folder / "model.safetensors"
        weights = load_file(path)
        weights["classifier.bias"] = -weights["classifier.bias"]
        path.unlink()  # a hard link
        save_file(weights, path, metadata={"format": "pt"})
        return made

    monkeypatch.setattr(hub, "build_bundle", changed)
    for name, value in target.env.items():
        monkeypatch.setenv(name, value)
    with target.api(), pytest.raises(ParityError, match=r"is not the model that was trained.* It is commit"):
        push_to_hub(run, target.new_repo("changed"), license=LICENSE)


@pytest.mark.slow
def test_an_adapter_alone_answers_as_the_model(target: HubTarget, trained: Path, tmp_path: Path) -> None:
    made, repo = on_the_hub(trained, target, tmp_path / "run"), target.new_repo("adapter")
    words = ["-m", "hftl", "push", made, repo, "--adapter_only", "--license", LICENSE, "--json"]
    done = shell(words, tmp_path, target.env)
    assert done.code == 0, done.err
    assert done.json["parity"]["labels_equal"] is True
    text = texts_of(trained)[0]
    found = shell(["-m", "hftl", "predict", repo, text, "--json"], tmp_path, target.env)
    assert found.code == 0, found.err
    ours = load(trained).predict([text])[0]
    assert found.json[0]["prediction"] == ours.label
    assert found.json[0]["probability"] == pytest.approx(ours.probability, abs=1e-4)


@pytest.mark.slow
def test_mean_pooled_head(target: HubTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class travels along, for transformers; hftl runs no code from a repository."""
    data = split_folder(tmp_path / "data", 40)
    run = tiny_run("distilbert", "probe", tmp_path, pooling="mean", data=str(data)).run_dir
    repo = target.new_repo("pooled")
    for name, value in target.env.items():
        monkeypatch.setenv(name, value)
    with target.api():
        found = push_to_hub(run, repo, license=LICENSE)
        assert isinstance(load(repo).model, MeanPooledForSequenceClassification)
    assert found.parity["labels_equal"] is True
    assert "modeling_pooled.py" in hub_files(target, repo)


def test_a_download_that_fails_is_no_verdict(target: HubTarget, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DownloadError("tester/x could not be downloaded again: https://hub/file?signature=secret (503)")

    monkeypatch.setattr(hub, "check_pushed", broken)
    with target.api():
        found = push_to_hub(run, target.new_repo("fetch"), license=LICENSE)
    assert found.parity["note"] == "not checked: tester/x could not be downloaded again: https://hub/file (503)"


def test_only_what_hftl_wrote_is_removed() -> None:
    mine = ["examples/how_to.ipynb", "adapter/notes.md", "notes.txt", "examples/1/2.txt"]
    old = ["adapter/adapter_model.safetensors", "examples/0.png", "vocab.txt"]
    assert left_behind((*mine, *old, "config.json"), ("config.json",)) == old
