"""`hftl push`: publish a finished run on the Hub, or show what would be published."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hftl.errors import ConfigError
from hftl.flag_values import convert
from hftl.flags import Flags, check_flags
from hftl.progress import quiet_libraries


if TYPE_CHECKING:
    from hftl.publishing.bundle import Bundle
    from hftl.publishing.hub import Pushed
    from hftl.publishing.hub_repository import PushOptions


PUSH_FLAGS = {
    "public": "make the repository public (default: private); one that exists is never changed",
    "revision": "branch to push to, made when it is missing (default: main)",
    "create_pr": "open a pull request instead of committing",
    "adapter_only": "the LoRA adapter alone; its base model must be on the Hub",
    "license": "identifier of the Hub, such as apache-2.0 (default: carried over from base model and data)",
    "include_examples": "show this many test rows in the card; they are printed first (default: 0)",
    "space": "namespace/name of a Space that serves the model, made or updated after the push",
    "commit_message": "title of the commit",
    "dry_run": "print the files with their sizes and the card; no network is used, nothing is sent",
    "yes": "agree to rows that --include_examples makes public",
    "json": "print {url, commit, repo_id, revision, pr_url, parity, space_url} and nothing else on stdout",
}


def push_verb(positional: list[str], flags: Flags) -> None:
    """Push the run and print where it is; with `--dry_run` print what would be sent."""
    check_flags(flags, set(PUSH_FLAGS), "push")
    if len(positional) != 2:
        raise ConfigError(
            "hftl push needs a RUN and the name of a repository, such as: hftl push runs/tickets my-name/tickets"
        )
    dry, yes, as_json = (_switch(flags, name) for name in ("dry_run", "yes", "json"))
    if dry:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported below
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with contextlib.redirect_stdout(sys.stderr):
        from hftl.publishing.hub_repository import PushOptions, check_options, usable_token

        run, repo_id = positional
        options = PushOptions(
            run,
            repo_id,
            public=_switch(flags, "public"),
            revision=flags.get("revision"),
            create_pr=_switch(flags, "create_pr"),
            adapter_only=_switch(flags, "adapter_only"),
            license=flags.get("license"),
            include_examples=_count(flags),
            space=flags.get("space"),
            commit_message=flags.get("commit_message"),
        )
        check_options(options)
        if not dry:
            usable_token(options)
        from hftl.publishing.hub import push  # heavy: what is refused above is refused in a second

        quiet_libraries()
        options = replace(options, license=_license(options, online=not dry))
        if not dry:
            with _ends_on_sigterm():
                pushed = push(options, lambda bundle: _agree(bundle, options, yes))
    if dry:
        _show(options, as_json)
    elif as_json:
        _out(json.dumps(asdict(pushed), ensure_ascii=False))
    else:
        _report(pushed)


def _switch(flags: Flags, name: str) -> bool:
    value = flags.get(name, False)
    try:
        return bool(convert(bool, value))
    except (TypeError, ValueError):
        raise ConfigError(f"--{name} stands alone, or with true or false, not {value!r}.") from None


def _count(flags: Flags) -> int:
    value = flags.get("include_examples", 0)
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"--include_examples needs a number of rows, 0 or more, but got {value!r}.") from None


def _license(options: PushOptions, *, online: bool) -> str | None:
    """Return the licence that was given; where none follows and somebody is there, ask for it."""
    from hftl.publishing.hub import finished_run
    from hftl.publishing.licences import check_license, choose_license, known_license

    if options.license is not None or not _somebody_there():
        return options.license
    report = finished_run(options.run).report
    assert report is not None
    known = known_license(report, online=online)
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
    from hftl.publishing.hub import bundled, finished_run
    from hftl.report.table import print_table

    artifact = finished_run(options.run)
    with bundled(artifact, options, online=False) as bundle:
        sizes = {name: (bundle.folder / name).stat().st_size for name in bundle.files}
        if as_json:
            found: dict[str, Any] = {
                "repo_id": options.repo_id,
                "public": options.public,
                "revision": options.revision,
            }
            found |= {"files": sizes, "card": bundle.card, "license": bundle.license.id}
            _out(json.dumps(found | {"public_rows": list(bundle.public_rows)}, ensure_ascii=False))
            return
        kind = "public" if options.public else "private"
        title = f"{len(sizes)} files, {size(sum(sizes.values()))}, for the {kind} repository {options.repo_id}"
        rows = [(name, size(count)) for name, count in sizes.items()]
        print_table(title, ("file", "size"), rows, stdout=True)
        _out(f"README.md\n\n{bundle.card}")
        if bundle.public_rows:
            from hftl.publishing.hub import show_rows

            show_rows(bundle)
        sys.stderr.write("Nothing was sent (--dry_run).\n")


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def _report(pushed: Pushed) -> None:
    from hftl.report.show import parity_rows

    for where, said in parity_rows({"hub": pushed.parity}):
        sys.stderr.write(f"{where}: {said}\n")
    sys.stderr.write(f"commit {pushed.commit}\n")
    _out(pushed.url)
    if pushed.space_url is not None:
        _out(pushed.space_url)


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


@contextlib.contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that temporary folders go; a shell reports it as 143."""

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
