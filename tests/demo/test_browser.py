"""The page in a browser: answers, reasons, faults, batches, corrections; on a phone, in the dark, and with no network."""

import csv
import os
from pathlib import Path

import pytest

from hftl.predict import load
from hftl.ui.verbs import Demos
from tests.demo.setups import LABELS, bomb, picture


TEXT = "sad lonely tears while we walk"
ANSWER = '#label [data-testid="label-output-value"]'
HOSTILE = '=1+1 <img src=x onerror="window.hacked=1"> ${window.hacked=1} {{value}}'


def ask(opened, text: str) -> None:
    opened.page.fill("#text-input textarea", text)
    opened.page.click("#classify")


def clear(opened) -> None:
    opened.page.click("#clear")
    opened.page.get_by_text("Drop Image Here").first.wait_for()


def test_text(text_demo, show):
    opened = show(text_demo.url, color_scheme="dark")
    page = opened.page
    assert page.evaluate("getComputedStyle(document.querySelector('#head .kicker')).color") == "rgb(158, 168, 181)"
    assert page.locator("h1").inner_text() == "mood"
    assert page.locator("#verdict-line").inner_text() == (
        "On 60 test rows its accuracy is 84.0% (95% interval 79.0 to 89.0%). Pretraining helped."
    )
    ask(opened, TEXT)
    expected = load(text_demo.run).predict([TEXT])[0]
    assert page.locator(ANSWER).inner_text() == expected.label
    assert (
        page.locator("#not-sure").inner_text().startswith(f"Not sure. {100 * expected.probability:.1f}% is below 90")
    )
    words = page.locator("#why div.words")
    words.wait_for()
    assert words.inner_text() == TEXT
    assert page.locator("#examples button.gallery-item, #examples .gallery-item").count() > 0
    page.locator("#examples .gallery-item").first.click()
    page.wait_for_function("document.querySelector('#why div.words')?.innerText.startsWith('zebra')")
    ask(opened, HOSTILE)
    page.wait_for_function("document.querySelector('#why div.words')?.innerText.startsWith('=1+1')")
    assert words.inner_text() == HOSTILE
    assert page.evaluate("window.hacked") is None
    page.get_by_role("tab", name="Evidence").click()
    assert page.locator("#evidence .verdict h2").inner_text() == "Pretraining helped"
    assert page.locator("#evidence #matrix tbody tr").count() == 3
    assert page.locator("#evidence .chart.wide svg").first.is_visible()
    assert opened.said == []
    assert opened.foreign == []


def test_wrong_text_gets_a_message(text_demo, show):
    opened = show(text_demo.url)
    opened.page.click("#classify")
    opened.page.get_by_text("type or paste one").wait_for()
    assert opened.page.locator(".toast-body").count() == 0  # said once, where the answer would be
    opened.page.evaluate("document.querySelector('#text-input textarea').removeAttribute('maxlength')")
    ask(opened, "a " * 10_001)
    opened.page.get_by_text("20,002 characters").wait_for()
    ask(opened, TEXT)
    assert opened.page.locator(ANSWER).inner_text() in LABELS


