"""`hftl push`: publish a finished run on the Hub, or show what would be published."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from rich.filesize import decimal
from typer import Argument

from hftl.cli.command import USE, Flag, on_stderr, print_json, verb
from hftl.errors import ConfigError
from hftl.run_folder import check_finished


if TYPE_CHECKING:
    from hftl.publishing.bundle import Bundle
    from hftl.publishing.hub_repository import PushOptions


_FLAGS = {
    "public": Flag("make the repository public (default: private); one that exists is never changed", bool),
    "revision": Flag("branch to push to, made when it is missing (default: main)"),
    "create_pr": Flag("open a pull request instead of committing", bool),
    "adapter_only": Flag("the LoRA adapter alone; its base model must be on the Hub", bool),
    "license": Flag("identifier of the Hub, such as apache-2.0 (default: carried over from base model and data)"),
    "language": Flag("language of the texts, such as en (default: that of a packaged sample, else not said)"),
    "include_examples": Flag("show this many test rows in the card; they are printed first (default: 0)", int),
    "space": Flag("namespace/name of a Space that serves the model, made or updated after the push"),
    "commit_message": Flag("title of the commit"),
    "dry_run": Flag("print the files with their sizes and the card; no network is used, nothing is sent", bool),
    "yes": Flag("agree to rows that --include_examples makes public", bool),
    "json": Flag("print {url, commit, repo_id, revision, pr_url, parity, space_url} and nothing else on stdout", bool),
}


@verb(USE, _FLAGS)
def push(
    run: Annotated[str, Argument(metavar="RUN", help="a RUN")],
    repo_id: Annotated[str, Argument(metavar="ns/name", help="the name of a repository")],
    *,
    include_examples: int | None,
    dry_run: bool,
    yes: bool,
    json: bool,
    **flags: Any,
) -> None:
    """Publish a run on the Hub: weights, card, report; private unless --public.

    Example: hftl push runs/tickets my-name/tickets --license apache-2.0 --space my-name/tickets-demo
    """
    if dry_run:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported below
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from hftl.publishing.hub_repository import PushOptions, check_options, usable_token

    options = PushOptions(run, repo_id, include_examples=include_examples or 0, online=not dry_run, **flags)
    check_options(options)
    check_finished(run)
    if not dry_run:
        usable_token(options)
    from hftl.publishing.hub import finished_run  # heavy: what is refused above is refused in a second
    from hftl.publishing.hub import push as push_run
    from hftl.report.show import parity_rows

    with on_stderr():
        options = replace(options, license=_license(options))
        if not dry_run:
            # SIGTERM unwinds like Ctrl-C, so that temporary folders go; a shell reports it as 143
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
            pushed = push_run(options, lambda bundle: _agree(bundle, options, yes))
    if dry_run:
        _show(options, json)
    elif json:
        print_json(asdict(pushed))
    else:
        report = finished_run(run).report or {}
        for where, result in parity_rows({"hub": pushed.parity}, report):
            print(f"{where}: {result}", file=sys.stderr)
        print(f"commit {pushed.commit}", file=sys.stderr)
        print(*filter(None, (pushed.url, pushed.space_url)), sep="\n")


def _license(options: PushOptions) -> str | None:
    """Return the licence that was given; where none follows and somebody is there, ask for it."""
    from hftl.publishing.hub import finished_run
    from hftl.publishing.licences import check_license
    from hftl.publishing.metadata import choose_license, known_license

    if options.license is not None or not _somebody_there():
        return options.license
    report = finished_run(options.run).report
    assert report is not None
    known = known_license(report, online=options.online)
    try:
        choose_license(known.base, known.data)
        return None
    except ConfigError as problem:
        return check_license(_ask(f"{problem}\nLicence of the model (such as apache-2.0, cc-by-4.0 or other): "))


def _agree(bundle: Bundle, options: PushOptions, yes: bool) -> None:
    """Show the rows that would be published; go on when somebody agreed."""
    from hftl.publishing.hub import show_rows

    show_rows(bundle)
    if not bundle.public_rows or not options.public or yes:
        return
    if not _somebody_there():
        raise ConfigError("These rows would be public: add --yes to agree, or leave out --include_examples.")
    if _ask("Everybody will be able to read them. Publish? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("Nothing was sent.")


def _somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _show(options: PushOptions, as_json: bool) -> None:
    """Print the files with their sizes, and the card."""
    from hftl.publishing.hub import bundled, finished_run, show_rows
    from hftl.report.table import print_table

    with bundled(finished_run(options.run), options) as bundle:
        sizes = {name: (bundle.folder / name).stat().st_size for name in bundle.files}
        if as_json:
            values = {"repo_id": options.repo_id, "public": options.public, "revision": options.revision}
            values |= {"files": sizes, "card": bundle.card, "license": bundle.license.id}
            print_json(values | {"public_rows": list(bundle.public_rows)})
            return
        kind = "public" if options.public else "private"
        title = f"{len(sizes)} files, {decimal(sum(sizes.values()))}, for the {kind} repository {options.repo_id}"
        rows = [(name, decimal(count)) for name, count in sizes.items()]
        print_table(title, ("file", "size"), rows, stdout=True)
        print(f"README.md\n\n{bundle.card}")
        show_rows(bundle)
        print("Nothing was sent (--dry_run).", file=sys.stderr)
