"""The served page without a browser: /predict, what is refused, what is private, and the verb."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from hftl.cli import execute
from hftl.demo import free_port
from hftl.demo.app import build_demo, launch_demo
from hftl.demo.looks import report_html
from hftl.demo.served import MAX_CHARACTERS, Served, examples_of, length_note, read_image, read_text
from hftl.errors import ConfigError, DataError, ModelError, RunError
from hftl.predict import load
from hftl.run_data import open_artifact
from tests.command import ROOT, environment
from tests.demo.setups import LABELS, SECRET, THRESHOLD, bomb, picture, text_run
from tests.tiny import build


gradio_client = pytest.importorskip("gradio_client", reason="the demo extra is not installed")
TEXT = "sad lonely tears while we walk"


@pytest.fixture(scope="module")
def client(text_demo):
    return gradio_client.Client(text_demo.url, verbose=False)


def served_of(run: Path):
    artifact = open_artifact(run)
    return Served(artifact, load(artifact.folder))


def header_html(served: Served) -> str:
    return report_html("header.html", served.name, served.predictor, served.artifact.report)


def evidence_html(served: Served) -> str:
    return report_html("evidence.html", served.name, served.predictor, served.artifact.report)


def test_predict_text(client, text_demo):
    found = client.predict(TEXT, api_name="/predict")
    expected = load(text_demo.run).predict([TEXT])[0]
    assert found["label"] == expected.label
    assert {c["label"]: c["confidence"] for c in found["confidences"]} == pytest.approx(expected.probabilities)
    assert [c["confidence"] for c in found["confidences"]] == sorted(expected.probabilities.values(), reverse=True)


def test_predict_image(image_demo, tmp_path):
    client = gradio_client.Client(image_demo.url, verbose=False)
    path = picture(tmp_path / "one.png", label=2)
    found = client.predict(gradio_client.handle_file(path), api_name="/predict")
    expected = load(image_demo.run).predict([path])[0]
    assert {c["label"]: c["confidence"] for c in found["confidences"]} == pytest.approx(expected.probabilities)
    with pytest.raises(gradio_client.exceptions.AppError, match="12000 x 12000 pixels"):
        client.predict(gradio_client.handle_file(bomb(tmp_path / "bomb.png")), api_name="/predict")
    with pytest.raises(gradio_client.exceptions.AppError, match="choose or drop a file"):
        client.predict(None, api_name="/predict")


@pytest.mark.parametrize(
    ("text", "said"), [("", "type or paste"), (" \n", "type or paste"), (None, "type or paste"),
                       (["a"], "type or paste"), ("a" * (MAX_CHARACTERS + 1), "20,001 characters")],
)  # fmt: skip
def test_wrong_text(client, text, said):
    with pytest.raises(gradio_client.exceptions.AppError, match=said):
        client.predict(text, api_name="/predict")
    assert client.predict(TEXT, api_name="/predict")["label"] in LABELS


def test_api_is_predict_alone(client):
    api = client.view_api(return_format="dict", print_info=False)
    assert list(api["named_endpoints"]) == ["/predict"]
    assert api["unnamed_endpoints"] == {}


def test_no_file_of_the_machine(text_demo):
    for path in ("/etc/passwd", text_demo.run / "config.yaml", ROOT / "README.md", text_demo.run / "rows.csv"):
        for how in ("gradio_api/file=", "file="):
            assert httpx.get(f"{text_demo.url}{how}{path}").status_code in (403, 404), path


@pytest.mark.parametrize("place", ["https://example.org/x.png", "/etc/passwd"])
def test_no_place_but_an_upload(image_demo, place):
    payload = {"data": [{"path": place, "meta": {"_type": "gradio.FileData"}}]}
    event = httpx.post(f"{image_demo.url}gradio_api/call/predict", json=payload).json()["event_id"]
    answered = httpx.get(f"{image_demo.url}gradio_api/call/predict/{event}", timeout=60).text
    assert "event: error" in answered
    assert "confidences" not in answered
    if place.startswith("https"):
        assert "Send a file, not an address" in answered


def test_large_uploads_are_refused(image_demo):
    files = {"files": ("large.png", b"x" * (21 * 1024 * 1024))}
    assert httpx.post(f"{image_demo.url}gradio_api/upload", files=files, timeout=60).status_code == 413


def test_page_names_no_other_host(text_demo):
    page = httpx.get(text_demo.url).text
    assert str(text_demo.run) not in page  # no path of the machine
    for host in ("googleapis.com", "gstatic.com", "cdnjs"):
        assert host not in page
    config = httpx.get(f"{text_demo.url}config").json()
    assert config["analytics_enabled"] is False


def test_not_sure_and_long_texts(text_demo):
    served = served_of(text_demo.run)
    assert served.threshold == THRESHOLD
    assert served.predict([TEXT])[0].probability < served.threshold
    assert length_note(served.predictor.processor, TEXT) is None
    assert "the first 64 of its 122 tokens" in length_note(served.predictor.processor, "day night " * 60)


def test_examples_are_private(text_demo, tmp_path):
    served, folder = served_of(text_demo.run), tmp_path / "examples"
    own = examples_of(served, folder, share=False, data=None)
    assert len(own) == 5
    assert all(SECRET in text for text in own)
    assert examples_of(served, folder, share=True, data=None) == []
    assert examples_of(served, folder, share=True, data=str(text_demo.run / "rows.csv")) == []
    assert examples_of(served_of(text_demo.run / "final"), folder, share=True, data=None) == []
    demo = build_demo(text_demo.run, share=True)
    assert SECRET not in json.dumps(demo.get_config_file(), default=str)
    assert examples_of(served, folder, share=False, data=str(tmp_path / "gone.csv")) == []


def test_head_says_the_verdict(text_demo):
    head = header_html(served_of(text_demo.run))
    assert "On 60 test rows its accuracy is 84.0% (95% interval 79.0 to 89.0%). Pretraining helped." in head
    assert "org/model" in head
    assert str(text_demo.run.parent) not in head


def test_without_a_report(tmp_path):
    folder = build("bert", tmp_path / "plain", num_labels=2)
    served = served_of(folder)
    assert served.threshold is None
    page = evidence_html(served)
    assert "No evidence came with this model" in page
    assert "Its labels have no names" in page
    assert "This model came without a report" in header_html(served)
    assert build_demo(folder, feedback=tmp_path / "kept") is not None


def test_without_evidence_and_with_a_broken_report(tmp_path, monkeypatch):
    monkeypatch.delenv("HFTL_RAISE_BUGS")  # as it is for a user
    run = text_run(tmp_path / "run")
    path = run / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**report, "evidence": None}), encoding="utf-8")
    served = served_of(run)
    assert "was not compared" in header_html(served)
    assert "No verdict" in evidence_html(served)
    evidence = {**report["evidence"], "confusion": [[0, 99, 5]]}
    path.write_text(json.dumps({**report, "evidence": evidence}), encoding="utf-8")
    assert "cannot be shown (ValueError)" in evidence_html(served_of(run))
    path.write_text(json.dumps({"schema_version": 1}), encoding="utf-8")
    assert "cannot be shown (KeyError)" in header_html(served_of(run))


def test_hostile_report_is_text(tmp_path):
    nasty = '<img src=x onerror="alert(1)">'
    run = text_run(tmp_path / "run", method=nasty)
    path = run / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    report["data"]["labels"] = [nasty, "b", "c"]
    report["per_class"][0]["label"] = nasty
    report["data"]["name"] = nasty
    path.write_text(json.dumps(report), encoding="utf-8")
    served = served_of(run)
    assert nasty not in evidence_html(served) + header_html(served)
    assert "&lt;img src=x" in evidence_html(served)


def test_auth(text_demo):
    demo = launch_demo(text_demo.run, port=0, auth=("me", "secret"))
    try:
        assert httpx.get(f"{demo.local_url}config").status_code == 401
        client = gradio_client.Client(demo.local_url, auth=("me", "secret"), verbose=False)
        assert client.predict(TEXT, api_name="/predict")["label"] in LABELS
    finally:
        demo.close(verbose=False)


def test_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"Port {port} is in use: choose another with --port \d+"):
            free_port(port)
    assert free_port(0) > 0


def test_checks(tmp_path):
    assert read_text("half \ud83d") == "half ?"
    flat = Image.new("I;16", (4, 4), 65535)
    flat.save(tmp_path / "deep.png")
    assert read_image({"path": str(tmp_path / "deep.png")}).getpixel((0, 0)) == (255, 255, 255)
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture(tmp_path / "whole.png").read_bytes()[:300])
    for path in (cut, tmp_path / "none.png", tmp_path, None):
        with pytest.raises(DataError):
            read_image({"path": path})
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    with pytest.raises(DataError, match="not an image that can be read"):
        read_image({"path": tmp_path / "drawing.svg"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs one run"),
        (["a", "b"], "got 2"),
        (["a", "--port", "http"], "--port.*valid integer"),
        (["a", "--port", "70000"], "number from 0 to 65535"),
        (["a", "--auth", "nocolon"], "needs user:password"),
        (["a", "--prot", "1"], "no flag --prot"),
    ],
)
def test_words_that_are_refused(words, said):
    with pytest.raises(ConfigError, match=said) as caught:
        execute(["demo", *words])
    assert "nocolon" not in str(caught.value)


def test_no_such_model(tmp_path):
    with pytest.raises(ModelError):
        launch_demo(tmp_path / "nothing", port=0)


@pytest.fixture
def verb(text_demo, tmp_path):
    """`hftl demo` in a process of its own, as its first line and itself."""
    code = "import sys; from hftl.cli import execute; execute(['demo', sys.argv[1], '--port', '0', '--json'])"
    env = environment(HFTL_DEMO_AUTH="me:topsecret", TMPDIR=str(tmp_path))
    env.pop("GRADIO_TEMP_DIR", None)  # set by the demos of this process
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(text_demo.run)], cwd=tmp_path, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline(), process
    process.kill()
    process.communicate()


def test_verb(verb, tmp_path):
    line, process = verb
    shown = json.loads(line)
    assert shown["share_url"] is None
    assert shown["url"].startswith("http://127.0.0.1:")
    assert httpx.get(shown["url"] + "config").status_code == 401
    assert list(tmp_path.glob("hftl-demo-*"))
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "topsecret" not in line + talk
    assert list(tmp_path.glob("hftl-demo-*")) == []  # uploads are gone
