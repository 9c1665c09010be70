"""A Space that serves a pushed model: the files of `spaces_demo/`, a header of its own, and its variables."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, SpaceCard, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.repocard import metadata_load

from hftl.hub_errors import HubError, plain, push_errors
from hftl.publishing.hub_repository import check_repo_id, persist, say
from hftl.report.visible import one_line


APP_FILES = ("app.py", "evidence_panel.py", "requirements.txt")
TAG = "hftl"  # in the header of every Space that hftl makes
_OURS = ("MODEL_ID", "REVISION", "TRUST_REMOTE_CODE")
_SERVES = "SERVES: dict[str, str] = {}\n"  # the line of app.py that a push fills in
_TITLE = 100  # characters


def app_folder() -> Path:
    """Return the folder of the app: inside the installed package, or `spaces_demo/` of a checkout.

    Raises `HubError` when the installation has neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "spaces_demo", package.parent / "spaces_demo"):
        if (folder / "app.py").is_file():
            return folder
    raise HubError("This installation of hftl lacks the Space's app: `pip install --force-reinstall hftl` brings it.")


def space_folder(
    target: Path,
    model_id: str,
    revision: str | None = None,
    *,
    title: str | None = None,
    pooled: bool = False,
    license: str | None = None,
) -> Path:
    """Write the files of a Space that serves `model_id` into `target`, and return it.

    `title` is the model's name by default. `license` is an identifier of the Hub. `pooled` says that the model's class
    is a file of its repository, which runs only with TRUST_REMOTE_CODE=1; `revision` is a commit, branch or tag of it.
    """
    source = app_folder()
    target.mkdir(parents=True, exist_ok=True)
    for name in APP_FILES:
        shutil.copyfile(source / name, target / name)
    values = variables(model_id, revision, pooled=pooled)
    app = (source / "app.py").read_text(encoding="utf-8")
    if _SERVES not in app:
        raise HubError("The Space's app is not the one of this hftl: `pip install --force-reinstall hftl` brings it.")
    app = app.replace(_SERVES, f"SERVES: dict[str, str] = {values!r}\n", 1)
    (target / "app.py").write_text(app, encoding="utf-8")
    card = SpaceCard((source / "README.md").read_text(encoding="utf-8"))
    data: Any = card.data
    data.title = one_line(title or model_id.split("/")[-1], _TITLE)
    data.models, data.license = [model_id], license
    set_here = "".join(f"- `{name}` = `{value}`\n" for name, value in values.items())
    about = f"Serves [{model_id}](https://huggingface.co/{model_id}). Its variables:\n\n{set_here}"
    (target / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n{about}\n{card.text.lstrip()}", encoding="utf-8")
    return target


def variables(model_id: str, revision: str | None = None, *, pooled: bool = False) -> dict[str, str]:
    """Return the variables of the Space; anyone may read them, so a token is never among them."""
    branch = {} if revision is None else {"REVISION": revision}
    return {"MODEL_ID": model_id, **branch, **({"TRUST_REMOTE_CODE": "1"} if pooled else {})}


def secret_note(space_id: str, model_id: str) -> str:
    """Return what the user of a private model has to do by hand; hftl never sends a token anywhere."""
    return (
        f"{model_id} is private: the Space starts once it has a secret HF_TOKEN that may read it (a fine-grained token "
        f"with read access to {model_id} alone). Set it at https://huggingface.co/spaces/{space_id}/settings"
    )


def push_space(
    api: HfApi,
    space_id: str,
    model_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    title: str | None = None,
    pooled: bool = False,
    license: str | None = None,
) -> str:
    """Make or update the Space that serves `model_id`, in one commit, and return its address.

    Hardware and secrets are left as they are. A Hub that refuses the variables is a note, since app.py has them as its
    defaults. Raises `ConfigError` for a name that the Hub does not take, and
    `HubError` when the Hub refuses, when another Space has the name, or when its visibility is another than `private` says.
    """
    check_repo_id(space_id, "--space")
    values = variables(model_id, revision, pooled=pooled)
    with push_errors(space_id, "pushing the Space"), tempfile.TemporaryDirectory(prefix="hftl-space-") as work:
        folder = space_folder(Path(work), model_id, revision, title=title, pooled=pooled, license=license)
        _check_existing(api, space_id, private=private)
        made = persist(
            lambda: api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True),
            f"making the Space {space_id}",
        )
        try:
            _set_variables(api, space_id, values)  # before the app, which starts as soon as it arrives
        except (HfHubHTTPError, HubError) as error:  # app.py has them too
            say(
                f"Note: the variables of {space_id} could not be set ({plain(str(error))}). The Space serves {model_id} "
                f"all the same, unless it has other variables already: {constants.ENDPOINT}/spaces/{space_id}/settings"
            )
        operations = [CommitOperationAdd(name, folder / name) for name in (*APP_FILES, "README.md")]
        persist(
            lambda: api.create_commit(
                space_id, operations, repo_type="space", commit_message=f"Serve {model_id} with hftl's app"
            ),
            f"sending the Space {space_id}",
        )
    return str(made)


def _check_existing(api: HfApi, space_id: str, *, private: bool) -> None:
    """Raise `HubError` for a Space that hftl did not make, or that more or fewer people see than `private` says."""
    try:
        info: Any = persist(lambda: api.space_info(space_id), f"looking for the Space {space_id}")
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:  # 401: the token, not the Space
            raise
        return
    names = {sibling.rfilename for sibling in info.siblings or []}
    if "app.py" in names or "Dockerfile" in names:
        tags = _tags(api, space_id) if "README.md" in names else []
        if TAG not in tags:
            raise HubError(
                f"The Space {space_id} exists and was not made by hftl: nothing was sent. Name another one."
            )
    if bool(info.private) != private:
        kind, flag = ("private", "--public") if info.private else ("public", "--private")
        raise HubError(
            f"The Space {space_id} is {kind}, and a push never changes that: nothing was sent to it. Name another one, "
            f"or run `hf repos settings {space_id} --repo-type space {flag}` first."
        )


def _tags(api: HfApi, space_id: str) -> list[str]:
    path = persist(
        lambda: hf_hub_download(
            space_id, "README.md", repo_type="space", endpoint=api.endpoint, token=api.token, force_download=True
        ),
        f"reading the header of {space_id}",
    )
    try:
        tags = (metadata_load(path) or {}).get("tags")
    except (ValueError, yaml.YAMLError):
        tags = None
    return tags if isinstance(tags, list) else []


def _set_variables(api: HfApi, space_id: str, values: dict[str, str]) -> None:
    """Make the app's variables what they should be; each change would start the Space anew, so equal ones are left."""
    doing = f"setting the variables of {space_id}"
    present = {name: v.value for name, v in persist(lambda: api.get_space_variables(space_id), doing).items()}
    for name in _OURS:
        value = values.get(name)
        if value is None and name in present:
            persist(lambda name=name: api.delete_space_variable(space_id, name), doing)  # type: ignore[misc]
        elif value is not None and present.get(name) != value:
            persist(lambda name=name, value=value: api.add_space_variable(space_id, name, value), doing)  # type: ignore[misc]
