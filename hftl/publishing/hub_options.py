"""What a push is asked to do, and whether it can begin at all; imports nothing heavy, so that a refusal is quick."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, get_token

from hftl.errors import ConfigError
from hftl.publishing.hub_faults import NO_TOKEN, OFFLINE, HubError
from hftl.publishing.hub_repository import check_branch, check_repo_id
from hftl.surroundings import hub_reachable


@dataclass(frozen=True)
class PushOptions:
    """What to push, and where to."""

    run: str | Path
    repo_id: str
    public: bool = False
    revision: str | None = None
    create_pr: bool = False
    adapter_only: bool = False
    license: str | None = None
    include_examples: int = 0
    space: str | None = None
    commit_message: str | None = None
    token: str | None = None


def check_options(options: PushOptions) -> None:
    """Raise `ConfigError` for names that the Hub does not take and for options that exclude each other."""
    check_repo_id(options.repo_id)
    check_branch(options.revision, options.create_pr)
    if options.commit_message is not None and not options.commit_message.strip():
        raise ConfigError("--commit_message needs some words.")
    if options.space is None:
        return
    check_repo_id(options.space, "--space")
    if options.create_pr:
        raise ConfigError(
            "--space needs the model in its repository: merge the pull request first, then push the Space."
        )
    if options.adapter_only:
        raise ConfigError("--space serves whole models: leave out --adapter_only, or --space.")


def usable_token(options: PushOptions) -> str:
    """Return the token to use. Raises `HubError`, within two seconds, when there is none or no Hub to use it at."""
    if constants.is_offline_mode():
        raise HubError(OFFLINE)
    token = options.token or get_token()
    if not token:
        raise HubError(NO_TOKEN)
    if not hub_reachable():
        raise HubError(
            f"{constants.ENDPOINT} cannot be reached: is there a network? --dry_run shows what would be sent."
        )
    return token
