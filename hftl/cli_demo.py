"""`hftl demo`: a page to try a model on, and to see how good it is."""

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from hftl.errors import ConfigError
from hftl.flags import Flags, check_flags, is_on
from hftl.progress import quiet_libraries


DEMO_FLAGS: dict[str, str] = {
    "port": "port on 127.0.0.1 (default: 7860; 0 takes any free one)",
    "share": "also open a public address through gradio.live; says what becomes public",
    "auth": "user:password that the page asks for; better in the environment, as HFTL_DEMO_AUTH",
    "feedback": "folder that corrections are appended to, as data for hftl train",
    "data": "data to take the examples from, where the run's own have moved",
    "revision": "branch, tag or commit of a Hub model",
    "json": 'print {"url": ..., "share_url": ...} when the page is up',
}
AUTH_VARIABLE = "HFTL_DEMO_AUTH"


def demo_verb(positional: list[str], flags: Flags) -> None:
    """Serve the page until Ctrl-C or SIGTERM; its address is printed on stdout once it answers.

    Raises `ConfigError` for wrong flags, `ModelError` for no such model, `RunError` for a port or folder in the way.
    """
    check_flags(flags, set(DEMO_FLAGS), "demo")
    if len(positional) != 1:
        got = f", but got {len(positional)}: {' '.join(positional)}" if positional else ""
        raise ConfigError(f"hftl demo needs one RUN or model{got}, such as: hftl demo runs/tickets")
    share, as_json = is_on(flags, "share"), is_on(flags, "json")
    port = _port(flags.get("port", "7860"))
    auth = _auth(flags.get("auth") or os.environ.get(AUTH_VARIABLE))
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError('hftl demo needs gradio: pip install "hftl[demo]"')
    from hftl.demo import free_port

    port = free_port(port)  # before the model is loaded: whether it is free is known at once
    if share:
        _say_what_is_public(auth=auth is not None, feedback="feedback" in flags)
    from hftl.demo.app import launch_demo, wait

    quiet_libraries()
    with contextlib.redirect_stdout(sys.stderr):
        demo = launch_demo(
            positional[0],
            port=port,
            share=share,
            auth=auth,
            feedback=Path(flags["feedback"]) if "feedback" in flags else None,
            data=flags.get("data"),
            revision=flags.get("revision"),
        )
    shown = {"url": demo.local_url, "share_url": demo.share_url}
    lines = [json.dumps(shown)] if as_json else [str(url) for url in shown.values() if url]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    wait(demo)


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 <= int(value) <= 65535:
        raise ConfigError(f"--port needs a number from 0 to 65535, but got {value!r}.")
    return int(value)


def _auth(value: str | None) -> tuple[str, str] | None:
    """Return user and password; no message ever holds them."""
    if not value:
        return None
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise ConfigError(f"--auth (or {AUTH_VARIABLE}) needs user:password, both of at least one character.")
    return user, password


def _say_what_is_public(*, auth: bool, feedback: bool) -> None:
    said = [
        "--share: whoever has the address can use the model, and read its labels and the report's figures.",
        "What visitors send passes through gradio.live and lies on this machine while the page is up.",
    ]
    if feedback:
        said.append("Visitors can add rows to the feedback folder.")
    if not auth:
        said.append(f"There is no password: --auth user:password or {AUTH_VARIABLE} asks for one.")
    sys.stderr.write(" ".join(said) + "\n")
