"""`hftl ui` in a browser: from a file to a prediction, faults, a run found again, a phone, the dark, the keyboard alone."""

import csv
import json
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from hftl.cli import execute
from hftl.errors import ConfigError, HftlError, RunError
from hftl.runs import process_folder
from tests.demo.setups import LABELS
from tests.tiny import tiny_images, tiny_text_rows
from tests.ui.conftest import Page, reach


pytest.importorskip("gradio", reason="the extra ui is not installed")
TEXT = "sad lonely tears while we walk"
MARKED = "#methods input"
# A browser that hears late, by 1.5 s, that a stream of answers is closed: what is asked for meanwhile has none to come by.
LATE = """(() => {
  const real = window.fetch;
  window.fetch = async (...asked) => {
    const answer = await real(...asked);
    if (!String(asked[0]?.url ?? asked[0]).includes('/queue/data')) return answer;
    const reader = answer.body.getReader(), decoder = new TextDecoder();
    const body = new ReadableStream({
      async pull(stream) {
        const {done, value} = await reader.read().catch(() => ({done: true}));
        if (done) return stream.close();
        if (decoder.decode(value).includes('close_stream')) await new Promise((go) => setTimeout(go, 1500));
        stream.enqueue(value);
      },
      cancel() { reader.cancel(); },
    });
    return new Response(body, {status: answer.status, headers: answer.headers});
  };
})()"""


def moods(path: Path, rows: int = 60) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((text, LABELS[label]) for text, label in tiny_text_rows(rows, 3))
    return path


def plan(page, method: str) -> str:
    """Wait for the plan, choose a method and return the command."""
    page.locator(f'{MARKED}[value="{method}"]').wait_for(state="attached")
    page.wait_for_function("!document.querySelector('#plan-note')?.innerText.startsWith('Working')")
    page.locator(f"{MARKED}:checked").wait_for(state="attached")  # the page has chosen one
    page.locator(f'{MARKED}[value="{method}"]').check()
    page.wait_for_function(f"document.querySelector('#command textarea').value.endsWith('--method {method}')")
    return page.input_value("#command textarea")


def test_text_from_file_to_prediction(ui, show, tmp_path):
    opened = show(color_scheme="dark")
    page = opened.page
    assert page.evaluate("getComputedStyle(document.querySelector('#head .kicker')).color") == "rgb(158, 168, 181)"
    faulty = moods(tmp_path / "moods.csv")
    faulty.write_text(f"{faulty.read_text()}a text without,\n")
    page.set_input_files("#upload input[type=file]", faulty)
    page.locator(".look").wait_for()
    assert "text classification" in page.inner_text("#data-panel .tone")
    assert page.locator("#data-panel .finding").filter(has_text="missing values").count() == 1
    page.click("#fix")
    page.locator("#data-panel .note").wait_for()
    assert page.locator("#data-panel .finding").filter(has_text="missing values").count() == 0
    assert page.locator("#data-panel .counts li").all_inner_texts()[0].split() == ["Arts", "20"]
    assert page.locator("#data-panel table").first.locator("tbody tr").count() == 5
    command = plan(page, "probe")
    assert command.startswith(f"hftl train text-classification --data {ui.folder / 'data' / 'moods-cleaned'} ")
    page.click("#train")
    page.locator("#status").wait_for()
    page.reload()  # in the middle of the run
    page.locator("#status").wait_for()
    opened.said.clear()  # Gradio's script reports the stream that the reload cut off
    page.locator("#outcome .score").wait_for()
    assert page.locator("#outcome .score").inner_text().endswith("%")
    page.fill("#try-text textarea", TEXT)
    page.click("#try")
    assert page.locator("#said").inner_text() in LABELS
    assert [run.name for run in (ui.folder / "runs").iterdir() if run.name.startswith("moods")]
    assert opened.said == []
    assert opened.foreign == []


def test_a_finished_run_is_put_right(ui, show, no_process):
    opened = show("?run=mood")
    page = opened.page
    assert page.locator("#outcome .score").inner_text() == "84.0%"
    assert page.locator("#stepper [aria-current=step]").inner_text().endswith("Result")
    page.click("#report")
    assert page.frame_locator("iframe.report").locator("h1").inner_text() == "A report"
    page.get_by_role("tab", name="Runs").click()
    row = page.locator("#runs-panel tbody tr").filter(has_text="rows.csv")
    assert "84.0%" in row.inner_text()
    page.click("#compare")
    page.get_by_text("Choose two runs to compare").wait_for()
    assert opened.foreign == []


