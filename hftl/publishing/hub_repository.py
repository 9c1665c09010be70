"""Talk to the Hub: what to push and where to, the repository and its branch, the commit, and asking again.

Imports nothing heavy: what cannot be pushed is refused in a second.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_session,
    get_token,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers, validate_repo_id

from hftl.errors import ConfigError
from hftl.hub_errors import TOKENS_PAGE, HubError, root_of, without_queries
from hftl.surroundings import hub_reachable


T = TypeVar("T")

RETRIES = 5
FIRST_WAIT, LAST_WAIT = 1.0, 8.0  # seconds, doubled each time: as huggingface_hub does
LONGEST_WAIT = 300  # seconds: the Hub counts requests in windows of five minutes, so no honest answer asks for more
ANSWER_TIMEOUT = 120.0  # seconds without a byte; a large commit is answered within a minute
BUSY = (408, 429, 500, 502, 503, 504)
NOT_DONE = (429, 503)  # the Hub has not even begun
_SECONDS = 30.0  # for an answer about a repository
_COMMIT = re.compile(r"[0-9a-f]{40}")

# What `save_pretrained` of models and processors writes, beside weights and some tokenizers' own vocabulary files.
_SAVED = """
    added_tokens.json chat_template.jinja config.json merges.txt modeling_pooled.py preprocessor_config.json
    processor_config.json special_tokens_map.json tokenizer.json tokenizer_config.json vocab.json vocab.txt
