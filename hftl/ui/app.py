"""The page of `hftl ui`: four steps from data to a model, and all runs. Served on this machine alone."""

from pathlib import Path

import gradio as gr

from hftl.demo import free_port
from hftl.demo.app import page_folder, serve
from hftl.demo.looks import html
from hftl.errors import RunError
from hftl.ui.files import Workspace
from hftl.ui.looks import header
from hftl.ui.runs_tab import runs_tab
from hftl.ui.train_tab import train_tab


def build_ui(workspace: Workspace, auth: tuple[str, str] | None = None) -> gr.Blocks:
    """Return the page over a workspace as `gr.Blocks`; `auth` is what a demo that it starts asks for, too."""
    cache = page_folder()
    title = f"hftl: {workspace.folder.resolve().name}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3_600)) as page:  # uploads, in seconds
        html(header(workspace.folder), "head")
        with gr.Tabs(selected="train") as tabs:
            with gr.Tab("Train", id="train"):
                run = train_tab(workspace, page, cache, auth)
            with gr.Tab("Runs", id="runs") as tab:
                runs_tab(workspace, page, tab, tabs, run)
    page.queue(max_size=256)
    return page


def launch_ui(
    folder: str | Path, *, port: int = 7860, auth: tuple[str, str] | None = None, max_upload: int = 500 * 10**6
) -> gr.Blocks:
    """Serve the page on 127.0.0.1 and return at once; `page.local_url` is its address, `page.close()` ends it.

    `folder` is made where it is missing; `max_upload` is in bytes. Runs that were started go on when the page ends.
    Raises `RunError` when the port is in use, or the folder cannot be written.
    """
    port = free_port(port)
    workspace = Workspace(Path(folder).expanduser().resolve(), max_upload)
    try:
        for place in (workspace.data, workspace.runs):
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot hold data and runs ({error.strerror}): name another folder.") from None
    page = build_ui(workspace, auth)
    serve(page, port, auth, max_file_size=max_upload, footer_links=[])
    return page
