"""What goes wrong between here and the Hub, each in one line: what happened, and what to do."""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

from hftl.errors import HftlError, RunError


TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class HubError(HftlError):
    """The Hub refused, failed or cannot be reached."""


@contextmanager
def hub_faults(repo_id: str, doing: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises inside into a `HubError` of one line; `doing` says what was under way."""
    try:
        yield
    except HftlError:
        raise
    except Exception as error:
        line = fault_line(error, repo_id, doing)
        if line is None:
            raise
        raise HubError(line) from error


@contextmanager
def full_disk(doing: str) -> Iterator[None]:
    """Turn a disk that is full into a `RunError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise RunError(
            f"The disk is full ({tempfile.gettempdir()}) while {doing}: free some space, or set TMPDIR to a folder on "
            "another disk, and push again."
        ) from error


def root_of(error: BaseException) -> BaseException:
    """Return what the Hub or the network said: the library wraps it when a file is being sent."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, HTTPError | HftlError | OSError):
        at = at.__cause__
    return at or error


def fault_line(error: BaseException, repo_id: str, doing: str) -> str | None:
    """Return the line for an error of the Hub or the network; None for any other."""
    root = root_of(error)
    if isinstance(root, HftlError):
        return str(root)
    if isinstance(root, OfflineModeIsEnabled):
        return OFFLINE
    if isinstance(root, LocalTokenNotFoundError):
        return NO_TOKEN
    if isinstance(root, HFValidationError):
        return f"{repo_id!r} is no name for a repository: {plain(str(root))}"
    if isinstance(root, HfHubHTTPError):
        return _answer_line(root, repo_id, doing)
    if isinstance(root, HTTPError | ConnectionError | TimeoutError):
        return (
            f"The connection to {constants.ENDPOINT} broke while {doing} ({type(root).__name__}: {plain(str(root))}). "
            f"{AGAIN}"
        )
    if isinstance(root, OSError) and root.errno in _FULL:
        return None  # `full_disk` knows better
    if isinstance(root, ValueError | RuntimeError | OSError):  # such as a card that the Hub finds invalid, or hf_xet's
        return f"{repo_id}: {doing} failed: {plain(str(root))}"
    return None


OFFLINE = "Offline mode is on (HF_HUB_OFFLINE): unset it to push, or look at what would be sent with --dry_run."
NO_TOKEN = (
    "You are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN to a token with write access "
    f"({TOKENS_PAGE})."
)
AGAIN = "Push again: nothing is sent twice."


def _answer_line(error: HfHubHTTPError, repo_id: str, doing: str) -> str:
    """Return the line for a status that the Hub answered with."""
    status = error.response.status_code
    said = plain(error.server_message or "")
    told = f"{status}: {said}" if said else str(status)
    space = repo_id.split("/")[0]
    if isinstance(error, DisabledRepoError):
        return f"The Hub has disabled {repo_id} ({told}): its page says why."
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated, and this token is not on its list ({told}): ask its owner for access."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no such revision ({told}). Give --revision a branch, which is made when it is missing."
    lines = {
        400: f"The Hub does not accept what was sent while {doing} ({told}).",
        401: f"The Hub does not accept this token ({told}): {_token_mend()}",
        402: f"The Hub asks for payment or more storage for {space} ({told}): see https://huggingface.co/settings/billing.",
        403: (
            f"This token may not write to {space} ({told}). Use one with the role 'write' for it ({TOKENS_PAGE}), or "
            "push to a namespace of your own: `hf auth whoami` lists them."
        ),
        404: f"The Hub has no {repo_id} that this token can write to ({told}): it was removed or renamed meanwhile.",
        409: f"{repo_id} is being changed by somebody else, or its name is taken ({told}). {AGAIN}",
        412: f"Somebody else committed to {repo_id} meanwhile ({told}): nothing was overwritten. Look at it, and push again.",
        413: f"The Hub finds a file or the commit too large ({told}): leave out --include_examples, or push --adapter_only.",
        429: f"The Hub asks to slow down ({told}). Push again in five minutes: nothing is sent twice.",
    }
    if status in lines:
        return lines[status]
    if status >= 500:
        return (
            f"The Hub fails while {doing} ({told}), also when asked again: see https://status.huggingface.co. {AGAIN}"
        )
    return f"The Hub refused while {doing} ({told})."


def _token_mend() -> str:
    if os.environ.get("HF_TOKEN"):
        return f"set HF_TOKEN to a valid one ({TOKENS_PAGE}), or unset it to use the one of `hf auth login`."
    return f"log in again with `hf auth login`, or set HF_TOKEN to a valid one ({TOKENS_PAGE})."


def plain(text: str) -> str:
    """Return text from elsewhere as one short line: no control characters, no token, no query of a signed address."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = without_queries(re.sub(r"\bhf_[A-Za-z0-9]{8,}|\bapi_org_[A-Za-z0-9]{8,}", "(token)", text))
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= 200 else text[:197] + "..."


def without_queries(text: str) -> str:
    """Cut the query off every address: that of a storage holds a signature, which is a short-lived key."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)


@contextmanager
def interrupted(line: str) -> Iterator[None]:
    """Say the line when Ctrl-C comes inside."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{line}\n")
        raise
