"""A run that the page starts is a process of its own, and all that a page says of it comes from the disk."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from hftl.errors import RunError
from hftl.run_folder import claim, release
from hftl.runs import list_runs, process_folder, started
from hftl.ui.process import STEPS, resume, running, start, state, stop
from tests.command import environment, shell, text_csv
from tests.tiny import build


PATIENCE = 180.0  # seconds, after which a test has failed


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("made")
    data, model = text_csv(folder / "moods.csv", 120), build("bert", folder / "bert")
    flags = "--method full --num_train_epochs 30 --per_device_train_batch_size 8 --use_cpu --bf16 off --evidence off"
    return ["text-classification", "--data", str(data), "--model", str(model), *flags.split(), "--eval_steps", "10",
            "--eval_strategy", "steps", "--logging_steps", "5"]  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    for name, value in environment(HFTL_CACHE=str(tmp_path / "cache")).items():
        monkeypatch.setenv(name, value)


def wait_for(folder: Path, reached):
    """Look at the run from the disk until `reached` holds of its state."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        now = state(folder)
        if reached(now):
            return now
        assert now.status not in ("failed", "none"), (now.error, now.log and now.log.read_text())
        time.sleep(0.2)
    raise AssertionError(state(folder))


def test_stop_and_resume_end_where_an_undisturbed_run_ends(words, tmp_path):
    folder, whole = tmp_path / "runs" / "cut", tmp_path / "runs" / "whole"
    assert start(words, folder).status in ("starting", "running")
    seen = wait_for(folder, lambda now: len([p for p in now.points if p.score is not None]) >= 2)
    assert seen.status == "running"
    assert [step.name for step in seen.steps if not step.done] == ["training"]
    assert "epoch" in seen.steps[-1].detail
    assert {run.status for run in list_runs(tmp_path)} == {"running"}
    with pytest.raises(RunError, match="holds a run already"):
        start(words, folder)
    with pytest.raises(RunError, match="Another process is writing"):
        resume(folder)

    assert stop(folder).status in ("stopping", "stopped")
    cut = wait_for(folder, lambda now: now.status == "stopped")
    assert (cut.resumable, cut.error) == (True, "")
    assert not (folder / "report.json").exists()
    (row,) = list_runs(tmp_path)
    assert (row.status, row.method, row.folder.name) == ("stopped", "full", "cut")

    resume(folder)
    done = wait_for(folder, lambda now: now.status == "finished")
    assert {step.name for step in done.steps} <= set(STEPS)
    assert all(step.done for step in done.steps)
    start(words, whole)
    undisturbed = wait_for(whole, lambda now: now.status == "finished")
    one, other = (run / "final" / "model.safetensors" for run in (folder, whole))
    assert one.read_bytes() == other.read_bytes()
    # One loss may differ: Trainer forgets the steps before a checkpoint of which it has not yet logged the mean.
    assert [(p.step, p.score) for p in done.points] == [(p.step, p.score) for p in undisturbed.points]
    assert sum(p.loss != q.loss for p, q in zip(done.points, undisturbed.points, strict=True)) <= 1
    assert {run.status for run in list_runs(tmp_path)} == {"finished"}
    assert running(tmp_path) == []
    with pytest.raises(RunError, match="is finished"):
        resume(folder)


@pytest.mark.slow
def test_a_run_outlives_the_process_that_started_it(words, tmp_path):
    folder = tmp_path / "runs" / "left"
    page = f"from pathlib import Path; from hftl.ui.process import start; start({words!r}, Path({str(folder)!r}))"
    assert shell(["-c", page], tmp_path).code == 0
    assert [one.folder for one in running(tmp_path)] == [folder]
    wait_for(folder, lambda now: now.points)
    assert os.getsid(started(folder)["pid"]) != os.getsid(0)
    stop(folder)
    wait_for(folder, lambda now: now.status == "stopped")


def test_a_killed_run_is_told_from_one_that_was_stopped(words, tmp_path):
    folder = tmp_path / "runs" / "killed"
    start(words, folder)
    wait_for(folder, lambda now: now.points)
    os.kill(started(folder)["pid"], signal.SIGKILL)
    psutil.wait_procs([psutil.Process(started(folder)["pid"])] if psutil.pid_exists(started(folder)["pid"]) else [])
    end = time.monotonic() + PATIENCE
    while state(folder).status in ("running", "starting") and time.monotonic() < end:
        time.sleep(0.1)
    now = state(folder)
    assert (now.status, now.resumable) == ("failed", True)
    assert "ended without a word" in now.error
    assert list_runs(tmp_path)[0].status == "failed"


def test_a_run_that_fails_says_its_one_line(words, tmp_path):
    folder = tmp_path / "runs" / "wrong"
    start([*words, "--label_column", "nosuch"], folder)
    end = time.monotonic() + PATIENCE
    while state(folder).status != "failed" and time.monotonic() < end:
        time.sleep(0.2)
    now = state(folder)
    assert "there is no column 'nosuch'" in now.error
    assert "Traceback" not in now.log.read_text()
    assert now.resumable
    assert list_runs(tmp_path)[0].problem == now.error


def test_a_run_that_another_process_holds_is_watched_and_not_stopped(tmp_path):
    folder = tmp_path / "runs" / "theirs"
    assert state(folder).status == "none"
    claim(folder)
    try:
        now = state(folder)
        assert (now.status, now.held) == ("running", True)
        with pytest.raises(RunError, match="no page started"):
            stop(folder)
        with pytest.raises(RunError, match="Another process is writing"):
            start(["--data", "x.csv"], folder)
    finally:
        release(folder)


def test_damaged_notes_are_no_stack_trace(tmp_path):
    folder = tmp_path / "runs" / "odd"
    home = process_folder(folder)
    home.mkdir(parents=True)
    (home / "start.json").write_text("{", encoding="utf-8")
    (home / "progress.jsonl").write_bytes(b'{"time": 1, "step": "data"}\n\xff\xfe{"time"\n[1]\n{"time": "x"}\n{"ti')
    assert state(folder).status == "none"
