"""The page in a browser: it is quiet, answers clicks and keys, fits a phone, and nothing of the data runs."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hftl.report.html import write_page
from tests.report_page.example import image_rows, page, text_rows
from tests.report_page.hostile import HOSTILE, hostile_run


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    return page(tmp_path_factory.mktemp("texts"), text_rows(160))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return page(tmp_path_factory.mktemp("images"), image_rows(160), task="image-classification")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    write_page(path, *hostile_run())
    return path


def rows_of(rows, true: int, predicted: int) -> list[int]:
    found = np.flatnonzero((rows.references == true) & (rows.predictions == predicted))
    return sorted(found, key=lambda i: rows.probabilities[i], reverse=true != predicted)


@pytest.mark.parametrize("name", ["texts", "images", "hostile"])
def test_quiet_and_alone(name, request, show):
    path = request.getfixturevalue(name)
    opened = show(path)
    for button in opened.page.locator("[data-cell]:visible").all()[:8]:
        button.click()
    opened.page.locator("#theme").click()
    assert opened.said == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_calibration_table_is_seen_whole(texts, show, width):
    table = show(texts, width=width).page.locator("#calibration .scroll").first
    assert table.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert table.locator("th", has_text="After").is_visible()


def test_click_shows_the_rows(texts, show):
    rows = text_rows(160)
    opened = show(texts)
    for true, predicted in ((0, 1), (2, 0), (1, 1)):
        opened.page.click(f'#matrix [data-cell="{true},{predicted}"]')
        expected = rows_of(rows, true, predicted)
        assert len(expected) > 1
        assert opened.page.locator("#rows .text").all_inner_texts() == [f"the text of row {i}" for i in expected][:20]
        said = opened.page.locator("#rows li .small").first.inner_text()
        assert said == f"{100 * rows.probabilities[expected[0]]:.1f}% sure, test row {expected[0]}"
        heading = opened.page.locator("#rows h3").inner_text()
        names = rows.labels
        assert heading == (
            f"Rightly predicted {names[true]}"
            if true == predicted
            else f"True {names[true]}, predicted {names[predicted]}"
        )
        pressed = opened.page.locator('#matrix [aria-pressed="true"]')
        assert pressed.get_attribute("data-cell") == f"{true},{predicted}"


def test_click_in_the_list_of_confusions(texts, show):
    opened = show(texts)
    button = opened.page.locator("button.link").last
    button.click()
    assert opened.page.locator("#rows li").count() == int(button.inner_text())


def test_keys_move_and_open(texts, show):
    opened = show(texts)
    grid = opened.page.locator("#matrix button")
    assert grid.evaluate_all("all => all.filter((b) => b.tabIndex === 0).length") == 1
    opened.page.locator('#matrix [data-cell="0,1"]').click()
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("Enter")
    assert opened.page.locator("#rows h3").inner_text() == "True History, predicted Science"
    opened.page.keyboard.press("ArrowRight")  # the edge: nothing further
    assert opened.page.evaluate("document.activeElement.dataset.cell") == "1,2"
    opened.page.keyboard.press("ArrowUp")
    opened.page.keyboard.press("Space")
    assert opened.page.locator("#rows h3").inner_text() == "True Arts, predicted Science"


def test_click_shows_thumbnails(images, show):
    rows = image_rows(160)
    opened = show(images)
    opened.page.click('#matrix [data-cell="1,0"]')
    pictures = opened.page.locator("#rows img")
    assert pictures.count() == len(rows_of(rows, 1, 0)) > 1
    sizes = pictures.evaluate_all("all => Promise.all(all.map(async (i) => (await i.decode(), i.naturalWidth)))")
    assert sizes == [8] * len(sizes)
    assert opened.page.locator("#worst img").count() == 8


def test_hostile_strings_are_text(hostile, show):
    opened = show(hostile)
    _, rows = hostile_run()
    page = opened.page
    assert page.evaluate("document.scripts.length") == 2
    for true in range(3):
        for predicted in range(len(HOSTILE)):
            found = rows_of(rows, true, predicted)
            if not found:
                continue
            page.click(f'#matrix [data-cell="{true},{predicted}"]')
            assert page.locator("#rows .text").count() == len(found)
    page.click('#matrix [data-cell="0,0"]')
    assert page.locator("#rows h3").inner_text() == f"Rightly predicted {HOSTILE[0]}"
    assert page.locator("#rows .text").first.inner_text().startswith(HOSTILE[rows_of(rows, 0, 0)[0] % len(HOSTILE)])
    assert page.evaluate("window.hacked") is None
    assert page.locator("#rows script, #rows img, [onerror], [onmouseover]").count() == 0
    assert HOSTILE[1] in page.locator(".lead").inner_text()
    assert "[U+202E]gpj.exe" in page.locator("#notes").inner_text()
    assert opened.said == []


def test_policy_stops_what_would_slip_through(texts, show):
    opened = show(texts)
    opened.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')")
    opened.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 2'}))"
    )
    assert opened.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in said for said in opened.said)
    assert not [url for url in opened.requests if url.startswith("http")]


@pytest.mark.parametrize("name", ["texts", "images", "hostile"])
@pytest.mark.parametrize("width", [390, 320, 820])
def test_no_sideways_scroll(name, width, request, show):
    opened = show(request.getfixturevalue(name), width=width)
    opened.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    wide, narrow = (opened.page.locator(f"#ladder .chart.{size}").is_visible() for size in ("wide", "narrow"))
    assert (wide, narrow) == (width > 640, width <= 640)
    boxes = opened.page.locator("section").evaluate_all("all => all.map((s) => s.getBoundingClientRect().right)")
    assert max(boxes) <= width


@pytest.mark.parametrize("name", ["texts", "hostile"])
@pytest.mark.parametrize("width", [402, 820])
def test_tables_are_seen_whole(name, width, request, show):
    opened = show(request.getfixturevalue(name), width=width)
    opened.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    cut = "all => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.getAttribute('aria-label'))"
    assert opened.page.locator(".scroll").evaluate_all(cut) == []
    figures = opened.page.locator(".cards .figure")
    assert figures.evaluate_all("all => all.every((e) => e.scrollWidth <= e.clientWidth && e.offsetHeight < 40)")


def test_a_link_unfolds_and_paper_has_everything(texts, show):
    opened = show(texts)
    folded = opened.page.locator("details").evaluate_all("all => all.filter((one) => !one.open).length")
    assert folded >= 4
    assert not opened.page.locator("#glossary dl").is_visible()
    opened.page.locator("nav a", has_text="Words").click()
    opened.page.locator("#glossary dl").wait_for(state="visible")
    opened.page.evaluate("void (window.print = () => dispatchEvent(new Event('beforeprint')))")
    opened.page.locator("#print").click()
    assert opened.page.locator("details:not([open])").count() == 0


def test_a_chart_is_saved_as_a_picture(texts, show):
    opened = show(texts)
    opened.page.evaluate("void (navigator.clipboard.write = () => Promise.reject())")  # as where it is not allowed
    with opened.page.expect_download() as download:
        opened.page.locator("#ladder .picture").click()
    with Image.open(download.value.path()) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(100_000)}
        assert picture.format == "PNG"
        assert picture.width >= 1400
    assert {(255, 255, 255), (51, 80, 184)} <= colours  # the card's and the method's, of the page as it is shown
    assert opened.said == []


def colour(opened, selector: str, name: str) -> str:
    return opened.page.locator(selector).first.evaluate("(e, name) => getComputedStyle(e)[name]", name)


def test_light_dark_and_toggle(texts, show):
    looks = {scheme: show(texts, color_scheme=scheme) for scheme in ("light", "dark")}
    for selector, name in (("body", "backgroundColor"), ("body", "color"), ("#ladder .wide text", "fill")):
        assert colour(looks["light"], selector, name) != colour(looks["dark"], selector, name)
    light, dark = (colour(looks[scheme], "body", "backgroundColor") for scheme in ("light", "dark"))
    opened = looks["light"]
    button = opened.page.locator("#theme")
    seen = []
    for _ in range(3):
        button.click()
        seen.append((button.inner_text(), colour(opened, "body", "backgroundColor")))
    assert seen == [("Theme: light", light), ("Theme: dark", dark), ("Theme: auto", light)]
    button.click()
    button.click()
    opened.page.reload()
    assert button.inner_text() == "Theme: dark"


def test_print_is_light_and_whole(texts, show):
    opened = show(texts, color_scheme="dark")
    opened.page.emulate_media(media="print")
    assert colour(opened, "h2", "color") == colour(show(texts, color_scheme="light"), "h2", "color")
    assert not opened.page.locator("nav").is_visible()
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator("details:not([open])").count() == 0


def test_headings_sort(texts, show):
    opened = show(texts)
    table = opened.page.locator("table.sortable")

    def column(n: int) -> list[str]:
        return [text.strip() for text in table.locator(f"tbody tr > :nth-child({n})").all_inner_texts()]

    table.get_by_role("button", name="Test rows").click()
    assert column(5) == ["5", "6", "7"]
    table.get_by_role("button", name="Test rows").click()
    assert column(5) == ["7", "6", "5"]
    assert table.locator("th[aria-sort]").count() == 1
    table.get_by_role("button", name="Class").click()
    assert column(1) == ["Arts", "History", "Science"]


def test_tooltip_says_the_figure(texts, show):
    opened = show(texts)
    mark = opened.page.locator("#ladder .wide [aria-roledescription='point']").last
    mark.hover()
    tip = opened.page.locator("#tip")
    assert tip.inner_text() == "\u2068lora\u2069: 84.0%, 95% interval 79.0% to 89.0%"
    opened.page.locator("h1").hover()
    assert not tip.is_visible()


def test_readable_without_javascript(texts, show):
    opened = show(texts, java_script_enabled=False)
    assert "Pretraining helped" in opened.page.locator("#verdict").inner_text()
    assert "needs JavaScript" in opened.page.locator("#confusion").inner_text()
    assert opened.page.locator("#ladder .wide svg").is_visible()
    assert not opened.page.locator("#theme").is_visible()


def test_every_control_has_a_name(hostile, show):
    opened = show(hostile)
    unnamed = opened.page.evaluate(
        """[...document.querySelectorAll("button, a, summary, [role=img], [role=region], img")]
           .filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("alt") || e.textContent).trim()).length"""
    )
    assert unnamed == 0
    headings = opened.page.locator("h1, h2, h3").evaluate_all("all => all.map((h) => Number(h.tagName[1]))")
    assert headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(headings))
