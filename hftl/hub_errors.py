"""What goes wrong between here and the Hub, each in one line: what happened, and what to do."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hftl.errors import HftlError, ModelError, did_you_mean
from hftl.models.packaged import PACKAGED


TOKENS_PAGE = "https://huggingface.co/settings/tokens"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
AGAIN = "Push again: nothing is sent twice."

# The first that fits: the line when a model is loaded, and when one is pushed. {answer} is the status with its text.
_TYPES: tuple[tuple[type[BaseException], str | None, str | None], ...] = (
    (DisabledRepoError, None, "The Hub has disabled {name} ({answer}): its page says why."),
    (
        GatedRepoError,
        "{name} is gated: accept its terms on the Hub and log in with `hf auth login`.",
        "{name} is gated, and this token is not on its list ({answer}): ask its owner for access.",
    ),
    (
        RevisionNotFoundError,
        "{name} has no such revision. Leave it out for the main branch.",
        "{name} has no such revision ({answer}). Give --revision a branch, which is made when it is missing.",
    ),
    (
        RepositoryNotFoundError,
        "There is no {what} {name!r} on the Hub (or it is private: log in with `hf auth login`).",
        None,  # by its status
    ),
)
_STATUSES = {
    401: "The Hub does not accept this token ({answer}): {login}",
    403: (
        f"This token may not write to {{owner}} ({{answer}}). Use one with the role 'write' for it ({TOKENS_PAGE}), or "
        "push to a namespace of your own: `hf auth whoami` lists them."
    ),
    404: "The Hub has no {name} that this token can write to ({answer}): it was removed or renamed meanwhile.",
    409: f"{{name}} is being changed by somebody else, or its name is taken ({{answer}}). {AGAIN}",
    412: "Somebody else committed to {name} meanwhile ({answer}): nothing was overwritten. Look at it, and push again.",
    429: "The Hub asks to slow down ({answer}). Push again in five minutes: nothing is sent twice.",
}
_FAILS = (
    f"The Hub fails while {{doing}} ({{answer}}), also when asked again: see https://status.huggingface.co. {AGAIN}"
)
# When a model or data are read.
_READ = {
    401: _STATUSES[401],
    403: f"This token may not read {{name}} ({{answer}}): ask its owner for access, or use another token ({TOKENS_PAGE}).",
    429: "The Hub asks to slow down ({answer}). Try again in five minutes.",
}
_READ_FAILS = "The Hub fails while {name} is read ({answer}): see https://status.huggingface.co, and try again."
# What the files of a checkpoint hold: a pattern of the error's type and text, the line, and the line where neither
# --trust_remote_code nor --allow_pickle exists.
_FILES = (
    (
        "trust_remote_code",
        "{name} asks to run code of its own. If you have read and trust it, add --trust_remote_code; else choose "
        "another, such as {default_model}.",
        "{name} asks to run code of its own, which hftl never does for {purpose}.",
    ),
    ("PermissionError|Permission denied", "{name} cannot be read: you have no permission ({text}).", None),
    (
        "^UnpicklingError",  # torch's text says how to run the code all the same
        "{name} has a pickle that is damaged, or holds more than tensors and could run code. It was not run.",
        None,
    ),
    ("^SafetensorError", "{name} has a broken .safetensors file ({text}). Fetch it again.", None),
    (
        r"safetensors|pytorch_model\.bin",
        "{name} has no safetensors weights. If you trust its pickle, add --allow_pickle. ({text})",
        "{name} has no safetensors weights, and hftl reads no pickle for {purpose}.",
    ),
    (
        "does not recognize this architecture|Unrecognized model in",
        "The config.json of {name} has no model_type that this version of transformers knows. Choose another model, such "
        "as {default_model}, or upgrade transformers.",
        None,
    ),
)


class HubError(HftlError):
    """The Hub refused, failed or cannot be reached."""


@contextmanager
def push_errors(repo_id: str, doing: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises inside into a `HubError` of one line; `doing` says what was under way."""
    try:
        yield
    except HftlError:
        raise
    except Exception as error:
        line = push_line(error, repo_id, doing)
        if line is None:
            raise
        raise HubError(line) from error


