"""Take the pictures of the README: `python docs/screenshots.py runs/text-full` (needs Chromium, as the tests do)."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from hftl.demo.app import launch_demo


FOLDER = Path(__file__).parent / "images"
TEXT = "The opera was written in Vienna in 1786, and its overture is still played in concert halls."
COLOURS = 96  # flat pages need no more, and the files are a third


def save(page: Page, name: str) -> None:
    """Write what the window shows as a small PNG."""
    seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    seen.quantize(COLOURS).save(FOLDER / name, optimize=True)


def main(run: str) -> None:
    """Write demo.png and report.png of the run."""
    FOLDER.mkdir(exist_ok=True)
    demo = launch_demo(run, port=0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1180}, color_scheme="light")
        page.goto(demo.local_url)
        page.locator("textarea").first.fill(TEXT)
        page.get_by_role("button", name="Classify", exact=True).click()
        page.get_by_text("speaks for it").wait_for(timeout=60_000)
        page.wait_for_timeout(1500)
        save(page, "demo.png")
        page.set_viewport_size({"width": 1100, "height": 700})  # the top of the report, above the fold of the README
        page.goto(Path(run, "report.html").resolve().as_uri())
        page.wait_for_timeout(500)
        save(page, "report.png")
        browser.close()
    demo.close()


if __name__ == "__main__":
    main(sys.argv[1])
