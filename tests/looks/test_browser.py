"""One look with a headless Chromium: the page without a matrix, and the demo of labels and of a number for a pair."""

import pytest


@pytest.fixture
def look(chromium):
    """`look(address)` returns the page and the list that its complaints go to."""
    pages = []

    def open_page(address):
        page, said = chromium.new_page(viewport={"width": 1200, "height": 900}), []
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        return page, said

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize(("kind", "inputs"), [("labels", "text"), ("number", "pair")])
def test_the_page(run_of, look, kind, inputs):
    page, said = look((run_of(kind, inputs) / "report.html").as_uri())
    page.click("#theme")  # the script runs to its end
    page.locator(".copy").first.wait_for(state="attached")
    if kind == "labels":
        page.click("table.sortable th button >> nth=0")
        assert page.inner_text("table.sortable tbody th >> nth=0") == "blue"
    else:
        assert page.locator("#numbers svg").count() == 2
    assert said == []


@pytest.mark.parametrize(("kind", "inputs"), [("labels", "text"), ("number", "pair")])
def test_the_demo(run_of, look, tmp_path, kind, inputs):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from hftl.demo.app import launch_demo

    demo = launch_demo(run_of(kind, inputs), port=0, feedback=tmp_path / "kept")
    try:
        page, _ = look(str(demo.local_url))
        page.wait_for_selector("#classify")
        page.fill(f"#{inputs}-input textarea", "sad lonely tears")
        if inputs == "pair":
            page.fill("#pair-input-2 textarea", "happy joyful smile")
        page.click("#classify")
        page.wait_for_selector("#why div.words")
        shown = page.evaluate("getComputedStyle(document.querySelector('#why span.for')).textDecorationLine")
        assert shown == "underline"
        assert page.inner_text("#said")
        if kind == "number":
            assert page.inner_text("#classify") == "Estimate"
            page.fill("#right-label input", "2.5")
        else:
            page.click("#right-label input")
            page.get_by_role("option", name="green").click()
            page.keyboard.press("Escape")
        page.click("#save-feedback")
        page.wait_for_function("document.querySelector('#thanks')?.innerText.includes('Saved as')")
    finally:
        demo.close(verbose=False)
    kept = (tmp_path / "kept" / "feedback.csv").read_text(encoding="utf-8")
    assert ("2.5" if kind == "number" else ",green,") in kept
