"""The app, served by a process that has transformers and gradio but nothing of hftl: its answers, and its page in a
headless Chromium. One file, so that parallel tests start that process once.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import hftl
from tests.publishing_space.conftest import HOSTILE, MADE, PACKAGED, TEXT, Farm, images


@pytest.fixture(scope="module")
def clients(served: Farm) -> dict[str, Client]:
    names = ("hostile", "vit", "deberta", "pooled", "packaged", "remote", "remote picture", "zero")
    return {name: Client(served.url(name), verbose=False) for name in names}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Path]:
    return images(tmp_path_factory.mktemp("images"))


def agrees(answer, prediction) -> None:
    """The same label first, and the same five probabilities."""
    best = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:5]
    assert answer["label"] == prediction.label
    assert [c["label"] for c in answer["confidences"]] == [name for name, _ in best]
    assert [c["confidence"] for c in answer["confidences"]] == pytest.approx([p for _, p in best], abs=1e-4)


@pytest.mark.parametrize("name", ["deberta", "pooled"])
def test_texts_are_answered_as_by_the_run(served, clients, name):
    texts = [TEXT, "Ünïcödé \U0001f600 \u0000 text", "walk " * 3000, "\n  spaces  \n"]
    for text, prediction in zip(texts, hftl.load(served.folders[name]).predict(texts), strict=True):
        agrees(clients[name].predict(text, api_name="/predict"), prediction)


def test_images_of_every_kind_are_answered_as_by_the_run(served, clients, pictures):
    expected = hftl.load(served.folders["vit"]).predict(list(pictures.values()))
    assert len({round(p.probability, 6) for p in expected}) > 4  # they are different images
    for path, prediction in zip(pictures.values(), expected, strict=True):
        agrees(clients["vit"].predict(handle_file(path), api_name="/predict"), prediction)


@pytest.mark.parametrize("name", [" ".join(made) for made in MADE])
def test_labels_numbers_and_pairs_are_answered_as_by_the_run(served, name):
    client = Client(served.url(name), verbose=False)
    values = [TEXT, "sad and lonely"] if name.endswith("pair") else [TEXT]
    row = dict(zip(("text", "text_pair"), values, strict=True)) if len(values) > 1 else TEXT
    (expected,) = hftl.load(served.folders[name]).predict([row])
    found = client.predict(*values, api_name="/predict")
    if name.startswith("number"):
        assert found == pytest.approx(expected.value, abs=1e-4)
    else:
        assert {c["label"]: c["confidence"] for c in found["confidences"]} == pytest.approx(expected.detail, abs=1e-4)
    with pytest.raises(AppError, match="Give a text"):
        client.predict(*values[:-1], "", api_name="/predict")
    page = json.dumps(httpx.get(f"{served.url(name)}config").json())
    headline, learned = {
        "labels": ("Micro F1", "3 labels"), "number": ("R2", "a number"), "class": ("Accuracy", "3 classes"),
    }[name.split()[0]]  # fmt: skip
    assert f"<th><bdi>{headline}</bdi></th>" in page
    assert f"<bdi>{learned}</bdi>" in page
    assert "cannot be read" not in page


def test_entities_are_those_of_the_run(served):
    """Of whole words, by their first pieces, also where the tokenizer would split a text elsewhere."""
    client = Client(served.url("tags"), verbose=False)
    texts = [TEXT, "sad lonely tears, happy-joyful smile...  unhappy", "日本語 x", "walk home glad, " * 40]
    count = 0
    for text, answer in zip(texts, hftl.load(served.folders["tags"]).predict(texts), strict=True):
        found, at = [], 0
        for part in client.predict(text, api_name="/predict"):
            if part["class_or_confidence"]:
                found.append((at, part["token"], part["class_or_confidence"]))
            at += len(part["token"])
        assert found == [(e["start"], e["text"], e["label"]) for e in answer.entities]
        count += len(found)
    assert count > 20


def test_masks_are_those_of_the_run(served, pictures):
    client = Client(served.url("masks"), verbose=False)
    (expected,) = hftl.load(served.folders["masks"]).predict([pictures["rgb.png"]])
    found = client.predict(handle_file(pictures["rgb.png"]), api_name="/predict")
    labels = hftl.load(served.folders["masks"]).labels
    assert {one["label"] for one in found["annotations"]} == {*expected.shares} - {"ground"}
    for one in found["annotations"]:
        painted = np.asarray(Image.open(one["image"]))
        there = expected.mask == labels.index(one["label"])
        assert ((painted[..., 3] > 0) == there).mean() > 0.999
        assert painted[there][0].tolist() == [*([200, 0, 0] if labels.index(one["label"]) == 1 else [0, 200, 0]), 255]


def test_a_packaged_checkpoint_with_a_thousand_classes(clients, pictures):
    (expected,) = hftl.load(PACKAGED).predict([pictures["rgb.png"]])
    agrees(clients["packaged"].predict(handle_file(pictures["rgb.png"]), api_name="/predict"), expected)


def test_a_model_on_the_hub(served, clients):
    folder = served.hub.root / "models" / "tester" / "text"
    (expected,) = hftl.load(folder).predict([TEXT])
    agrees(clients["remote"].predict(TEXT, api_name="/predict"), expected)
    assert "we walk <b>home</b>" in json.dumps(clients["remote"].config["components"])
    assert not any("secret" in path for _, path in served.hub.requests)


def test_labels_are_told_apart_and_come_back_as_they_are(served, clients):
    answer = clients["hostile"].predict(TEXT, api_name="/predict")
    everything = [*HOSTILE[:3], "same (3)", "same (4)", HOSTILE[5]]
    assert len(answer["confidences"]) == 5
    assert {c["label"] for c in answer["confidences"]} < set(everything)
    got = [c["confidence"] for c in answer["confidences"]]
    assert got == sorted(got, reverse=True)


def test_images_of_the_card_are_examples_when_they_are_of_this_repository(clients):
    (examples,) = [c for c in clients["remote picture"].config["components"] if c["type"] == "dataset"]
    assert [Path(sample["path"]).name for (sample,) in examples["props"]["samples"]] == ["1.png"]


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 20_001], ids=["empty", "blank", "long"])
def test_wrong_texts(clients, text):
    with pytest.raises(AppError, match=r"Give a text that has no more than 20,000 characters"):
        clients["pooled"].predict(text, api_name="/predict")


def test_half_a_surrogate_pair_is_a_text(served):
    where, sent = served.url("pooled") + "gradio_api/call/predict", '{"data": ["a \\ud800 b"]}'
    posted = httpx.post(where, content=sent, headers={"Content-Type": "application/json"})
    event = posted.json()["event_id"]
    assert '"confidences"' in httpx.get(served.url("pooled") + f"gradio_api/call/predict/{event}", timeout=30).text


def test_wrong_images(clients, tmp_path, pictures):
    bomb, text, vector, cut, huge = (tmp_path / n for n in ("bomb.png", "text.png", "x.svg", "cut.png", "huge.png"))
    Image.new("1", (8000, 8000)).save(bomb)
    text.write_text("no image")
    vector.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    cut.write_bytes(pictures["rgb.png"].read_bytes()[:900])
    Image.new("1", (20_000, 20_000)).save(huge)
    wanted = {bomb: "50 megapixels", huge: "50 megapixels", text: "no image", vector: "no image", cut: "no image"}
    for path, message in wanted.items():
        with pytest.raises(AppError, match=message) as caught:
            clients["vit"].predict(handle_file(path), api_name="/predict")
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(AppError, match="Give an image"):
        clients["vit"].predict(None, api_name="/predict")


def test_a_file_that_is_too_large_does_not_arrive(served):
    sent = {"files": ("big.png", b"\0" * 20_000_001, "image/png")}
    assert httpx.post(served.url("vit") + "gradio_api/upload", files=sent, timeout=30).status_code == 413


def test_files_of_the_machine_cannot_be_asked_for(served, clients):
    secret = served.folders["vit"] / "config.json"
    path = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises((AppError, ValueError)):
        clients["vit"].predict(path, api_name="/predict")
    assert httpx.get(served.url("vit") + f"gradio_api/file={secret}").status_code in (403, 404)


def test_predict_is_the_only_endpoint(clients):
    for client in clients.values():
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/predict"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("untrusted", "set TRUST_REMOTE_CODE=1"),
        ("encoder", "no classifier of texts, tokens, images or pixels"),
        ("adapter", "needs merged weights"),
        ("locked", "secret HF_TOKEN"),
        ("missing", "secret HF_TOKEN"),
        ("revision", "no-such"),
        ("bad name", "neither a folder nor a Hub id"),
        ("unset", "MODEL_ID"),
    ],
)
def test_what_cannot_be_served_is_one_line(served, name, line):
    stopped = served.outcome[name]["stopped"]
    assert line in stopped
    assert "\n" not in stopped


def test_zero_gpu_is_asked_once_a_request_and_never_for_wrong_input(served, clients, pictures):
    number = str(served.outcome["zero"]["number"])
    expected = hftl.load(served.folders["vit"]).predict([pictures["rgb.png"]])
    agrees(clients["zero"].predict(handle_file(pictures["rgb.png"]), api_name="/predict"), expected[0])
    with pytest.raises(AppError):
        clients["zero"].predict(None, api_name="/predict")
    assert served.ask()["gpu"][number] == [20]
    assert served.ask()["gpu"][str(served.outcome["vit"]["number"])] == []


# ---------------------------------------------------------------------------------------------- in a browser


class Seen:
    """A page, what it asked for, and what it said."""

    def __init__(self, page: Any) -> None:
        self.page, self.requests, self.said = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)

    def classify(self) -> None:
        self.page.click("#classify")
        self.page.wait_for_selector("#note .hf-note:not(.hf-idle)")

    def is_quiet(self) -> None:
        """Nothing came from elsewhere, nothing complained, and nothing has to be scrolled sideways."""
        away = [u for u in self.requests if not u.startswith(("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:"))]
        assert not away
        assert not self.said
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture
def visit(chromium: Any, served: Farm) -> Iterator[Callable[..., Seen]]:
    contexts = []

    def open_page(name: str, width: int = 1200, query: str = "", **options: Any) -> Seen:
        context = chromium.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.goto(served.url(name) + query)
        seen.page.wait_for_selector("#classify")
        return seen

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [1200, 380])
def test_a_text_with_hostile_labels_and_report(visit, width):
    seen = visit("hostile", width)
    seen.page.fill("#source textarea", TEXT)
    seen.classify()
    assert seen.page.inner_text("#note b") == "Not sure"  # the report asks for 99.9%
    assert seen.page.locator("#answer img, #evidence script, #evidence i, h1 script").count() == 0
    assert "onerror" in seen.page.inner_text("#answer")
    evidence = seen.page.inner_text("#evidence")
    for text in (
        "Transfer worked",
        "+10.0 points",
        "TF-IDF <i>x</i>",
        "95% interval 85.0 to 94.0%",
        "1,234 test rows",
    ):
        assert text in evidence
    for table in seen.page.query_selector_all("#evidence summary"):
        table.click()
    assert "<b>x</b>" in seen.page.inner_text("#evidence")
    assert "<script>alert(1)</script>" in seen.page.inner_text(".hf-head")
    seen.is_quiet()


def test_an_image_its_example_and_another_start(visit, tmp_path):
    seen = visit("vit")
    seen.page.set_input_files("#source input[type=file]", images(tmp_path)["palette.png"])
    seen.page.wait_for_selector("#source img")
    seen.classify()
    assert "model's own confidence" in seen.page.inner_text("#note")
    assert "no report.json" in seen.page.inner_text("#evidence")
    seen.page.click("text=Clear")
    seen.page.wait_for_selector("#note .hf-idle")
    assert seen.page.locator("#answer [data-testid=label-output-value]").count() == 0
    assert seen.page.locator(".gallery-item").count() == 1  # not the one of another address
    seen.page.click(".gallery-item")
    seen.page.wait_for_selector("#source img")
    seen.classify()
    seen.is_quiet()


def test_an_example_of_a_card_on_the_hub(visit, served):
    seen = visit("remote")
    seen.page.click(".gallery-item, .gallery button, tr.tr-body")
    seen.page.wait_for_function("document.querySelector('#source textarea').value == 'we walk <b>home</b>'")
    link = seen.page.get_attribute(".hf-lead a", "href")
    assert link == f"{served.hub.url}/tester/text"
    assert seen.page.inner_text("h1") == "tester/text"
    seen.is_quiet()


def test_wrong_input_is_said_in_the_page(visit, tmp_path):
    seen = visit("vit")
    seen.page.click("#classify")
    assert "Give an image." in seen.page.inner_text(".toast-body")
    seen.page.click(".toast-close")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    seen.page.set_input_files("#source input[type=file]", broken)
    seen.page.wait_for_selector("#source img")
    seen.page.click("#classify")
    seen.page.wait_for_selector("text=This is no image that can be read")


def test_a_text_that_is_cut_is_told_so(visit):
    seen = visit("deberta", query="?__theme=dark")
    seen.page.fill("#source textarea", "walk " * 500)
    seen.classify()
    assert "It reads the first" in seen.page.inner_text("#note")
    assert "no report.json" in seen.page.inner_text("#evidence")  # it is no JSON
    ink = seen.page.evaluate("getComputedStyle(document.querySelector('.hf-head h1')).color")
    ground = seen.page.evaluate(
        """() => {
            let at = document.querySelector('.hf-head h1'), fill
            do { fill = getComputedStyle(at).backgroundColor; at = at.parentElement } while (/, 0\\)$/.test(fill))
            return fill
        }"""
    )
    assert _brightness(ink) > 180 > 60 > _brightness(ground)
    seen.is_quiet()


def _brightness(colour: str) -> float:
    """The mean of rgb(r, g, b)."""
    parts = [float(p) for p in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    return sum(parts) / 3


# ---------------------------------------------------------------------------------------------- after all of it


def test_nothing_of_hftl_is_loaded_and_nothing_left_the_machine(served, clients):
    loaded = set(served.ask()["loaded"])
    assert {"transformers", "gradio", "torch"} <= loaded
    assert not loaded & {"hftl", "peft", "captum", "torchvision", "datasets", "sklearn"}
    assert "LEFT THE MACHINE" not in served.log.read_text()
    assert "Traceback" not in served.log.read_text()
