"""The repository that a push goes to: found or made, of the visibility that was asked for, on its branch."""

import re
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id

from hftl.errors import ConfigError
from hftl.publishing.hub_faults import HubError
from hftl.publishing.hub_retries import persist


_SECONDS = 30.0  # for an answer about a repository
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Target:
    """Where the commit goes."""

    repo_id: str
    branch: str | None  # None: main
    head: str | None  # the commit that it is made on; None in a repository without one
    files: tuple[str, ...]  # what lies there now
    new: bool  # made by this push


def check_repo_id(repo_id: str, flag: str = "") -> None:
    """Raise `ConfigError` unless the name is namespace/name as the Hub takes it."""
    try:
        validate_repo_id(repo_id)
        problem = "" if repo_id.count("/") == 1 else "it needs your user name or an organisation before the /"
    except ValueError as error:
        problem = " ".join(str(error).split())
    if problem:
        where = f"{flag} " if flag else ""
        raise ConfigError(f"{where}{repo_id!r} is no name for a repository, such as my-name/my-model: {problem}.")


def check_branch(revision: str | None, create_pr: bool) -> None:
    """Raise `ConfigError` for a revision that nothing can be committed to."""
    if revision is None:
        return
    if create_pr:
        raise ConfigError("--create_pr opens a pull request against main: leave out --revision.")
    if _COMMIT.fullmatch(revision):
        raise ConfigError(f"--revision {revision[:12]}... is a commit, and a push goes to a branch: give its name.")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision) or ".." in revision or revision.endswith((".lock", ".")):
        raise ConfigError(f"--revision {revision!r} is no name for a branch, such as v2 or candidates/lora.")


def open_target(api: HfApi, repo_id: str, *, public: bool, revision: str | None, create_pr: bool) -> Target:
    """Find the repository, or make it private (unless `public`), and the branch; nothing is committed.

    Raises `HubError` when the repository's visibility is not the one asked for: a push never changes it.
    """
    info = find_repository(api, repo_id)
    new = info is None
    if info is None:
        if create_pr:
            raise HubError(f"There is no {repo_id} on the Hub to open a pull request on: push without --create_pr.")
        _make(api, repo_id, public=public)
        info = find_repository(api, repo_id)
        if info is None:
            raise HubError(f"{repo_id} was made, but the Hub does not show it yet: push again in a minute.")
    check_visibility(repo_id, private=bool(info.private), public=public)
    branch = None if revision == "main" else revision
    if branch is not None:
        info = _branch(api, repo_id, branch, info.sha)
    return Target(repo_id, branch, info.sha, tuple(s.rfilename for s in info.siblings or []), new)


def find_repository(api: HfApi, repo_id: str) -> Any:
    """Return the Hub's `ModelInfo`, or None when there is no such repository (or it is somebody else's private one)."""
    try:
        # Nothing was sent yet, and whether there is a network shows here: one try at the connection.
        return persist(lambda: api.model_info(repo_id, timeout=_SECONDS), f"looking for {repo_id}", network=False)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:  # 401: the token, not the repository
            raise
        return None


def _make(api: HfApi, repo_id: str, *, public: bool) -> None:
    try:
        persist(lambda: api.create_repo(repo_id, private=not public), f"making {repo_id}")
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        # Somebody made it meanwhile, or the answer to an earlier try was lost. What it is, is read next.
        if find_repository(api, repo_id) is None:
            raise HubError(
                f"The name {repo_id} is taken (409), and this token cannot see by what: use another."
            ) from error


def check_visibility(repo_id: str, *, private: bool, public: bool) -> None:
    """Raise `HubError` when the repository is more, or less, visible than the push was told."""
    if not private and not public:
        raise HubError(
            f"{repo_id} is public, so this push would publish the model: nothing was sent. Add --public if it may be "
            f"seen by all, or run `hf repos settings {repo_id} --private` first."
        )
    if private and public:
        raise HubError(
            f"{repo_id} is private, and a push never changes that: nothing was sent. Leave out --public, or run "
            f"`hf repos settings {repo_id} --public` first."
        )


def at_branch(api: HfApi, target: Target) -> Any:
    """Return the `ModelInfo` of the target as it stands now."""
    return api.model_info(target.repo_id, revision=target.branch, timeout=_SECONDS)


def _branch(api: HfApi, repo_id: str, revision: str, start: str | None) -> Any:
    """Return the `ModelInfo` of the branch, made from `start` when it is missing."""

    def find() -> Any:
        return persist(lambda: api.model_info(repo_id, revision=revision, timeout=_SECONDS), f"looking for {revision}")

    try:
        return find()
    except RevisionNotFoundError:
        if revision.startswith("refs/"):
            raise
    persist(
        lambda: api.create_branch(repo_id, branch=revision, revision=start, exist_ok=True),
        f"making the branch {revision}",
    )
    return find()
