"""The page of a trained model: try it, many inputs at once, and the evidence. Served on this machine alone."""

import atexit
import functools
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from hftl.config import read_yaml
from hftl.demo import HOST, free_port
from hftl.demo.batch import batch_tab
from hftl.demo.feedback import open_feedback
from hftl.demo.looks import html, report_html, theme
from hftl.demo.served import MAX_UPLOAD, Served, examples_of
from hftl.demo.try_tab import endpoint, try_tab
from hftl.errors import RunError
from hftl.predict import load
from hftl.publishing.public_report import public_report
from hftl.run_data import Artifact, open_artifact


_EXTRAS = ("inline", "show_error", "run_history", "enable_monitoring", "ssr_mode", "pwa", "mcp_server")  # of Gradio
_OFF: dict[str, Any] = dict.fromkeys(_EXTRAS, False)
_ENDS = (signal.SIGINT, signal.SIGTERM)


def build_demo(
    model: Artifact | str | Path,
    *,
    feedback: str | Path | None = None,
    share: bool = False,
    data: str | None = None,
    revision: str | None = None,
) -> gr.Blocks:
    """Return the page as `gr.Blocks`; `launch_demo` serves it as it is meant.

    `model` is a run, a model folder, a Hub id (at `revision`), or what `open_artifact` returned. Corrections are appended
    to the folder `feedback`; without it there is nothing to correct. `share` says that others will see the page: then no
    row of the run's own data is an example. `data` are data to take the examples from, where the run's own have moved.
    Raises `ModelError` when there is no such model or it is no classifier, and `RunError` for a `feedback` that cannot be
    written.
    """
    folder = page_folder()
    artifact = model if isinstance(model, Artifact) else open_artifact(model, revision)
    if share and artifact.report is not None and artifact.revision is None:  # what the Hub has is public already
        config = read_yaml(artifact.run / "config.yaml") if artifact.run is not None else None
        artifact = replace(artifact, report=public_report(artifact.report, config))
    served = Served(artifact, load(artifact.folder))
    name, predictor = served.name, served.predictor
    painted = served.output.picture is not None
    kind = served.output.words["given"] if painted else served.inputs.kind
    corrections = None if feedback is None else open_feedback(feedback, kind)
    pool = ThreadPoolExecutor(2, thread_name_prefix="hftl-demo")
    evidence = pool.submit(report_html, "evidence.html", name, predictor, artifact.report)  # another process draws
    # The first answer of a process takes several times as long.
    served.predict([served.join([served.box.smallest] * len(served.inputs.columns))])
    examples = pool.submit(examples_of, served, folder / "examples", share=share, data=data)  # may take a while
    pool.shutdown(wait=False)
    title = f"{name}: {predictor.task.name.replace('-', ' ')}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3_600)) as demo:  # uploads, in seconds
        html(
            report_html("header.html", (artifact.report or {}).get("name") or name, predictor, artifact.report), "head"
        )
        with gr.Tabs():
            with gr.Tab("Try it", id="try"):
                try_tab(served, examples, corrections, demo)
            with gr.Tab("Batch", id="batch"):
                batch_tab(served, folder / "answers")
            with gr.Tab("Evidence", id="evidence"):
                html(evidence.result(), "evidence")
        endpoint(served)
    demo.queue(max_size=64)  # requests that wait; more are told to try again
    return demo


def launch_demo(
    model: Artifact | str | Path,
    *,
    port: int | None = None,
    share: bool = False,
    auth: tuple[str, str] | None = None,
    **page: Any,
) -> gr.Blocks:
    """Serve the page on 127.0.0.1 and return at once; `demo.local_url` is its address, `demo.close()` ends it.

    Nothing is sent anywhere: no analytics, no fonts, no scripts from elsewhere. `share` opens a public address
    besides, `auth` is the user and password that the page asks for, `page` are the options of `build_demo`. Raises as
    that does, and `RunError` when the port is in use or no public address could be had.
    """
    port = free_port(7860 if port is None else port)
    demo = build_demo(model, share=share, **page)
    serve(demo, port, auth, share=share, max_file_size=MAX_UPLOAD, footer_links=["api", "settings"])
    if share and not demo.share_url:
        demo.close()
        raise RunError("No public address could be had from gradio.live: leave --share off, or try again later.")
    return demo


def serve(page: gr.Blocks, port: int, auth: tuple[str, str] | None, **options: Any) -> None:
    """Serve a page on 127.0.0.1, with nothing sent anywhere, and return at once; `options` are Gradio's.

    Raises `RunError` when the port cannot be had.
    """
    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            auth=auth,
            theme=theme(),
            quiet=True,
            prevent_thread_lock=True,
            state_session_capacity=1_000,  # visitors whose last answer is remembered
            **options,
            **_OFF,
        )
    except OSError as error:
        raise RunError(f"The page cannot be served on port {port} ({error}): choose another with --port.") from None


def wait(demo: gr.Blocks) -> None:
    """Return on Ctrl-C or SIGTERM, with the page closed."""
    signals: list[int] = []
    before = [signal.signal(n, lambda received, _: signals.append(received)) for n in _ENDS]
    try:
        while not signals:
            time.sleep(0.2)
    finally:
        demo.close(verbose=False)
        for number, handler in zip(_ENDS, before, strict=True):
            signal.signal(number, handler)


def page_folder() -> Path:
    """Return a page's own folder, removed at the end; Gradio's bookkeeping is turned off. Before it makes anything."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Statistics of each request, summed up anew after each: nobody looks at them, and they cost more than an answer.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
    return Path(tempfile.mkdtemp(prefix="page-", dir=_uploads()))


@functools.cache
def _uploads() -> str:
    """Return where all pages of this process have their folders, and Gradio the uploads.

    Gradio asks the environment anew for every file, so with a folder in it for each page those before the last would refuse
    theirs. It serves whoever knows the name of a file, and each holds a hash or 8 random characters.
    """
    folder = tempfile.mkdtemp(prefix="hftl-demo-", dir=os.environ.get("GRADIO_TEMP_DIR"))
    os.environ["GRADIO_TEMP_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
