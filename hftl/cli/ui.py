"""`hftl ui`: the page to train in."""

import sys
from typing import Annotated, Any

from typer import Argument

from hftl.cli.command import TRAIN, Flag, on_stderr, print_json, verb
from hftl.cli.use import login_of, need_gradio, port_of
from hftl.demo import free_port
from hftl.surroundings import importing
from hftl.ui.files import MAX_UPLOAD, parse_size


AUTH_VARIABLE = "HFTL_UI_AUTH"
_FLAGS = {
    "port": Flag("port on 127.0.0.1 (default: 7860; 0 takes any free one)", int),
    "auth": Flag(f"user:password that the page asks for; better in the environment, as {AUTH_VARIABLE}"),
    "max_upload": Flag(f"size of the largest file that the page takes (default: {MAX_UPLOAD})"),
    "json": Flag('print {"url": ...} when the page is up', bool),
}


@verb(TRAIN, _FLAGS)
def ui(
    folder: Annotated[str, Argument(metavar="FOLDER", help="where data and runs are kept (default: .)")] = ".",
    *,
    json: bool,
    **flags: Any,
) -> None:
    """Train in the browser: data, plan, run, result, on one page.

    Example: hftl ui my-project
    """
    port, login = port_of(flags["port"]), login_of(flags["auth"], AUTH_VARIABLE)
    size = parse_size(flags["max_upload"] or MAX_UPLOAD)
    need_gradio("ui")
    port = free_port(port)
    print(f"Loading ... the page will open at http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    with importing():
        from hftl.demo.app import wait
        from hftl.ui.app import launch_ui

    with on_stderr():
        page = launch_ui(folder, port=port, auth=login, max_upload=size)
    if json:
        print_json({"url": page.local_url})
    else:
        print(page.local_url)
    sys.stdout.flush()
    wait(page)
