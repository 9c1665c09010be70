"""The headless Chromium of the tests that look at a page."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest


_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a picture that moves, and a yes


def headless_chromium() -> Iterator[Any]:
    """Give a browser, and close it; skip, with the reason, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", *_CAMERA])
        yield browser
        browser.close()