def root_of(error: BaseException) -> BaseException:
    """Return what the Hub or the network answered: the library wraps it when a file is being sent."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, HTTPError | HftlError | OSError):
        at = at.__cause__
    return at or error


def push_line(error: BaseException, repo_id: str, doing: str) -> str | None:
    """Return the line for an error of the Hub or the network; None for any other."""
    root = root_of(error)
    if isinstance(root, HftlError):
        return str(root)
    text = plain(str(root))
    if isinstance(root, HfHubHTTPError):
        status = root.response.status_code
        by_status = _STATUSES.get(status, _FAILS if status >= 500 else "The Hub refused while {doing} ({answer}).")
        template = next((line for kind, _, line in _TYPES if line and isinstance(root, kind)), by_status)
        said = {"answer": _answer(root), "login": _login()}
        return template.format(name=repo_id, owner=repo_id.split("/")[0], doing=doing, **said)
    if isinstance(root, HTTPError | ConnectionError | TimeoutError):
        return f"The connection to {constants.ENDPOINT} broke while {doing} ({type(root).__name__}: {text}). {AGAIN}"
    if isinstance(root, OSError) and root.errno in FULL_DISK:
        return None  # a fault of this machine
    if isinstance(root, ValueError | RuntimeError | OSError):  # such as a card that the Hub finds invalid, or hf_xet's
        return f"{repo_id}: {doing} failed: {text}"
    return None


def _answer(error: HfHubHTTPError) -> str:
    """Return the status with its text."""
    return ": ".join(filter(None, (str(error.response.status_code), plain(error.server_message or ""))))


def _login() -> str:
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
def hub_errors(name: str, purpose: str, default_model: str = "another model", trusting: bool = True) -> Iterator[None]:
    """Turn what transformers and the Hub client raise inside, while a model is read, into a `ModelError` of one line.

    `trusting` says whether --trust_remote_code and --allow_pickle exist where this is used.
    """
    try:
        yield
    except HftlError:
        raise
    except Exception as error:  # whatever is raised while somebody's files are read is about these files
        raise ModelError(_load_line(error, name, purpose, default_model, trusting)) from error


def access_line(error: BaseException, name: str, what: str, others: Iterable[str] = ()) -> str | None:
    """Return the line for a repository (a model or a data set) that cannot be had; None where the error is another.

    `others` are names that may have been meant instead.
    """
    chain = _chain(error)
    for kind, line, _ in _TYPES:
        if line and any(isinstance(one, kind) for one in chain):
            return line.format(name=name, what=what) + (did_you_mean(name, others) if "{what}" in line else "")
    for one in chain:
        status = one.response.status_code if isinstance(one, HfHubHTTPError) else 0
        line = _READ.get(status, _READ_FAILS if status >= 500 else None)
        if line:
            return line.format(name=name, answer=_answer(one), login=_login())  # type: ignore[arg-type]
    broken = next((one for one in chain if isinstance(one, HTTPError) and not isinstance(one, HfHubHTTPError)), None)
    if broken is None or any(isinstance(one, HfHubHTTPError | OfflineModeIsEnabled) for one in chain):
        return None
    text = plain(str(broken))
    return f"The connection to {constants.ENDPOINT} broke while {name} was read ({type(broken).__name__}: {text}). Try again."


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what brought it about, the last first."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return chain


def _load_line(error: Exception, name: str, purpose: str, default_model: str, trusting: bool) -> str:
    line = access_line(error, name, "model", [*PACKAGED, default_model])
    if line is not None:
        return line
    text = " ".join(str(error).split())
    packages = re.findall(r"(?:requires the|Missing optional dependencies:) (\w+)", text)
    if packages:
        needed = " ".join(dict.fromkeys(packages)).lower()
        return f"{name} needs {needed}, which is not installed: pip install {needed}"
    whole = f"{type(error).__name__}: {text}"
    for pattern, line, untrusting in _FILES:
        if re.search(pattern, whole):
            template = line if trusting else untrusting or line
            return template.format(name=name, purpose=purpose, default_model=default_model, text=text[:200])
    if any(isinstance(one, LocalEntryNotFoundError | HfHubHTTPError) for one in _chain(error)):
        return f"{name} could not be fetched from {constants.ENDPOINT}: {text[:200]}"
    cut = whole if len(whole) <= 300 else whole[:297] + "..."
    return f"{name} could not be loaded for {purpose}: {cut.rstrip('.')}. Check its files, or try {default_model}."
