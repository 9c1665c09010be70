"""Faults that a test orders from the tests' Hub: the next requests that match fail in the way asked for."""

import re
import threading
from dataclasses import dataclass, field

from tests.hub.replies import HubError, Reply, json_reply


# What the Hub says with each status: (message, X-Error-Code).
_WORDS: dict[int, tuple[str, str | None]] = {
    401: ("Invalid credentials in Authorization header", None),
    403: ("Forbidden: you don't have the rights to do this", None),
    404: ("Repository not found", "RepoNotFound"),
    409: ("Another conflicting operation has happened", None),
    412: ("A commit has happened since. Please refresh and try again.", None),
    429: ("We had to rate limit you", None),
    500: ("Internal Error - We're working hard to fix this as soon as possible!", None),
    503: ("Service Unavailable", None),
}


@dataclass
class Fault:
    """What happens to the requests whose method is `method` ("" is any) and whose path, with its query, has `path`.

    `path` is a regular expression, looked for anywhere in the path as it was sent (a branch a/b is a%2Fb there). The
    first `skip` matches pass, the next `times` fail (None: all of them). `hits` counts those that did.
    """

    method: str
    path: str
    times: int | None = 1
    skip: int = 0
    status: int | None = None
    message: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_upload: int | None = None  # the connection goes after so many bytes of the request's body
    drop_reply: bool = False  # the request is carried out, its reply never comes
    delay: float = 0.0  # seconds before the reply
    hits: int = 0

    def reply(self) -> Reply | None:
        """The refusal, where this fault is one."""
        if self.status is None:
            return None
        message, code = _WORDS.get(self.status, ("Refused by a test", None))
        if self.status == 429 and not self.headers:
            self.headers["Retry-After"] = "1"
        if self.status in (502, 504):  # a gateway answers with a page
            return Reply(b"<html>Bad gateway</html>", {"Content-Type": "text/html"}, self.status)
        if self.status < 400:
            return json_reply({}, self.status, self.headers)
        error = HubError(self.status, self.message or message, self.code or code, headers=self.headers)
        return error.reply()


class Faults:
    """The faults in force; the first that matches is used."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        re.compile(fault.path)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request; it is counted."""
        with self._lock:
            for fault in self._faults:
                if fault.method not in ("", method) or not re.search(fault.path, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times is None or fault.hits < fault.times:
                    fault.hits += 1
                    return fault
        return None
