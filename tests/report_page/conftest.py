"""A headless Chromium, where there is one, and pages that record what they ask for and complain about."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import headless_chromium
from tests.report_page.example import page, text_rows


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    yield from headless_chromium()


class Opened:
    """A page of the browser with its console messages, errors, dialogs and requests."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def show(chromium: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file: `show(path, width=1200, **context options)`."""
    contexts = []

    def open_page(path: Path, width: int = 1200, **options: Any) -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.goto(path.as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with every part of the evidence."""
    return page(tmp_path_factory.mktemp("page"), text_rows()).read_text(encoding="utf-8")
