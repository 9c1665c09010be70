"""Send a finished run to the Hub: one commit with everything, then proof that what arrived is the model."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, constants

from hftl.errors import DataError, RunError
from hftl.hub_errors import FULL_DISK, HubError, plain, push_errors
from hftl.publishing.bundle import Bundle, build_bundle
from hftl.publishing.hub_repository import (
    PushOptions,
    Target,
    check_options,
    commit_files,
    left_behind,
    open_target,
    say,
    usable_token,
)
from hftl.publishing.parity import DownloadError, ParityError, check_pushed, is_pooled, keep_parity, unchecked
from hftl.publishing.public_report import public_name
from hftl.publishing.space import Serves, push_space
from hftl.report.visible import one_line
from hftl.run_data import Artifact, open_artifact
from hftl.run_folder import check_finished


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now."""

    url: str  # of the repository, the branch or the pull request
    commit: str
    repo_id: str
    revision: str | None  # branch or refs/pr/N; None for main
    pr_url: str | None
    parity: dict[str, Any]  # as report.json keeps it (docs/report.md)
    space_url: str | None


def push_to_hub(
    run: str | Path,
    repo_id: str,
    *,
    public: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    adapter_only: bool = False,
    license: str | None = None,
    language: str | None = None,
    include_examples: int = 0,
    space: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Push a finished run to the model repository `repo_id` (namespace/name) and check what arrived.

    Everything goes in one commit, into a repository that is made private unless `public`; `PushOptions` says what each
    of the others means.

    Raises `RunError` for what is no finished run, `ConfigError` for options that do not fit, `HubError` for what the
    Hub or the network refuses (nothing is committed then), and `ParityError` when the model downloaded again answers
    differently (the commit is on the Hub then, and the error names it).
    """
    where = (run, repo_id, public, revision, create_pr)
    return push(PushOptions(*where, adapter_only, license, language, include_examples, space, commit_message, token))


def push(options: PushOptions, agree: Callable[[Bundle], None] | None = None) -> Pushed:
    """Push as `push_to_hub` does. `agree` is called with what will be sent, and may raise to stop."""
    check_options(options)
    api, repo_id = HfApi(token=usable_token(options)), options.repo_id
    artifact = finished_run(options.run)
    with bundled(artifact, options) as bundle:
        (agree or show_rows)(bundle)
        with push_errors(repo_id, "pushing"):
            with _interrupted(f"nothing was committed to {repo_id}. Push again: nothing is sent twice."):
                target = open_target(api, options)
            with _interrupted(f"{repo_id} has the whole commit or nothing of it. Push again: nothing is sent twice."):
                commit = _send(api, target, bundle, artifact, options)
    with _interrupted(f"commit {commit.oid} of {repo_id} is made, but was not checked."):
        parity = prove(artifact, target, commit, bundle.base if options.adapter_only else None, options.token)
        revision, page = commit.pr_revision or target.branch, f"{constants.ENDPOINT}/{repo_id}"
        url = commit.pr_url or (f"{page}/tree/{revision}" if revision else page)
        pushed = Pushed(url, commit.oid, repo_id, revision, commit.pr_url, parity, None)
        if options.space is None:
            return pushed
        serves = Serves(repo_id, revision, is_pooled(artifact.folder), bundle.license.id)
        try:
            return replace(pushed, space_url=push_space(api, options.space, serves, private=not options.public))
        except HubError as error:
            at = f"{url} (commit {commit.oid[:12]})"
            raise HubError(f"The model is at {at}, but its Space failed: {error}") from error


def finished_run(run: str | Path) -> Artifact:
    """Return the artifact of a run folder, or of its `final/`. Raises `RunError` for anything else, with the reason."""
    path = check_finished(run)
    artifact = open_artifact(path)
    if artifact.run is None or artifact.report is None:
        raise RunError(
            f"{path} is no run of hftl: there is no report.json, which the card is made of. `hf upload` sends a model "
            "folder as it is."
        )
    return artifact


@contextmanager
def bundled(artifact: Artifact, options: PushOptions) -> Iterator[Bundle]:
    """Build what the commit will hold, in a folder that is removed afterwards whatever happens."""
    assert artifact.run is not None
    assert artifact.report is not None
    # What an earlier push was checked with belongs to that push, and would make every push differ from the last.
    parity = {where: one for where, one in (artifact.report.get("parity") or {}).items() if where != "hub"}
    source = replace(artifact, report={**artifact.report, "parity": parity})
    try:
        with tempfile.TemporaryDirectory(prefix="hftl-push-", dir=_beside(artifact.run)) as work:
            yield build_bundle(source, Path(work) / "bundle", options)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise RunError(
            f"The disk is full ({tempfile.gettempdir()}) while putting the files together: free some space, or set "
            "TMPDIR to a folder on another disk, and push again."
        ) from error


def _beside(run: Path) -> Path | None:
    """Return the run's own parent when only there weights can be hard links; None for the temporary folder."""
    parent = run.resolve().parent
    far = parent.stat().st_dev != Path(tempfile.gettempdir()).stat().st_dev
    return parent if far and os.access(parent, os.W_OK | os.X_OK) else None


def show_rows(bundle: Bundle) -> None:
    """Say which rows of the data the card will show."""
    if bundle.public_rows:
        say("The card will show these rows of the data:")
        for row in bundle.public_rows:
            say(f"  {one_line(row, 600)}")


def _send(api: HfApi, target: Target, bundle: Bundle, artifact: Artifact, options: PushOptions) -> CommitInfo:
    """Commit, under a title that tells nothing of this machine, and say what was sent."""
    assert artifact.report is not None
    title = f"{artifact.report['method']} of {public_name(artifact.report['model'])}, by hftl"
    start = time.perf_counter()
    commit = commit_files(
        api, target, bundle.folder, bundle.files, options.commit_message or title, create_pr=options.create_pr
    )
    if commit.oid == target.head:
        say(f"{target.repo_id} has all of this already: no commit was made.")
        return commit
    megabytes = sum((bundle.folder / name).stat().st_size for name in bundle.files) / 1e6
    say(f"Committed {len(bundle.files)} files, {megabytes:.1f} MB in {time.perf_counter() - start:.1f} s.")
    gone = left_behind(target.files, bundle.files)
    if gone:
        say(f"Removed with it, as the new model lacks them: {', '.join(gone)}")
    return commit


def prove(
    artifact: Artifact, target: Target, commit: CommitInfo, base: tuple[str, str | None] | None, token: str | None
) -> dict[str, Any]:
    """Download the commit in a fresh process, compare, and keep the result in the run's report under parity, hub.

    `base` is the base model (Hub id, commit) of an adapter that was pushed alone. Raises `ParityError`, which
    names the commit and the way back, when the answers differ or the model cannot be loaded.
    """
    try:
        revision = commit.pr_revision or commit.oid
        result = check_pushed(artifact, target.repo_id, revision, adapter_of=base, token=token)
    except ParityError as error:
        raise ParityError(f"{error} {_way_back(target, commit)}") from error
    except (DataError, DownloadError) as error:
        result = unchecked(0, "none", plain(str(error)))
    problem = keep_parity(artifact, "hub", result)
    if problem:
        say(problem)
    return result


def _way_back(target: Target, commit: CommitInfo) -> str:
    """Return which commit it is, and how to undo it."""
    where = f"It is commit {commit.oid} of {target.repo_id}"
    if commit.pr_url:
        return f"It is the pull request {commit.pr_url}: close it."
    if commit.oid == target.head:
        return f"{where}, which was there before."
    if target.new:
        return f"{where}: `hf repos delete {target.repo_id}` takes it away."
    return f"{where}: `git revert` it in a clone, or load revision {target.head}, which stood there before."


@contextmanager
def _interrupted(line: str) -> Iterator[None]:
    """Say how things stand when Ctrl-C comes inside."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"\nInterrupted: {line}\n")
        raise
