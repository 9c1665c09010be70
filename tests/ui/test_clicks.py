"""Every button of the page, clicked: on one finished run, and what each of them leaves on the disk."""

import json
import re
import zipfile
from pathlib import Path

import httpx
import onnx
import pytest

from hftl import adapt
from hftl.data.sources import read_source
from tests.answers.rows import labelled, measured
from tests.command import environment
from tests.hub.target import target_fixture
from tests.push import on_the_hub
from tests.runs import text_frame, tiny_run
from tests.tags.sentences import sentences
from tests.ui.conftest import reach


pytest.importorskip("gradio", reason="the extra ui is not installed")
target = target_fixture(real=False)


@pytest.fixture(scope="module")
def made(ui) -> Path:
    """The data behind two finished runs, tuned and probed."""
    data = ui.folder / "words.csv"
    text_frame(90).to_csv(data, index=False)
    runs = ui.folder / "runs"
    for name, method, evidence in (("tuned", "full", False), ("probed", "probe", "quick")):
        tiny_run("bert", method, ui.folder, f"runs/{name}", data=str(data), evidence=evidence, eval_strategy="epoch")
    assert json.loads((runs / "probed" / "report.json").read_text())["evidence"]["worst_rows"]
    return data


@pytest.fixture
def no_hub(monkeypatch):
    """What the page starts has one thread and no Hub."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)


def test_a_wrong_label_is_put_right_and_trained_on(ui, show, made, no_hub):
    before, opened = made.read_bytes(), show("?run=probed")
    page = opened.page
    page.locator("#outcome .score").wait_for()
    page.click("#report")
    page.frame_locator("iframe.report").locator("h1").wait_for()
    page.click("#report")
    page.locator("iframe.report").wait_for(state="detached")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator("#answer").bounding_box()["width"] > 250, "it stands below the box that it answers"
    page.set_viewport_size({"width": 1200, "height": 844})
    given, answered = page.locator(".worst").first.locator(".tag").all_inner_texts()[:2]
    assert page.input_value("#right-0 input") == answered, "the answer is what is likely right"
    page.click("#wrong-0")
    page.locator("#corrected .note").wait_for()
    page.locator("#wrong-0:disabled").wait_for()
    page.click("#wrong-1")
    page.wait_for_function("document.querySelector('#corrected').innerText.includes('corrected-2')")
    (copy,) = (ui.folder / "data").glob("words-corrected-2")
    now, then = (read_source(str(data), "text").tables["train"]["label"][:] for data in (copy, made))
    changed = [i for i, pair in enumerate(zip(now, then, strict=True)) if pair[0] != pair[1]]
    assert len(changed) == 2
    assert (given, answered) in [(then[i], now[i]) for i in changed]
    page.click("#train-again")
    page.wait_for_url("**?run=words-corrected-2*")
    page.wait_for_function("document.querySelector('#status')?.innerText.startsWith('Finished: words-corrected-2')")
    page.locator("#outcome .score").wait_for()
    (report,) = (ui.folder / "runs").glob("words-corrected-2-*/report.json")
    assert json.loads(report.read_text())["data"]["name"] == copy.name
    assert made.read_bytes() == before
    assert opened.said == []


@pytest.mark.slow  # tests/doctor/test_relabel.py holds what is written, in every form
@pytest.mark.parametrize(
    ("name", "rows", "typed", "cell"),
    [("sets", labelled, "red, green, blue", ["red", "green", "blue"]), ("numbers", measured, "2.5", 2.5)],
)
def test_a_set_of_labels_and_a_number_are_put_right(ui, show, name, rows, typed, cell):
    data = ui.folder / f"{name}.jsonl"
    rows(60).to_json(data, orient="records", lines=True)
    tiny_run("bert", "probe", ui.folder, f"runs/{name}", data=str(data), evidence="quick")
    opened = show(f"?run={name}")
    page = opened.page
    page.locator("#outcome .score").wait_for()
    page.fill("#typed-0 textarea", "2,5, gren")
    page.click("#wrong-0")
    page.get_by_text("the data have no label '2'" if name == "sets" else "'2,5, gren' is not a number").wait_for()
    page.fill("#typed-0 textarea", typed)
    page.click("#wrong-0")
    page.locator("#corrected .note").filter(has_text=f"Saved as {typed} in {name}-corrected").wait_for()
    copy = ui.folder / "data" / f"{name}-corrected"
    now, then = (read_source(str(one), "text").tables["train"].to_pandas() for one in (copy, data))
    column = then.columns[-1]
    (changed,) = [i for i in range(len(then)) if str(now[column][i]) != str(then[column][i])]
    right = now[column][changed]
    assert (list(right) if isinstance(cell, list) else right) == cell
    assert opened.said == []


def test_entities_are_put_right(ui, show, no_hub):
    data = ui.folder / "people.conll"
    rows = sentences(60)
    data.write_text("\n".join("".join(f"{w} {t}\n" for w, t in zip(*row.values(), strict=True)) for row in rows))
    before, config = data.read_bytes(), str(ui.folder / "tiny-bert")
    adapt("token-classification", data=str(data), model=config, method="probe", evidence="quick", use_cpu=True,
          output_dir=str(ui.folder / "runs" / "people"))  # fmt: skip
    opened = show("?run=people", width=390)
    page = opened.page
    page.locator("#outcome .score").wait_for()
    assert "[Ada Lovelace](person)" in page.inner_text("#worst-hint")
    marked = page.input_value("#typed-0 textarea")
    words = page.locator(".worst").first.locator("blockquote, p").first.inner_text().split()
    assert re.sub(r"\[|\]\([^()]*\)", "", marked).split() == words, "the answer, marked in the words of the row"
    for wrong, said in (
        (f"[{words[0]}](PLACE) {' '.join(words[1:])}", "no type of entity 'PLACE': they have 'T0', 'T1', 'T2'"),
        (" ".join([*words, "[Rome](T0)"]), "the row ends before it"),
    ):
        page.fill("#typed-0 textarea", wrong)
        page.click("#wrong-0")
        page.get_by_text(said).wait_for()
    assert not [*(ui.folder / "data").glob("people*")]
    page.fill("#typed-0 textarea", f"[{' '.join(words[:2])}](T1) {' '.join(words[2:])}")
    page.click("#wrong-0")
    page.locator("#corrected .note").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    copy = read_source(str(ui.folder / "data" / "people-corrected" / "train.conll"), "sentence").tables["train"]
    (changed,) = [i for i, row in enumerate(rows) if copy["tags"][i] != row["tags"]]
    assert copy["tags"][changed] == ["B-T1", "I-T1", *["O"] * (len(words) - 2)]
    assert data.read_bytes() == before
    assert opened.said == []


def choose(page, *names: str) -> None:
    for name in names:
        page.locator("#chosen input").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")


def test_two_runs_are_compared_and_one_is_opened(ui, show, made):
    opened = show()
    page = opened.page
    page.get_by_role("tab", name="Runs").click()
    choose(page, "runs/probed", "runs/tuned")
    page.locator("#curves .plot").first.wait_for()
    page.click("#compare")
    page.locator("#paired").wait_for()
    assert "on the same 18 test rows" in page.inner_text("#paired")
    heads = page.locator("#compared th[scope=col]").all_inner_texts()
    assert heads[1:] == ["runs/probed", "runs/tuned"]
    scores = [json.loads((ui.folder / run / "report.json").read_text())["metrics"]["test"] for run in heads[1:]]
    cells = page.locator("#compared tr.own td").all_inner_texts()
    assert cells == [f"{100 * one['accuracy']['value']:.1f}%" for one in scores]
    page.locator("#chosen").get_by_role("button", name="Remove").last.click()
    page.click("#open-run")
    page.wait_for_url("**?run=probed")
    page.locator("#outcome .score").wait_for()
    assert opened.said == []


@pytest.mark.slow
def test_the_result_and_the_runs_by_the_keyboard_on_a_phone(ui, show, made):
    opened = show("?run=probed", width=390)
    page = opened.page
    page.locator("#outcome .score").wait_for()
    page.locator(".worst").first.wait_for()
    reach(page, "try-text")
    page.keyboard.type("sad lonely tears")
    reach(page, "try")
    page.keyboard.press("Enter")
    page.locator("#said").wait_for()
    reach(page, "right-0")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    reach(page, "wrong-0")
    page.keyboard.press("Enter")
    page.locator("#corrected .note").wait_for()
    reach(page, "train-again")
    reach(page, "report")
    page.keyboard.press("Enter")
    page.frame_locator("iframe.report").locator("h1").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Enter")  # closes it
    page.locator("iframe.report").wait_for(state="detached")
    page.reload()
    page.locator("#outcome .score").wait_for()
    page.locator("#corrected .note").filter(has_text="put right in words-corrected").wait_for()  # is found again
    page.locator("#train-again").wait_for()
    opened.said.clear()  # Gradio's script reports the stream that the reload cut off
    page.get_by_role("tab", name="Train").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText").strip() == "Runs"
    page.keyboard.press("Enter")
    page.locator("#runs-panel table").wait_for()
    reach(page, "chosen")
    for name in ("runs/probed", "runs/tuned"):
        page.keyboard.type(name)
        page.get_by_role("option", name=name, exact=True).wait_for()
        page.keyboard.press("Enter")
        page.locator("#chosen .token").filter(has_text=name).wait_for()
    reach(page, "compare")
    page.keyboard.press("Enter")
    page.locator("#paired").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.said == []


@pytest.mark.slow
def test_demo_export_and_push(ui, show, made, no_hub, target, monkeypatch, tmp_path):
    on_the_hub(ui.folder / "runs" / "probed", target, ui.folder / "runs" / "shipped")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for key, value in target.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("HF_TOKEN")
    opened = show("?run=shipped")
    page = opened.page
    page.click("#demo")
    url = page.locator("#said-next a").get_attribute("href")
    assert httpx.get(url).status_code == 200
    page.click("#export")
    page.locator("#exported a").first.wait_for()
    with page.expect_download() as waiting:
        page.locator("#exported a").first.click()
    waiting.value.save_as(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as packed:
        onnx.checker.check_model(onnx.load_from_string(packed.read("model.onnx")))
    page.locator("#push-panel").get_by_role("button", name="Push to the Hub").click()
    page.click("#push")
    page.get_by_text("Give the repository a name").wait_for()
    name = target.new_repo("page")
    page.fill("#repo textarea, #repo input", name)
    page.fill("#licence textarea, #licence input", "mit")
    page.click("#push")
    page.locator("#said-next .problem").filter(has_text="You are not logged in").wait_for()
    monkeypatch.setenv("HF_TOKEN", target.token)
    page.click("#push")
    page.locator("#said-next a").wait_for()
    assert page.locator("#said-next a").get_attribute("href") == f"{target.endpoint}/{name}"
    assert "model.safetensors" in target.files(name)
