"""What train.py of a job does with hftl, with signals and with time: hftl itself is replaced by a few lines here."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files

import pytest


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="jobs run on Linux")
# Notes its words, and does what FAKE says: an exit code, or to wait for SIGTERM and save.
FAKE = """
import json, os, signal, sys, time
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps(sys.argv[1:]) + "\\n")
code = os.environ["FAKE"]
if code == "wait" and sys.argv[1] == "train":
    def save(*_):
        open("saved", "a").write("x")
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    open("ready", "w").close()
    time.sleep(60)
sys.exit(0 if code == "wait" else int(code))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    (tmp_path / "site" / "hftl").mkdir(parents=True)
    (tmp_path / "site" / "hftl" / "__init__.py").touch()
    (tmp_path / "site" / "hftl" / "__main__.py").write_text(FAKE)
    folder = tmp_path / "job"
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(files("hftl.job").joinpath("templates", "train.py").read_text())

    def run(fake, *words):
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "NOTES": str(tmp_path / "notes"), "FAKE": fake}
        command = [sys.executable, str(script), "RUN.yaml", "hftl.whl", "--output_dir", "out/run", *words]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    def notes():
        return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]

    return run, notes, folder


def wait_for(path):
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_it_trains_and_pushes(start, tmp_path):
    run, notes, _ = start
    assert run("0", "--push_to", "me/x").wait(30) == 0
    out = str(tmp_path / "out" / "run")
    assert notes() == [["train", "RUN.yaml", "--output_dir", out, "--resume"], ["push", out, "me/x"]]


@pytest.mark.parametrize(("code", "more"), [("2", []), ("0", ["--rank", "1"])])
def test_nothing_is_pushed_after_a_failure_or_from_another_machine(start, code, more):
    run, notes, _ = start
    assert run(code, "--push_to", "me/x", *more).wait(30) == int(code)
    assert [words[0] for words in notes()] == ["train"]


def test_a_signal_lets_it_save_once(start):
    run, notes, folder = start
    process = run("wait", "--push_to", "me/x")
    wait_for(folder / "ready")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert (folder / "saved").read_text() == "x"
    assert [words[0] for words in notes()] == ["train"]


def test_the_end_of_the_time_lets_it_save(start):
    run, _, folder = start
    assert run("wait", "--stop_after", "2").wait(30) == 143
    assert (folder / "saved").exists() or not (folder / "ready").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_kill_of_the_script_ends_the_training(start):
    run, _, folder = start
    process = run("wait")
    wait_for(folder / "ready")
    process.kill()
    wait_for(folder / "saved")


def test_without_hftl_it_says_what_to_do(start):
    _, _, folder = start
    words = [sys.executable, "-I", "-S", str(folder / "train.py"), "--output_dir", "x"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert "hftl is not installed here: use `uv run train.py`" in done.stderr
    assert done.returncode == 2
