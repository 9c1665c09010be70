"""`MODEL_ID=<run>/final python app.py` where nothing is installed but the Space's own requirements."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import hftl
from tests.publishing_space.conftest import TEXT, images
from tests.runs import tiny_run


SPACE = Path(__file__).resolve().parents[2] / "spaces_demo"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Iterator[Path]:
    """The Python of a new environment with requirements.txt and nothing else; over a gigabyte, hence removed."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    words = [found, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", SPACE / "requirements.txt"]
    done = subprocess.run(words, capture_output=True, text=True, env=plain(), check=False)
    if done.returncode and re.search(r"No matching distribution|Connection|Temporary failure", done.stderr):
        pytest.skip(f"the requirements cannot be had here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    yield found
    shutil.rmtree(folder)


def plain(**more: str) -> dict[str, str]:
    """The variables of a process that finds nothing of this checkout, and no Hub."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHON", "TRANSFORMERS_"))}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


@contextmanager
def running(python: Path, final: Path, cwd: Path) -> Iterator[str]:
    """Run app.py as its README says, and give its address."""
    log = cwd / "log"
    env = plain(MODEL_ID=str(final), HF_HOME=str(cwd / "hub"), PYTHONUNBUFFERED="1")
    with log.open("w") as out:
        process = subprocess.Popen([python, SPACE / "app.py"], cwd=cwd, env=env, stdout=out, stderr=out)
        try:
            for _ in range(240):
                found = re.search(r"Running on local URL: +(http://127\.0\.0\.1:\d+)", log.read_text())
                if found or process.poll() is not None:
                    break
                time.sleep(0.5)
            assert found, log.read_text()
            yield found[1]
            assert "Traceback" not in log.read_text()
        finally:
            process.kill()
            process.wait()


def ask(url: str, value: Any) -> dict[str, Any] | None:
    """What /predict answers, None when it refuses."""
    event = httpx.post(f"{url}/gradio_api/call/predict", json={"data": [value]}).json()["event_id"]
    told = httpx.get(f"{url}/gradio_api/call/predict/{event}", timeout=60).text
    kind, _, data = told.strip().partition("\n")
    return json.loads(data.removeprefix("data: "))[0] if kind == "event: complete" else None


def same(answer: dict[str, Any] | None, prediction: Any) -> None:
    assert answer is not None
    assert answer["label"] == prediction.label
    got = {c["label"]: c["confidence"] for c in answer["confidences"]}
    assert got == pytest.approx(prediction.probabilities, abs=1e-4)


def test_the_environment_has_the_requirements_alone(python, tmp_path):
    told = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    names = {entry["name"].lower() for entry in json.loads(told.stdout)}
    assert {"torch", "transformers", "gradio", "pillow"} <= names
    assert not names & {"hftl", "peft", "captum", "torchvision", "datasets", "evaluate", "scikit-learn", "accelerate"}


def test_a_text_run(python, tmp_path):
    run = tiny_run("bert", "full", tmp_path)
    texts = [TEXT, "walk " * 500, "Ünïcödé"]
    with running(python, run.run_dir / "final", tmp_path) as url:
        for text, prediction in zip(texts, hftl.load(run.run_dir).predict(texts), strict=True):
            same(ask(url, text), prediction)
        assert ask(url, "  ") is None
        page = httpx.get(url).text
        assert run.run_dir.name in page
        assert str(tmp_path) not in page


def test_an_image_run(python, tmp_path):
    run = tiny_run("efficientnet", "full", tmp_path)
    pictures = images(tmp_path)
    with running(python, run.run_dir / "final", tmp_path) as url:
        expected = hftl.load(run.run_dir).predict(list(pictures.values()))
        for path, prediction in zip(pictures.values(), expected, strict=True):
            sent = httpx.post(f"{url}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}).json()
            same(ask(url, {"path": sent[0], "meta": {"_type": "gradio.FileData"}}), prediction)
        assert ask(url, None) is None