"""
# What a push writes beside that. A new model must not lie beside such a file of an old one: loaders would take it up.
_PUSHED = """
    model*.safetensors model.safetensors.index.json adapter_model.safetensors adapter_config.json
    adapter/adapter_model.safetensors adapter/adapter_config.json spiece.model sentencepiece.bpe.model tokenizer.model
    report.json config.yaml .eval_results/* examples/[0-9]*.png
    ladder.png confusion.png
"""
MODEL_FILES = tuple(_SAVED.split())
OF_A_MODEL = (*MODEL_FILES, *_PUSHED.split())


@dataclass(frozen=True)
class PushOptions:
    """What to push, and where to."""

    run: str | Path  # a run folder, or its final/
    repo_id: str  # namespace/name
    public: bool = False  # a new repository is private otherwise; one that exists stays as it is
    revision: str | None = None  # a branch, made when it is missing; None: main
    create_pr: bool = False  # open a pull request instead
    adapter_only: bool = False  # the LoRA adapter at the root instead of the whole model
    license: str | None = None  # identifier of the Hub, needed when it does not follow from base model and data
    language: str | None = None  # of the texts, such as en
    include_examples: int = 0  # test rows that stand in the card; nothing else of the data leaves the machine
    space: str | None = None  # namespace/name of a Space that serves the model
    commit_message: str | None = None
    token: str | None = None  # None: that of HF_TOKEN or `hf auth login`
    online: bool = True  # ask the Hub for licences and leaderboards when it can be reached


@dataclass(frozen=True)
class Target:
    """Where the commit goes."""

    repo_id: str
    branch: str | None  # None: main
    head: str | None  # the commit that it is made on; None in a repository without one
    files: tuple[str, ...]  # those of that commit
    new: bool  # made by this push


def check_options(options: PushOptions) -> None:
    """Raise `ConfigError` for names that the Hub does not take and for options that exclude each other."""
    check_repo_id(options.repo_id)
    _check_branch(options.revision, options.create_pr)
    if options.commit_message is not None and not options.commit_message.strip():
        raise ConfigError("--commit_message needs some words.")
    if options.language is not None and not re.fullmatch(r"[a-z]{2,3}|multilingual", options.language):
        raise ConfigError(f"--language {options.language!r} is no code of a language, such as en, de or multilingual.")
    if options.space is None:
        return
    check_repo_id(options.space, "--space")
    if options.create_pr:
        raise ConfigError(
            "--space needs the model in its repository: merge the pull request first, then push the Space."
        )
    if options.adapter_only:
        raise ConfigError("--space serves whole models: leave out --adapter_only, or --space.")


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


def _check_branch(revision: str | None, create_pr: bool) -> None:
    if revision is None:
        return
    if create_pr:
        raise ConfigError("--create_pr opens a pull request against main: leave out --revision.")
    form = re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision)
    if not form or ".." in revision or revision.endswith((".lock", ".")) or _COMMIT.fullmatch(revision):
        raise ConfigError(f"--revision {revision!r} is no name for a branch, such as v2 or candidates/lora.")


def usable_token(options: PushOptions) -> str:
    """Return the token to use. Raises `HubError`, within two seconds, when there is none or no Hub to use it at."""
    if constants.is_offline_mode():
        raise HubError(
            "Offline mode is on (HF_HUB_OFFLINE): unset it to push, or look at what would be sent with --dry_run."
        )
    token = options.token or get_token()
    if not token:
        raise HubError(
            "You are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN to a token with write access "
            f"({TOKENS_PAGE})."
        )
    if not hub_reachable():
        raise HubError(
            f"{constants.ENDPOINT} cannot be reached: is there a network? --dry_run shows what would be sent."
        )
    return token


def persist(call: Callable[[], T], doing: str, *, network: bool = True, statuses: tuple[int, ...] = BUSY) -> T:
    """Return `call()`, asked again up to `RETRIES` times after one of `statuses` or (with `network`) a broken line.

    Raises the last error; at once where the Hub asks to wait longer than `LONGEST_WAIT` seconds.
    """
    _prepare_client()
    wait = FIRST_WAIT
    for attempt in count(1):
        try:
            return call()
        except Exception as error:
            root = root_of(error)
            answer = root.response if isinstance(root, HfHubHTTPError) else None
            pause = (seconds_to_wait(answer.headers) if answer is not None else None) or wait
            if attempt > RETRIES or pause > LONGEST_WAIT or not _may_pass(root, network, statuses):
                raise
        why = "The connection broke" if answer is None else f"The Hub answered {answer.status_code}"
        say(f"{why} while {doing}: asking again in {pause:g} s ({attempt} of {RETRIES}).")
        time.sleep(pause)
        wait = min(2 * wait, LAST_WAIT)
    raise AssertionError  # never: the last attempt raises


def _prepare_client() -> None:
    """Let the library's client give up on silence, which it never does, and keep signed addresses out of its log."""
    client = get_session()
    if client.timeout.read is None:
        client.timeout = ANSWER_TIMEOUT
    logging.getLogger("huggingface_hub.utils._http").addFilter(_hide_signatures)


def _hide_signatures(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_queries(record.getMessage()), ()
    return True


def _may_pass(root: BaseException, network: bool, statuses: tuple[int, ...]) -> bool:
    """Can asking again help? Where files are sent, the library has asked five times when an error arrives here."""
    request: Any
    if isinstance(root, HfHubHTTPError):
        request, passing = root.response.request, root.response.status_code in statuses
    else:
        request, passing = getattr(root, "_request", None), network
    address = str(request.url) if request is not None else ""
    by_library = "/api/" not in address or "/preupload/" in address
    # the check of the card reads a failure as JSON
    return isinstance(root, json.JSONDecodeError) or (passing and not by_library)


def seconds_to_wait(headers: Mapping[str, str]) -> int | None:
    """Return the seconds that `RateLimit` (when used up) or `Retry-After` asks for; None when neither does."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    after = {name.lower(): value for name, value in headers.items()}.get("retry-after", "").strip()
    return int(after) if after.isdigit() else None


def say(text: str) -> None:
    """Tell the user, on stderr."""
    sys.stderr.write(text + "\n")


def open_target(api: HfApi, options: PushOptions) -> Target:
    """Find the repository, or make it private (unless `public`), and the branch; nothing is committed.

    Raises `HubError` when the repository's visibility is another than `public` says: a push never changes it.
    """
    repo_id = options.repo_id
    info = find_repository(api, repo_id)
    new = info is None
    if info is None:
        if options.create_pr:
            raise HubError(f"There is no {repo_id} on the Hub to open a pull request on: push without --create_pr.")
        make = partial(api.create_repo, repo_id, private=not options.public, exist_ok=True)
        persist(make, f"making {repo_id}")
        info = find_repository(api, repo_id)  # somebody else may have made it meanwhile
        if info is None:
            raise HubError(f"The name {repo_id} is taken, and this token cannot see by what: use another.")
    check_visibility(repo_id, info, public=options.public)
    branch = None if options.revision == "main" else options.revision
    if branch is not None:
        info = _branch(api, repo_id, branch, info.sha)
    return Target(repo_id, branch, info.sha, _files(info), new)


def find_repository(api: HfApi, repo_id: str, repo_type: str = "model") -> Any:
    """Return the Hub's `ModelInfo` or `SpaceInfo`; None where there is none (or it is somebody else's private one)."""
    look = partial(api.repo_info, repo_id, repo_type=repo_type, timeout=_SECONDS)
    try:
        # Nothing was sent yet, and whether there is a network shows here: one try at the connection.
        return persist(look, f"looking for {repo_id}", network=False)
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError) or error.response.status_code != 404:  # 401: the token
            raise
        return None


def check_visibility(repo_id: str, info: Any, *, public: bool, repo_type: str = "model") -> None:
    """Raise `HubError` where more people see the repository than `public` says, or fewer."""
    if info.private is not public:
        return
    now, other, advice = ("private", "public", "Leave out") if public else ("public", "private", "Add")
    raise HubError(
        f"{repo_id} is {now}, and a push never changes that: nothing was sent. {advice} --public, or run "
        f"`hf repos settings {repo_id} --repo-type {repo_type} --{other}` first."
    )


def _branch(api: HfApi, repo_id: str, revision: str, start: str | None) -> Any:
    """Return the `ModelInfo` of the branch, made from `start` when it is missing."""
    find = partial(
        persist, partial(api.model_info, repo_id, revision=revision, timeout=_SECONDS), f"looking for {revision}"
    )
    try:
        return find()
    except RevisionNotFoundError:
        if revision.startswith("refs/"):
            raise
    make = partial(api.create_branch, repo_id, branch=revision, revision=start, exist_ok=True)
    persist(make, f"making the branch {revision}")
    return find()


def _files(info: Any) -> tuple[str, ...]:
    return tuple(sibling.rfilename for sibling in info.siblings or [])


def left_behind(present: Collection[str], files: Collection[str]) -> list[str]:
    """Return the files of an earlier model among those `present` in the repository that are not among the new ones."""
    return [name for name in present if name not in files and any(fnmatchcase(name, p) for p in OF_A_MODEL)]


def commit_files(
    api: HfApi, target: Target, folder: Path, files: Collection[str], message: str, *, create_pr: bool
) -> CommitInfo:
    """Commit the `files` of a folder and return the commit; the branch's own last commit when nothing is new.

    It is all or nothing, and refused (412) when somebody else committed meanwhile. Asked again after an answer was
    lost, it finds its own commit there and has nothing to do. A pull request has no such memory, and is asked for
    again only when the Hub surely did not open it.
    """
    commit, doing = partial(_commit, api, target, folder, files, message, create_pr), f"committing to {target.repo_id}"
    if not create_pr:
        return persist(commit, doing)
    try:
        return persist(commit, doing, network=False, statuses=NOT_DONE)
    except HTTPError as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status is not None and (status < 500 or status in NOT_DONE):
            raise
        raise HubError(
            f"The Hub did not say whether the pull request was opened ({status or type(error).__name__}): look at "
            f"{constants.ENDPOINT}/{target.repo_id}/discussions before you push again."
        ) from error


def _commit(
    api: HfApi, target: Target, folder: Path, files: Collection[str], message: str, create_pr: bool
) -> CommitInfo:
    # read again: an earlier try, whose answer was lost, may have removed files already
    present = _files(api.model_info(target.repo_id, revision=target.branch, timeout=_SECONDS))
    additions = [CommitOperationAdd(name, folder / name) for name in files]
    removals = [CommitOperationDelete(name) for name in left_behind(present, files)]
    where: dict[str, Any] = {"revision": target.branch, "create_pr": create_pr}
    for addition in additions:  # one by one: the library's threads would not let Ctrl-C end the sending
        api.preupload_lfs_files(target.repo_id, [addition], free_memory=False, **where)
    return api.create_commit(
        target.repo_id, [*additions, *removals], commit_message=message, parent_commit=target.head, **where
    )
