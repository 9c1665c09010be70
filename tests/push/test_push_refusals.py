"""What `hftl push` does not even begin: one line, at once, and the Hub hears nothing of it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from hftl.cli import run_command
from hftl.errors import ConfigError, HftlError, RunError
from hftl.publishing.hub import finished_run, push_to_hub
from hftl.publishing.hub_repository import PushOptions, check_options
from tests.command import environment, shell
from tests.hub.target import HubTarget, target_fixture
from tests.push import push, text_run


target = target_fixture(real=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_run(tmp_path_factory.mktemp("trained"))


def test_a_run_or_its_final(run: Path) -> None:
    assert finished_run(run).run == run
    assert finished_run(run / "final").run == run
    assert finished_run(str(run) + "/").folder == run / "final"


def test_what_is_no_finished_run(run: Path, tmp_path: Path) -> None:
    partial = tmp_path / "cut.partial"
    partial.mkdir()
    plain = tmp_path / "plain"
    plain.mkdir()
    model = shutil.copytree(run / "final", tmp_path / "model")
    unreadable = shutil.copytree(run, tmp_path / "unreadable")
    (unreadable / "report.json").write_text("{")
    foreign = shutil.copytree(run, tmp_path / "foreign")
    (foreign / "report.json").write_text("{}")
    lines = {
        tmp_path / "cut": f"{partial} is not finished: go on with `hftl train {partial}/config.yaml --output_dir",
        partial: f"{partial} is not finished",
        tmp_path / "nowhere": "There is no run folder",
        Path("ns/name"): "There is no run folder ns/name",
        plain: "is not a run: it has no final/",
        run.parent / "data" / "rows.csv": "There is no run folder",
        model: "there is no report.json, which the card is made of. `hf upload`",
        foreign: "there is no report.json",
        unreadable: "cannot be read",
    }
    for path, line in lines.items():
        with pytest.raises(HftlError) as caught:
            finished_run(path)
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["tickets", "a/b/c", "/x", "x/", "a b/c", "a/b--c", "a/-b", "a/b.git", "", "a/" + "b" * 97, "../x", "é/ü"]
)
def test_names(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a repository, such as my-name/my-model: ") as caught:
        check_options(PushOptions("run", name))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"--space .* is no name"):
        check_options(PushOptions("run", "a/b", space=name))


@pytest.mark.parametrize("branch", ["a b", "", "-/..", "x.lock", "/x", "a//b", "0" * 40])
def test_branches(branch: str) -> None:
    with pytest.raises(ConfigError, match="--revision"):
        check_options(PushOptions("run", "a/b", revision=branch))


@pytest.mark.parametrize("branch", ["v2", "try/lora", "refs/pr/3", "1.0", "main"])
def test_good_branches(branch: str) -> None:
    check_options(PushOptions("run", "a/b", revision=branch))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"create_pr": True, "revision": "v1"}, "leave out --revision"),
        ({"create_pr": True, "space": "a/s"}, "merge the pull request first"),
        ({"adapter_only": True, "space": "a/s"}, "leave out --adapter_only"),
        ({"commit_message": "  "}, "--commit_message needs some words"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_options(PushOptions("run", "a/b", **options))


def test_what_the_data_and_the_base_do_not_allow(target: HubTarget, run: Path) -> None:
    """A licence that nobody knows, an adapter without a base that others could load: before anything is made."""
    hub = target.loopback()
    hub.requests.clear()
    for options, says in (
        ({"license": None}, r"The licence of .* is not known: add --license ID"),
        ({"license": "my-own"}, "--license takes an identifier of the Hub"),
        ({"adapter_only": True}, "is not on the Hub, so nobody could load the adapter"),
        ({"include_examples": -1}, "--include_examples needs a number of rows"),
    ):
        with pytest.raises(ConfigError, match=says):
            push(target, run, "tester/never", **options)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "hftl push needs a RUN and the name of a repository"),
        (["run"], "hftl push needs a RUN"),
        (["run", "a/b", "c"], "hftl push needs a RUN"),
        (["run", "a/b", "--token", "x"], "hftl push has no flag --token"),
        (["run", "a/b", "--publik"], "Did you mean 'public'?"),
        (["run", "a/b", "--include_examples", "some"], "--include_examples"),
        (["run", "a/b", "--license"], "--license needs one value"),
        (["run", "b"], "'b' is no name for a repository"),
        (["run", "a/b", "--dry-run"], "There is no run folder run"),
    ],
)
def test_command_lines(words: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run_command(["push", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert len(err.splitlines()) == 1


def closed_port() -> str:
    return "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"HF_HUB_OFFLINE": "1", "HF_TOKEN": "hf_x"}, "Offline mode is on (HF_HUB_OFFLINE)"),
        ({"HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}, "You are not logged in to the Hub: run `hf auth login`"),
        ({"HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_x"}, "http://127.0.0.1:9 cannot be reached"),
        ({"HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_x", "HTTP_PROXY": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_nobody_to_push_to(run: Path, tmp_path: Path, more: dict[str, str], says: str) -> None:
    """In a process of its own, since the libraries read these when they are imported."""
    env = environment(HF_ENDPOINT=closed_port(), HF_HOME=str(tmp_path), **more)
    done = shell(["-m", "hftl", "push", run, "me/tickets", "--license", "mit"], tmp_path, env)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {says}")
    assert len(done.err.splitlines()) == 1


def test_refused_before_anything_heavy_is_imported(run: Path, tmp_path: Path) -> None:
    """So that the line comes in a second."""
    code = """
import sys
from hftl.cli import run_command
assert run_command(["push", sys.argv[1], "me/tickets"]) == 2
assert not {"torch", "transformers", "datasets", "gradio"} & set(sys.modules)
"""
    done = shell(["-c", code, run], tmp_path, environment(HF_TOKEN="hf_x"))
    assert done.code == 0, done.err


def test_in_python(run: Path, target: HubTarget) -> None:
    with target.api() as api, pytest.raises(RunError, match="There is no run folder"):
        push_to_hub(run / "nowhere", "tester/x", token=api.token)
    with pytest.raises(TypeError):
        push_to_hub(run, "tester/x", True)  # type: ignore[misc]
