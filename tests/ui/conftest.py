"""The served page, one for all tests, and browsers on it."""

import json
from pathlib import Path

import pytest

from tests.browser import headless_chromium
from tests.demo.conftest import Opened
from tests.demo.setups import text_run
from tests.tiny import build


class Page:
    """A served page and its folder."""

    def __init__(self, folder: Path, **options) -> None:
        from hftl.ui.app import launch_ui

        self.folder = folder
        self.blocks = launch_ui(folder, port=0, **options)
        self.url = str(self.blocks.local_url)


@pytest.fixture(scope="package")
def ui(tmp_path_factory):
    """A page over a folder with tiny models, which it falls back on as it would on packaged ones, and a finished run."""
    from hftl.ui import train_tab

    folder = tmp_path_factory.mktemp("ui") / "project"
    models = {family: build(family, folder / f"tiny-{family}") for family in ("bert", "resnet")}
    report = text_run(folder / "runs" / "mood") / "report.json"
    made = json.loads(report.read_text(encoding="utf-8"))
    made["evidence"] |= {"worst_rows": [], "suspects": []}  # its rows are made up
    report.write_text(json.dumps(made), encoding="utf-8")
    (report.parent / "report.html").write_text("<h1>A report</h1>", encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.setattr(train_tab, "_at_hand", lambda task: str(models["bert" if task.startswith("text") else "resnet"]))
    patch.setattr(train_tab, "EVERY", 0.5)
    page = Page(folder)
    yield page
    page.blocks.close(verbose=False)
    patch.undo()


@pytest.fixture(scope="package")
def chromium():
    yield from headless_chromium()


@pytest.fixture
def show(chromium, ui):
    """Open the page: `show(query, width=1200, script="", **context options)`; the script runs before the page's own."""
    contexts = []

    def open_page(query: str = "", width: int = 1200, script: str = "", **options) -> Opened:
        contexts.append(chromium.new_context(viewport={"width": width, "height": 844}, **options))
        contexts[-1].add_init_script(script)
        opened = Opened(contexts[-1].new_page())
        opened.page.set_default_timeout(120_000)  # several processes may share two cores
        opened.page.goto(ui.url + query)
        opened.page.wait_for_selector("#look")
        return opened

    yield open_page
    for context in contexts:
        context.close()


def reach(page, place: str, most: int = 80) -> None:
    """Go by the Tab key to what stands in the element of this id, and see that it shows where the keyboard is."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        ids = page.evaluate(
            "(() => { const ids = []; for (let e = document.activeElement; e; e = e.parentElement) if (e.id) ids.push(e.id); return ids; })()"
        )
        seen.append(ids[:1])
        if place in ids:
            shown = page.evaluate(
                """(() => {
                  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
                  const around = getComputedStyle(one.closest('.form, .wrap, .block') ?? one);
                  const marked = style.outlineStyle !== 'none' || style.boxShadow !== 'none' || around.boxShadow !== 'none';
                  return marked && box.width > 0 && box.left >= 0 && box.right <= innerWidth + 1;
                })()"""
            )
            assert shown, f"{place} has the focus and does not show it"
            return
    raise AssertionError(f"{place} is not reached: {seen}")


@pytest.fixture
def no_process(monkeypatch):
    """Runs that are asked for, instead of started."""
    asked = []
    monkeypatch.setattr("hftl.ui.process.start", lambda words, folder: asked.append((tuple(words), folder)))
    return asked