def test_image_on_a_phone(ui, show, tmp_path, no_process):
    folder = tiny_images(tmp_path / "pictures", per_class=8, classes=LABELS, size=48)
    packed = Path(shutil.make_archive(str(tmp_path / "pictures"), "zip", folder))
    opened = show(width=390)
    page = opened.page
    page.set_input_files("#upload input[type=file]", packed)
    page.locator(".look").wait_for()
    assert "image classification" in page.inner_text("#data-panel .tone")
    assert page.locator("#data-panel .thumb img").first.evaluate("async (i) => (await i.decode(), i.naturalWidth)") > 8
    plan(page, "probe")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Runs").click()
    page.locator("#runs-panel table").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.said == []


def test_the_keyboard_alone_and_answers_that_miss_their_stream(ui, show, tmp_path, no_process):
    moods(ui.folder / "keys.csv")
    page = show(script=LATE).page
    page.locator("#data-text textarea, #data-text input").first.focus()
    page.keyboard.type(str(ui.folder / "keys.csv"))
    page.keyboard.press("Enter")
    page.wait_for_function("!(document.querySelector('#plan-note')?.innerText ?? 'Working').startsWith('Working')")
    page.locator("#train:not([disabled])").wait_for()
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(place := page.evaluate("document.activeElement.closest('[id]')?.id || document.activeElement.type"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if place == "train":
            break
    assert place == "train", seen
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**?run=keys*")
    words, folder = no_process[0]
    assert words[words.index("--data") + 1] == str(ui.folder / "keys.csv")
    assert folder.parent == ui.folder / "runs"


@pytest.mark.slow
def test_a_run_is_stopped_and_resumed_by_the_keyboard_on_a_phone(ui, show):
    run = ui.folder / "runs" / "keys"
    home = process_folder(run)
    home.mkdir(parents=True)
    going = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # stands for a training
    threading.Thread(target=going.wait, daemon=True).start()
    begun = psutil.Process(going.pid).create_time()
    noted = {"words": ["--nosuch", "1"], "cwd": str(ui.folder), "pid": going.pid, "created": begun}
    (home / "start.json").write_text(json.dumps(noted))
    lines = [{"time": begun, "started": True}, {"time": begun, "step": "training"}]
    (home / "progress.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    opened = show("?run=keys", width=390)
    page = opened.page
    page.wait_for_function("document.querySelector('#status')?.innerText.startsWith('Training keys')")
    page.locator("#stop").wait_for()
    reach(page, "stop")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#status')?.innerText.startsWith('Stopped')")
    assert going.wait(20) != 0
    page.locator("#resume").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    reach(page, "resume")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#status')?.innerText.startsWith('Failed')")
    assert "no flag --nosuch" in page.inner_text("#status"), "what hftl train says of its words"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.said == []
    shutil.rmtree(home)


def test_other_data_end_the_plan_of_those_before(ui, show, monkeypatch):
    from hftl.ui import steps

    released = threading.Event()

    def slow(data, task, model, flags):
        yield steps.Card("probe", "a card", words_of_command=(data,), command=f"train {Path(data).name}")
        if "first" in data:
            released.wait(60)  # a card that takes long
            yield steps.Card("head", "too late", words_of_command=(data,), command="train too-late")

    monkeypatch.setattr(steps, "plan_cards", slow)
    moods(ui.folder / "first.csv")
    moods(ui.folder / "second.csv")
    page = show().page
    for name in ("first.csv", "second.csv"):
        page.fill("#data-text textarea, #data-text input", name)
        page.keyboard.press("Enter")
        page.locator(".look .tone").filter(has_text=name).wait_for()
        if name == "first.csv":
            page.wait_for_function("document.querySelector('#command textarea')?.value === 'train first.csv'")
    page.locator("#train").wait_for(state="attached")
    page.wait_for_function(
        "document.querySelector('#train').disabled"
    )  # what it is for is no longer what stands there
    released.set()
    page.wait_for_function("document.querySelector('#command textarea')?.value === 'train second.csv'")
    page.locator("#train:not([disabled])").wait_for()
    assert page.locator(MARKED).count() == 1


def test_columns_that_are_not_found_are_named(ui, show, tmp_path, no_process):
    Image.new("RGB", (8, 8)).save(ui.folder / "beside.png")  # a picture beside says nothing of a table that names none
    rows = [(LABELS[i % 2], f"so {i}", f"it goes {i}", f"{LABELS[i % 3]}|{LABELS[2]}") for i in range(40)]
    table = tmp_path / "odd.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("first", "second", "third", "kinds"), *rows])
    page = show().page
    page.set_input_files("#upload input[type=file]", table)
    page.locator("#data-panel .problem").wait_for()
    assert "no label column found" in page.inner_text("#data-panel")
    page.locator("#name-columns").get_by_role("button", name="Name the columns").click()
    page.fill("#columns textarea, #columns input", "--num_train_epochs 3")
    page.click("#look")
    page.locator("#data-panel .problem").filter(has_text="--num_train_epochs says nothing of columns").wait_for()
    flags = "--text_column second --text_pair_column third --label_column kinds --label_separator '|'"
    page.fill("#columns textarea, #columns input", flags)
    page.click("#look")
    page.locator(".look .tone").filter(has_text="3 labels in 'kinds'").wait_for()
    page.wait_for_function("(flags) => document.querySelector('#command textarea')?.value.endsWith(flags)", arg=flags)


def test_bad_files_get_a_line(ui, show, tmp_path):
    climbing = tmp_path / "climbing.zip"
    with zipfile.ZipFile(climbing, "w") as packed:
        packed.writestr("../../outside.csv", "text,label\n")
    (tmp_path / "fake.csv").write_bytes(b"\x00\x01\x02")
    opened = show()
    for bad in (tmp_path / "fake.csv", climbing):
        opened.page.set_input_files("#upload input[type=file]", bad)
        opened.page.locator("#data-panel .problem").wait_for()
        opened.page.locator("#upload [aria-label=Clear], #upload button[title=Clear]").first.click()
        opened.page.wait_for_selector("#upload input[type=file]", state="attached")
    opened.page.fill("#data-text textarea, #data-text input", "/etc/passwd")
    opened.page.click("#look")
    opened.page.wait_for_function("document.querySelector('#data-panel .problem')?.innerText.includes('passwd')")
    assert opened.page.locator("#train").count() == 0
    assert not (ui.folder.parent / "outside.csv").exists()


@pytest.mark.slow
def test_stop_and_resume_on_two_pages(ui, show):
    from hftl.ui import process

    data = moods(ui.folder / "long.csv", 300)
    words = ["text-classification", "--data", str(data), "--model", str(ui.folder / "tiny-bert"), "--method", "full"]
    process.start([*words, "--num_train_epochs", "60", "--evidence", "off"], ui.folder / "runs" / "long")
    one, other = show("?run=long").page, show("?run=long").page
    one.wait_for_function("document.querySelector('.stages .now .what')?.innerText === 'training'")
    one.click("#stop")
    for page in (one, other):
        page.wait_for_function("document.querySelector('#status')?.innerText.startsWith('Stopped')")
    other.click("#resume")
    for page in (one, other):
        page.wait_for_function("document.querySelector('#status')?.innerText.startsWith('Finished')")


def test_no_file_of_the_machine(ui):
    inside = [*ui.folder.glob("runs/mood/*"), *ui.folder.glob("data/*")]
    for path in ("/etc/passwd", *inside, Path(__file__)):
        for how in ("gradio_api/file=", "file="):
            assert httpx.get(f"{ui.url}{how}{path}").status_code in (403, 404), path
    for name in ("/etc/passwd", "https://example.org/x.csv"):
        assert httpx.get(f"{ui.url}gradio_api/info").json()["named_endpoints"] == {}, name  # nothing to call


def test_limit_login_and_port(tmp_path):
    page = Page(tmp_path / "small", max_upload=1000, auth=("ada", "secret"))
    try:
        assert httpx.get(f"{page.url}config").status_code == 401
        with httpx.Client() as client:
            assert client.post(f"{page.url}login", data={"username": "ada", "password": "no"}).status_code == 400
            assert client.post(f"{page.url}login", data={"username": "ada", "password": "secret"}).status_code == 200
            large = {"files": ("large.csv", b"x" * 2000)}
            assert client.post(f"{page.url}gradio_api/upload", files=large).status_code == 413
    finally:
        page.blocks.close(verbose=False)


def test_bad_flags_get_a_line(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunError, match=r"in use: choose another with --port \d+"):
            execute(["ui", str(tmp_path), "--port", str(taken.getsockname()[1])])
    for flags, said in (
        (["--auth", "ada"], "user:password"),
        (["--max_upload", "much"], "much"),
        (["--port", "70000"], "65535"),
    ):
        with pytest.raises(HftlError, match=said):
            execute(["ui", str(tmp_path), *flags])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="hftl ui needs gradio: pip install"):
        execute(["ui", str(tmp_path)])
