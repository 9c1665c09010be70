"""Patience with the Hub: what `huggingface_hub` does not ask again by itself, and how long it may be kept waiting.

`huggingface_hub` 2.4 repeats the requests that send files (upload modes, LFS batch, the bytes, verify) up to five
times after 408, 429, 500, 502, 503, 504 and broken connections, with 1 to 8 seconds between, or as long as
Retry-After says, however long that is. It does not repeat reading or making a repository or a branch, the check of
the card, and the commit; it knows no timeout for an answer; and its log shows the signed addresses of the storage.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import parse_ratelimit_headers

from hftl.publishing.hub_faults import AGAIN, HubError, root_of, without_queries


RETRIES = 5
FIRST_WAIT, LAST_WAIT = 1.0, 8.0  # seconds, doubled each time: as huggingface_hub does
LONGEST_WAIT = 300  # seconds: the Hub counts requests in windows of five minutes, so no honest answer asks for more
ANSWER_TIMEOUT = 120.0  # seconds without a byte; a large commit is answered within a minute
BUSY = (408, 429, 500, 502, 503, 504)
NOT_DONE = (429, 503)  # the Hub has not even begun
_REPEATED = ("/preupload/", "/info/lfs/")  # the library has asked five times when an error of these arrives here

T = TypeVar("T")


def persist(call: Callable[[], T], doing: str, *, network: bool = True, statuses: tuple[int, ...] = BUSY) -> T:
    """Return `call()`, asked again up to `RETRIES` times after one of `statuses` or (with `network`) a broken line.

    Raises the last error, and `HubError` when the Hub asks to wait longer than `LONGEST_WAIT` seconds.
    """
    wait, attempt = FIRST_WAIT, 0
    while True:
        attempt += 1
        try:
            with watched():
                return call()
        except Exception as error:
            root = root_of(error)
            if attempt > RETRIES or not _may_pass(root, network, statuses):
                raise
            pause, why = _pause(root, wait)
        say(f"{why} while {doing}: asking again in {pause:g} s ({attempt} of {RETRIES}).")
        time.sleep(pause)
        wait = min(2 * wait, LAST_WAIT)


def _may_pass(root: BaseException, network: bool, statuses: tuple[int, ...]) -> bool:
    """Can asking again help?"""
    if isinstance(root, HfHubHTTPError):
        address = str(root.response.request.url)
        return root.response.status_code in statuses and not any(part in address for part in _REPEATED)
    if isinstance(root, HTTPError):
        address = str(getattr(root, "_request", None) and root.request.url)
        return network and "/api/" in address and not any(part in address for part in _REPEATED)
    return isinstance(root, json.JSONDecodeError)  # the check of the card reads a failure as JSON


def _pause(root: BaseException, wait: float) -> tuple[float, str]:
    """Return how long to wait, in seconds, and why."""
    if isinstance(root, HfHubHTTPError):
        told = told_to_wait(root.response.headers)
        return (wait if told is None else float(told)), f"The Hub answered {root.response.status_code}"
    if isinstance(root, json.JSONDecodeError):
        return wait, "The Hub answered no JSON"
    return wait, f"The connection broke ({type(root).__name__})"


def told_to_wait(headers: Mapping[str, str]) -> int | None:
    """Return the seconds that `RateLimit` (when used up) or `Retry-After` asks for; None when neither says so."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    after = {name.lower(): value for name, value in headers.items()}.get("retry-after", "").strip()
    return int(after) if after.isdigit() else None


@contextmanager
def watched() -> Iterator[None]:
    """Let the library's client give up on silence and on endless waits, and keep signatures out of its log."""
    client = get_session()
    hooks, timeout = client.event_hooks, client.timeout
    client.event_hooks = {**hooks, "response": [*hooks["response"], _refuse_long_wait]}
    if timeout.read is None:
        client.timeout = ANSWER_TIMEOUT
    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(_hide_signatures)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_hide_signatures)
        client.event_hooks, client.timeout = hooks, timeout


def _refuse_long_wait(response: Any) -> None:
    told = told_to_wait(response.headers) if response.status_code in BUSY else None
    if told is not None and told > LONGEST_WAIT:
        raise HubError(
            f"The Hub asks to wait {told} s ({response.status_code}), longer than hftl does ({LONGEST_WAIT} s). {AGAIN}"
        )


def _hide_signatures(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_queries(record.getMessage()), ()
    return True


def say(text: str) -> None:
    """Tell the user, on stderr."""
    sys.stderr.write(text + "\n")
