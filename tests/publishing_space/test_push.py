"""The Space's folder, and its way to the Hub."""

import re
from pathlib import Path

import httpx
import pytest
import yaml
from huggingface_hub import HfApi, SpaceCard, SpaceCardData
from huggingface_hub.errors import HfHubHTTPError

from hftl.errors import ConfigError
from hftl.hub_errors import HubError
from hftl.publishing.space import Serves, push_space, space_folder
from tests.hub.cards import card_problems
from tests.hub.target import HubTarget, target_fixture


ROOT = Path(__file__).resolve().parents[2]
SHARED = {"predict_words.py": "hftl/export/templates", "words.py": "hftl/data"}  # for entities
FILES = {"README.md", "app.py", "evidence_panel.py", "requirements.txt", *SHARED}

target = target_fixture(real=False)


def header(content: str) -> dict:
    return dict(yaml.safe_load(content.split("---\n")[1]))


def pins() -> dict[str, str]:
    lines = (ROOT / "spaces_demo" / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_pins_are_those_of_the_project():
    wanted = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    found = pins()
    assert set(found) == {"torch", "transformers", "gradio", "pillow"}
    for name, version in found.items():
        assert wanted[name].split("+")[0] == version


@pytest.mark.parametrize("source", ["checkout", "made"])
def test_the_header_is_what_the_hub_takes(source, tmp_path):
    folder = (
        ROOT / "spaces_demo" if source == "checkout" else space_folder(tmp_path / "s", Serves("me/x", license="mit"))
    )
    content = (folder / "README.md").read_text(encoding="utf-8")
    assert card_problems(content, "space") == ([], [])
    data = header(content)
    assert data["sdk"] == "gradio"
    assert data["sdk_version"] == pins()["gradio"]
    assert (folder / data["app_file"]).is_file()
    assert re.fullmatch(r"3\.\d+", data["python_version"])
    assert 0 < len(data["short_description"]) <= 60
    assert SpaceCardData(**data).to_dict() == data


def test_the_folder_names_its_model_and_nothing_of_this_machine(tmp_path):
    made = space_folder(tmp_path / "s", Serves("me/x", "v1", True, "apache-2.0"), title='a: "b"\n---\nc')
    assert {p.name for p in made.iterdir()} == FILES
    for name in FILES - {"README.md", "app.py"}:
        assert (made / name).read_bytes() == (ROOT / SHARED.get(name, "spaces_demo") / name).read_bytes()
    app, source = ((folder / "app.py").read_text() for folder in (made, ROOT / "spaces_demo"))
    serves = {"MODEL_ID": "me/x", "REVISION": "v1", "TRUST_REMOTE_CODE": "1"}
    assert app == source.replace("SERVES: dict[str, str] = {}", f"SERVES: dict[str, str] = {serves!r}")
    card = SpaceCard.load(made / "README.md")
    assert card.data.models == ["me/x"]
    assert card.data.license == "apache-2.0"
    assert "\n" not in card.data.title
    assert card.data.title.startswith('a: "b"')
    assert "- `MODEL_ID` = `me/x`\n- `REVISION` = `v1`\n- `TRUST_REMOTE_CODE` = `1`\n" in card.text
    assert str(tmp_path) not in card.content
    assert "license" not in header(space_folder(tmp_path / "t", Serves("me/x")).joinpath("README.md").read_text())


def test_a_space_is_one_commit_and_its_variables(target: HubTarget):
    space, model = target.new_repo("space", "space"), f"{target.namespace}/model"
    with target.api() as api:
        address = push_space(api, space, Serves(model, "v1", pooled=True, license="mit"))
    server = target.loopback()
    assert address == f"{server.url}/spaces/{space}"
    found = server.repository(space, "spaces")
    assert found.private
    assert {name: v["value"] for name, v in found.variables.items()} == {
        "MODEL_ID": model, "REVISION": "v1", "TRUST_REMOTE_CODE": "1"
    }  # fmt: skip
    assert set(server.files(space, kind="spaces")) >= FILES
    assert sum("hftl" in title for title in server.history(space, kind="spaces")) == 1
    assert target.token.encode() not in server.received_bytes()
    assert not any("hardware" in path or "secrets" in path for _, path in server.requests)


def test_a_hub_that_keeps_no_variables(target: HubTarget, monkeypatch, capsys):
    """The Space is sent all the same, and what is said is what happened."""
    space = target.new_repo("plain", "space")

    def refuse(*_: object, **__: object) -> None:
        response = httpx.Response(404, request=httpx.Request("GET", "https://hub/api/spaces/me/x/variables"))
        raise HfHubHTTPError("no variables here", response=response)

    monkeypatch.setattr(HfApi, "get_space_variables", refuse)
    with target.api() as api:
        push_space(api, space, Serves("me/one"))
    server = target.loopback()
    assert "'me/one'" in server.files(space, kind="spaces")["app.py"].decode()
    assert "could not be set" in capsys.readouterr().err


def test_pushing_again_changes_what_changed(target: HubTarget):
    space = target.new_repo("again", "space")
    server = target.loopback()
    with target.api() as api:
        push_space(api, space, Serves("me/one", pooled=True))
        before = len(server.requests)
        push_space(api, space, Serves("me/one", pooled=True))
        asked = server.requests[before:]
        assert not [path for method, path in asked if "variables" in path and method != "GET"]
        push_space(api, space, Serves("me/two"))
    values = {name: v["value"] for name, v in server.repository(space, "spaces").variables.items()}
    assert values == {"MODEL_ID": "me/two"}
    assert header(server.files(space, kind="spaces")["README.md"].decode())["models"] == ["me/two"]


def test_another_space_is_left_alone(target: HubTarget):
    space = target.new_repo("other", "space")
    with target.api() as api:
        api.create_repo(space, repo_type="space", space_sdk="gradio", private=True)
        for name, content in (("app.py", b"print()"), ("README.md", b"---\nsdk: gradio\ntags:\n- mine\n---\n")):
            api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=space, repo_type="space")
        with pytest.raises(HubError, match="was not made by hftl"):
            push_space(api, space, Serves("me/one"))
    assert target.loopback().files(space, kind="spaces")["app.py"] == b"print()"
    assert not target.loopback().repository(space, "spaces").variables


