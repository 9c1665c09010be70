"""Take the pictures of the README: `python docs/screenshots.py runs/text-full` (needs Chromium, as the tests do)."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from hftl.demo.app import launch_demo


FOLDER = Path(__file__).parent / "images"
TEXT = "The opera was written in Vienna in 1786, and its overture is still played in concert halls."


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
        page.screenshot(path=FOLDER / "demo.png")
        page.goto(Path(run, "report.html").resolve().as_uri())
        page.wait_for_timeout(500)
        page.screenshot(path=FOLDER / "report.png")
        browser.close()
    demo.close()


if __name__ == "__main__":
    main(sys.argv[1])
