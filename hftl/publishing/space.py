"""A Space that serves a pushed model: the files of `spaces_demo/`, a header of its own, and its variables."""

import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, SpaceCard, constants
from huggingface_hub.errors import HfHubHTTPError

from hftl.hub_errors import HubError, plain, push_errors
from hftl.publishing.hub_repository import check_repo_id, check_visibility, find_repository, persist, say
from hftl.report.visible import one_line


APP_FILES = ("app.py", "evidence_panel.py", "requirements.txt")
_SHARED = ("export/templates/predict_words.py", "data/words.py")  # of hftl, what the app needs to find entities
TAG = "hftl"  # in the header of every Space that hftl makes
_OURS = ("MODEL_ID", "REVISION", "TRUST_REMOTE_CODE")
_SERVES = "SERVES: dict[str, str] = {}\n"  # the line of app.py that a push fills in
_TITLE = 100  # characters


@dataclass(frozen=True)
class Serves:
    """What a Space serves."""

    model_id: str
    revision: str | None = None  # a commit, branch or tag
    pooled: bool = False  # its class is a file of its repository, which runs only with TRUST_REMOTE_CODE=1
    license: str | None = None  # identifier of the Hub

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the Space; anyone may read them, so a token is never among them."""
        values = {"MODEL_ID": self.model_id, "REVISION": self.revision}
        values |= {"TRUST_REMOTE_CODE": "1" if self.pooled else None}
        return {name: value for name, value in values.items() if value is not None}


def space_folder(target: Path, serves: Serves, title: str | None = None) -> Path:
    """Write the files of a Space into `target`, and return it; `title` is the model's name by default.

    Raises `HubError` when this installation has no app: it lies inside the installed package, or in a checkout.
    """
    package = Path(__file__).resolve().parents[1]
    sources = [
        folder for folder in (package / "spaces_demo", package.parent / "spaces_demo") if (folder / "app.py").is_file()
    ]
    app = (sources[0] / "app.py").read_text(encoding="utf-8") if sources else ""
    if _SERVES not in app:
        raise HubError(
            "This installation of hftl lacks the Space's app: install hftl again, from a checkout or a wheel."
        )
    target.mkdir(parents=True, exist_ok=True)
    for file in (*(sources[0] / name for name in APP_FILES), *(package / name for name in _SHARED)):
        shutil.copyfile(file, target / file.name)
    model_id, values = serves.model_id, serves.variables
    app = app.replace(_SERVES, f"SERVES: dict[str, str] = {values!r}\n", 1)
    (target / "app.py").write_text(app, encoding="utf-8")
    card = SpaceCard((sources[0] / "README.md").read_text(encoding="utf-8"))
    data: Any = card.data
    data.title = one_line(title or model_id.split("/")[-1], _TITLE)
    data.models, data.license = [model_id], serves.license
    set_here = "".join(f"- `{name}` = `{value}`\n" for name, value in values.items())
    about = f"Serves [{model_id}](https://huggingface.co/{model_id}). Its variables:\n\n{set_here}"
    (target / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n{about}\n{card.text.lstrip()}", encoding="utf-8")
    return target


def push_space(api: HfApi, space_id: str, serves: Serves, *, private: bool = True) -> str:
    """Make or update the Space, in one commit, and return its address.

    Hardware and secrets are left as they are. A Hub that refuses the variables is a note, since app.py has them as its
    defaults. Raises `ConfigError` for a name that the Hub does not take, and `HubError` when the Hub refuses, when
    another Space has the name, or when its visibility is another than `private` says.
    """
    check_repo_id(space_id, "--space")
    with push_errors(space_id, "pushing the Space"), tempfile.TemporaryDirectory(prefix="hftl-space-") as work:
        title = space_id.rpartition("/")[2]
        folder = space_folder(Path(work), serves, title)
        info = find_repository(api, space_id, "space")
        if info is not None:
            names = {sibling.rfilename for sibling in info.siblings or []}
            if names & {"app.py", "Dockerfile"} and TAG not in (info.tags or []):
                raise HubError(
                    f"The Space {space_id} exists and was not made by hftl: nothing was sent. Name another one."
                )
            check_visibility(space_id, info, public=not private, repo_type="space")
        where: dict[str, Any] = {"repo_id": space_id, "repo_type": "space"}
        make = partial(api.create_repo, **where, space_sdk="gradio", private=private, exist_ok=True)
        url = persist(make, f"making the Space {space_id}")
        try:
            _set_variables(api, space_id, serves.variables)  # before the app, which starts at once
        except (HfHubHTTPError, HubError) as error:
            say(
                f"Note: the variables of {space_id} could not be set ({plain(str(error))}). The Space serves {serves.model_id} "
                f"all the same, unless it has other variables already: {constants.ENDPOINT}/spaces/{space_id}/settings"
            )
        operations = [CommitOperationAdd(file.name, file) for file in sorted(folder.iterdir())]
        message = f"Serve {serves.model_id} with hftl's app"
        commit = partial(api.create_commit, **where, operations=operations, commit_message=message)
        persist(commit, f"sending the Space {space_id}")
    return str(url)


def _set_variables(api: HfApi, space_id: str, values: dict[str, str]) -> None:
    """Make the app's variables what they should be; each change would start the Space anew, so equal ones are left."""
    doing = f"setting the variables of {space_id}"
    present = {name: v.value for name, v in persist(partial(api.get_space_variables, space_id), doing).items()}
    for name in _OURS:
        if name in values and present.get(name) != values[name]:
            persist(partial(api.add_space_variable, space_id, name, values[name]), doing)
        elif name in present and name not in values:
            persist(partial(api.delete_space_variable, space_id, name), doing)
