"""Served demos, one of each kind for all tests, and a headless Chromium that records what pages ask for and say."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser import headless_chromium
from tests.demo.setups import image_run, text_run


class Shown(NamedTuple):
    url: str
    run: Path
    feedback: Path


@pytest.fixture(scope="package")
def text_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    yield from _served(text_run(tmp_path_factory.mktemp("texts") / "mood"))


@pytest.fixture(scope="package")
def image_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    yield from _served(image_run(tmp_path_factory.mktemp("images") / "stripes"))


def _served(run: Path) -> Iterator[Shown]:
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from hftl.demo.app import launch_demo

    feedback = run.parent / "feedback"
    demo = launch_demo(run, port=0, feedback=feedback)
    yield Shown(str(demo.local_url), run, feedback)
    demo.close(verbose=False)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    yield from headless_chromium()


class Opened:
    """A page of the browser with what it said on the console, and the addresses that it asked for."""

    # Gradio's own notices: nothing of ours is missing.
    KNOWN = ("Method not implemented",)

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._heard(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self._heard(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _heard(self, line: str) -> None:
        if not any(known in line for known in self.KNOWN):
            self.said.append(line)

    @property
    def foreign(self) -> list[str]:
        """Requests that would leave the machine."""
        own = ("http://127.0.0.1:", "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]


@pytest.fixture
def show(chromium: Any) -> Iterator[Callable[..., Opened]]:
    """Open a demo: `show(url, width=1200, **context options)`."""
    contexts = []

    def open_page(url: str, width: int = 1200, **options: Any) -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.set_default_timeout(60_000)  # eight processes may share two cores
        opened.page.goto(url)
        opened.page.wait_for_selector("#classify")
        return opened

    yield open_page
    for context in contexts:
        context.close()