def test_batch_and_feedback(text_demo, show, tmp_path):
    data = tmp_path / "new.csv"
    with data.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "message"), (1, TEXT), (2, "=cmd|' /C calc'!A0"), (3, "")])
    opened = show(text_demo.url)
    page = opened.page
    page.get_by_role("tab", name="Batch").click()
    page.set_input_files("#batch-files input[type=file]", data)
    page.wait_for_function("document.querySelector('#batch-column input')?.value === 'message'")
    page.click("#batch-run")
    assert page.locator("#batch-done").inner_text().startswith("2 texts answered, 2 of them not sure.")
    with page.expect_download() as download:
        page.locator("#batch-output a[download]").first.click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["message"] for row in rows] == [TEXT, "'=cmd|' /C calc'!A0", ""]
    assert [row["not_sure"] for row in rows] == ["true", "true", ""]
    assert rows[0]["prediction"] == load(text_demo.run).predict([TEXT])[0].label

    page.get_by_role("tab", name="Try it").click()
    ask(opened, TEXT)
    answered = page.locator(ANSWER).inner_text()
    right = next(label for label in LABELS if label != answered)
    page.click("#save-feedback")
    page.get_by_text("Choose the right label first").wait_for()
    page.locator("#right-label input").click()
    page.get_by_role("option", name=right).click()
    page.click("#save-feedback")
    page.get_by_text(f"Saved as {right}").wait_for()
    with (text_demo.feedback / "feedback.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert (last["text"], last["predicted"], last["label"], last["model"]) == (TEXT, answered, right, "mood")
    assert opened.said == []


def test_image_on_a_phone(image_demo, show, tmp_path):
    opened = show(image_demo.url, width=380)
    page = opened.page
    path = picture(tmp_path / "one.png")
    page.set_input_files("#image-input input[type=file]", path)
    assert page.locator(ANSWER).inner_text() == load(image_demo.run).predict([path])[0].label
    assert page.locator("#label").bounding_box()["y"] < page.locator("#examples").bounding_box()["y"]
    page.locator("#heat-map").wait_for()
    assert page.locator("#heat-map").evaluate("async (i) => (await i.decode(), i.naturalWidth)") >= 80
    for tab in ("Try it", "Batch", "Evidence"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, tab
    assert opened.said == []
    assert opened.foreign == []


@pytest.mark.slow
def test_a_picture_from_the_camera(image_demo, show):
    opened = show(image_demo.url, width=390)
    page = opened.page
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#image-input video')?.videoWidth > 0")  # the camera is on
    page.get_by_role("button", name="capture photo").click()
    assert page.locator(ANSWER).inner_text() in LABELS
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.said == []
    assert opened.foreign == []


@pytest.mark.slow
def test_two_pages_of_one_process_take_files_and_keep_them_apart(image_demo, show, tmp_path):
    from hftl.demo.app import launch_demo, page_folder

    path = picture(tmp_path / "one.png")
    second = launch_demo(image_demo.run, port=0)  # after it the first one still takes files, and the other way round
    folders, uploads = {page_folder(), page_folder()}, Path(os.environ["GRADIO_TEMP_DIR"])
    assert ({one.parent for one in folders}, len(folders)) == ({uploads}, 2)
    child = Path(Demos(None).environment["GRADIO_TEMP_DIR"])  # where the demos that a training page starts have theirs
    assert child == uploads.parent
    for url in (image_demo.url, str(second.local_url), image_demo.url):
        page = show(url).page
        page.set_input_files("#image-input input[type=file]", path)
        assert page.locator(ANSWER).inner_text() == load(image_demo.run).predict([path])[0].label
    second.close(verbose=False)


def test_bombs_and_fakes_get_a_message(image_demo, show, tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_text("no image")
    opened = show(image_demo.url)
    page = opened.page
    page.set_input_files("#image-input input[type=file]", bomb(tmp_path / "bomb.png"))
    page.get_by_text("12000 x 12000 pixels").wait_for()
    clear(opened)
    page.set_input_files("#image-input input[type=file]", fake)
    page.get_by_text("not an image that can be read").wait_for()
    clear(opened)
    page.set_input_files("#image-input input[type=file]", picture(tmp_path / "good.png"))
    assert page.locator(ANSWER).inner_text() in LABELS


@pytest.mark.parametrize("width", [380, 820])
@pytest.mark.slow
def test_no_sideways_scroll(text_demo, show, width):
    opened = show(text_demo.url, width=width)
    ask(opened, TEXT * 20)
    opened.page.locator("#why div.words").wait_for()
    opened.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for tab in ("Try it", "Batch", "Evidence"):
        opened.page.get_by_role("tab", name=tab).click()
        opened.page.wait_for_timeout(200)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, tab
