"""What was pushed is downloaded again and held against the run; the result is kept in the run's own report.json."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import CommitInfo

from hftl.errors import DataError
from hftl.publishing.hub_faults import plain
from hftl.publishing.hub_repository import Target
from hftl.publishing.hub_retries import say
from hftl.publishing.parity import DownloadError, ParityError, check_pushed, keep_parity
from hftl.run_data import Artifact


def prove(
    artifact: Artifact,
    target: Target,
    commit: CommitInfo,
    *,
    adapter_of: tuple[str, str | None] | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Download the commit in a fresh process, compare, and keep the result in the run's report under parity, hub.

    `adapter_of` is the base model (Hub id, commit) of an adapter that was pushed alone. Raises `ParityError`, which
    names the commit and the way back, when the answers differ or the model cannot be loaded.
    """
    try:
        with _lent(token):
            found = check_pushed(artifact, target.repo_id, commit.pr_revision or commit.oid, adapter_of=adapter_of)
    except ParityError as error:
        raise ParityError(f"{error} {way_back(target, commit)}") from error
    except (DataError, DownloadError) as error:
        found = _unchecked(plain(str(error)))
    problem = keep_parity(artifact, "hub", found)
    if problem:
        say(problem)
    return found


def way_back(target: Target, commit: CommitInfo) -> str:
    """Return which commit it is, and how to undo it."""
    where = f"It is commit {commit.oid} of {target.repo_id}"
    if commit.pr_url:
        return f"It is the pull request {commit.pr_url}: close it."
    if commit.oid == target.head:
        return f"{where}, which was there before."
    if target.new:
        return f"{where}: `hf repos delete {target.repo_id}` takes it away."
    return f"{where}: `git revert` it in a clone, or load revision {target.head}, which stood there before."


def _unchecked(why: str) -> dict[str, Any]:
    return {
        "rows": 0, "origin": "none", "labels_equal": None, "max_difference": None, "tolerance": None, "seconds": 0.0,
        "note": f"not checked: {why}",
    }  # fmt: skip


@contextmanager
def _lent(token: str | None) -> Iterator[None]:
    """Let the fresh process download with a token that was given by hand."""
    if token is None:
        yield
        return
    before = os.environ.get("HF_TOKEN")
    os.environ["HF_TOKEN"] = token
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_TOKEN"]
        else:
            os.environ["HF_TOKEN"] = before
