"""The wire of the tests' Hub: reads requests, keeps what arrived, lets faults happen, writes replies."""

import socket
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

from tests.hub.replies import HubError, Reply, Request


if TYPE_CHECKING:
    from tests.hub.server import HubServer

_BLOCK = 1 << 16


@dataclass
class Seen:
    """One request as it came. `headers` (names in lower case) lack Authorization: `authorized` says if it came."""

    method: str
    path: str
    headers: dict[str, str]
    authorized: bool
    body: Path | None = None
    status: int | None = None  # of the reply; None where none was sent


class LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is none of our concern; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def handler_for(hub: "HubServer") -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    hub: "HubServer"
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
        fault = self.hub.faults.take(self.command, self.path)
        self._read_body(seen, fault.cut_upload if fault else None)
        if fault is not None and fault.delay:
            threading.Event().wait(fault.delay)  # not time.sleep, which tests of retries replace
        if fault is not None and fault.cut_upload is not None:
            self._hang_up()
            return
        reply = (fault and fault.reply()) or self._answer(seen, token)
        if fault is not None and fault.drop_reply:
            self._hang_up()
            return
        seen.status = reply.status
        self._send(reply)

    def _answer(self, seen: Seen, token: str | None) -> Reply:
        target = urlsplit(self.path)
        word = token.removeprefix("Bearer ").strip() if token is not None else None
        query = parse_qs(target.query, keep_blank_values=True)
        request = Request(seen.method, target.path, query, seen.headers, seen.body, word)
        try:
            if seen.method == "CONNECT" or target.netloc:  # asked as a proxy
                raise HubError(404, "Not this host", "EntryNotFound")
            return self.hub.answer(request)
        except HubError as error:
            return error.reply()

    def _read_body(self, seen: Seen, limit: int | None) -> None:
        """Put the body, at most `limit` bytes of it, into a file; what a broken connection brought stays there."""
        length = self.headers.get("Content-Length")
        chunked = "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()
        if not chunked and not int(length or 0):
            return
        seen.body = self.hub.state.new_file("bodies")
        with seen.body.open("wb") as file:
            if chunked:
                self._copy_chunks(file, limit)
            else:
                self._copy(file, int(length or 0), limit)

    def _copy(self, file: BinaryIO, length: int, limit: int | None) -> int:
        wanted = left = length if limit is None else min(length, limit)
        while left > 0:
            block = self.rfile.read(min(_BLOCK, left))
            if not block:
                raise ConnectionAbortedError("the client went away")
            file.write(block)
            left -= len(block)
        return wanted

    def _copy_chunks(self, file: BinaryIO, limit: int | None) -> None:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            taken = self._copy(file, size, limit)
            if limit is not None:
                limit -= taken
                if limit <= 0:
                    return
            self.rfile.readline()
        self.rfile.readline()

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
