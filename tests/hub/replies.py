"""What the tests' Hub reads and answers: requests, replies, and the errors with the codes that clients look for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote


class Reply(NamedTuple):
    body: bytes
    headers: dict[str, str]
    status: int = 200


class HubError(Exception):
    """A refusal; `code` goes into X-Error-Code, which tells huggingface_hub what to raise."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        commit: str | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.commit = status, code, commit
        self.body = {"error": message, **(body or {})}
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        headers = {"X-Error-Message": str(self).splitlines()[0], **self.headers}
        headers |= {"X-Error-Code": self.code} if self.code else {}
        headers |= {"X-Repo-Commit": self.commit} if self.commit else {}
        return json_reply(self.body, self.status, headers)


def repository_not_found(signed_in: bool) -> HubError:
    """The Hub does not tell a stranger whether a repository is private or absent."""
    status, message = (404, "Repository not found") if signed_in else (401, "Invalid username or password.")
    return HubError(status, message, "RepoNotFound")


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        json.dumps(value, default=str).encode(), {"Content-Type": "application/json", **(headers or {})}, status
    )


@dataclass(frozen=True)
class Request:
    """A request; its body lies in a file, and the token stands apart from the headers."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Path | None = None
    token: str | None = field(default=None, repr=False)

    def content(self) -> bytes:
        return self.body.read_bytes() if self.body is not None else b""

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.content() or b"{}")
        except ValueError:
            raise HubError(400, "The body is not JSON") from None
        if not isinstance(value, dict):
            raise HubError(400, "The body is not a JSON object")
        return value

    def fields(self) -> dict[str, list[Any]]:
        """The fields of a posted form or JSON object, each as a list."""
        if "json" in self.headers.get("content-type", ""):
            return {key: item if isinstance(item, list) else [item] for key, item in self.json().items()}
        found: dict[str, list[Any]] = {}
        for pair in self.content().decode().split("&"):
            key, _, value = pair.partition("=")
            found.setdefault(unquote(key), []).append(unquote(value.replace("+", " ")))
        return found
