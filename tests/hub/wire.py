"""The wire of the tests' Hub: requests and replies, the faults that a test orders, and the server that has them."""

import json
import re
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit


class Reply(NamedTuple):
    body: bytes
    headers: dict[str, str]
    status: int = 200


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, status)


class HubError(Exception):
    """A refusal; `code` goes into X-Error-Code, which tells huggingface_hub what to raise."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more

    def reply(self, headers: Mapping[str, str] | None = None) -> Reply:
        found = {"X-Error-Message": str(self), **({"X-Error-Code": self.code} if self.code else {}), **(headers or {})}
        return json_reply({"error": str(self), **self.more}, self.status, found)


@dataclass(frozen=True)
class Request:
    """A request; the token stands apart from the headers, whose names are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""
    token: str | None = field(default=None, repr=False)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))

    def fields(self) -> dict[str, list[Any]]:
        """The fields of a posted form or JSON object, each as a list."""
        if "json" in self.headers.get("content-type", ""):
            return {key: item if isinstance(item, list) else [item] for key, item in self.json().items()}
        return dict(parse_qs(self.body.decode()))


@dataclass
class Seen:
    """One request as it came. `headers` lack Authorization: `authorized` says if it came."""

    method: str
    path: str
    headers: dict[str, str]
    authorized: bool
    body: bytes = b""


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
    """What happens to the requests whose method is `method` and whose path, with its query, has `path`.

    `path` is a regular expression, looked for anywhere in the path as it was sent (a branch a/b is a%2Fb there). The
    first `skip` matches pass, the next `times` fail (None: all of them). `hits` counts those that did.
    """

    method: str
    path: str
    status: int | None = None
    times: int | None = 1
    skip: int = 0
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_upload: int | None = None  # the connection goes after so many bytes of the request's body
    drop_reply: bool = False  # the request is carried out, its reply never comes
    delay: float = 0.0  # seconds before the reply
    hits: int = 0

    def befalls(self, method: str, path: str) -> bool:
        """Say whether this request fails, and count it."""
        if method != self.method or not re.search(self.path, path) or self.hits == self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        return True

    def reply(self) -> Reply | None:
        """The refusal, where this fault is one."""
        if self.status is None:
            return None
        if self.status in (502, 504):  # a gateway answers with a page
            return Reply(b"<html>Bad gateway</html>", {"Content-Type": "text/html"}, self.status)
        message, code = _WORDS.get(self.status, ("Refused by a test", None))
        headers = self.headers or ({"Retry-After": "1"} if self.status == 429 else {})
        return HubError(self.status, self.message or message, code).reply(headers)


class Hub(Protocol):
    """What the wire needs of the server behind it."""

    requests: list[tuple[str, str]]
    log: list[Seen]
    faults: list[Fault]
    lock: Any

    def answer(self, request: Request) -> Reply: ...


class LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is none of our concern; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def handler_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: `HubServer.log` keeps what a test may want to see."""

    def _respond(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        token = headers.pop("authorization", None)
        seen = Seen(self.command, self.path, headers, token is not None)
        self.hub.requests.append((self.command, self.path))
        self.hub.log.append(seen)
        with self.hub.lock:
            fault = next((fault for fault in self.hub.faults if fault.befalls(self.command, self.path)), None)
        if fault is not None and fault.cut_upload is not None:
            seen.body = self.rfile.read(fault.cut_upload)
            return self._hang_up()
        seen.body = self._body()
        if fault is not None and fault.delay:
            threading.Event().wait(fault.delay)  # not time.sleep, which tests of retries replace
        reply = (fault and fault.reply()) or self._answer(seen, token)
        return self._hang_up() if fault is not None and fault.drop_reply else self._send(reply)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self._read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self._read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _read(self, length: int) -> bytes:
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionAbortedError("the client went away")
        return content

    def _answer(self, seen: Seen, token: str | None) -> Reply:
        target = urlsplit(self.path)
        word = token.removeprefix("Bearer ").strip() if token is not None else None
        query = parse_qs(target.query, keep_blank_values=True)
        try:
            if seen.method == "CONNECT" or target.netloc:  # asked as a proxy
                raise HubError(404, "Not this host", "EntryNotFound")
            return self.hub.answer(Request(seen.method, target.path, query, seen.headers, seen.body, word))
        except HubError as error:
            return error.reply()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    # Names that the base class looks for.
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = _respond  # noqa: N815