def test_visibility_is_never_changed(target: HubTarget):
    space = target.new_repo("seen", "space")
    with target.api() as api:
        push_space(api, space, Serves("me/one"), private=False)
        assert not target.loopback().repository(space, "spaces").private
        with pytest.raises(HubError, match="is public"):
            push_space(api, space, Serves("me/one"), private=True)


def test_faults_are_one_line(target: HubTarget):
    server = target.loopback()
    with target.api() as api:
        with pytest.raises(ConfigError, match="--space"):
            push_space(api, "no name", Serves("me/one"))
        with pytest.raises(HubError, match="may not write") as caught:
            push_space(api, "watched/space", Serves("me/one"))
        assert "\n" not in str(caught.value)
        server.fail("POST", "/repos/create", 403)
        space = target.new_repo("fault", "space")
        with pytest.raises(HubError, match=r"\(403"):
            push_space(api, space, Serves("me/one"))
        push_space(api, space, Serves("me/one"))  # and again, when it is over
    assert "app.py" in server.files(space, kind="spaces")


@pytest.mark.parametrize("status", [403, 404])
def test_a_hub_without_variables_serves_the_model_all_the_same(status: int, target: HubTarget, capsys):
    server, space = target.loopback(), target.new_repo(f"plain{status}", "space")
    server.fail("POST", "/variables", status)
    with target.api() as api:
        push_space(api, space, Serves("me/one", revision="v1", pooled=True))
    said = capsys.readouterr().err
    assert said.startswith("Note: the variables of ")
    assert "removed or renamed" not in said
    app = server.files(space, kind="spaces")["app.py"].decode()
    line = next(line for line in app.splitlines() if line.startswith("SERVES"))
    assert line.endswith("= {'MODEL_ID': 'me/one', 'REVISION': 'v1', 'TRUST_REMOTE_CODE': '1'}")
