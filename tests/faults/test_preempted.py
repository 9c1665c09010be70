"""SIGTERM, as preemption sends it: a checkpoint is written, and the resumed run is bit by bit an undisturbed one."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, Outcome
from tests.faults.commands import INTERRUPT, TERM, Moment, Server, assert_same_run, assert_whole, train_words
from tests.runs import subprocess_env
from tests.thin import thin


STEP = "transformers.trainer:Trainer.training_step"
SAVE = "hftl.training.stages:_save_stage"


def stopped(function: str, count: int = 1, when: str = "after", within: str = "", number: int = TERM) -> Moment:
    return (function, when, count, within, number)


def resume_words(done: Outcome) -> list[str]:
    """The command that a stopped run printed last."""
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("Interrupted. Go on with: hftl train "), done.err
    return shlex.split(line.split("Go on with: hftl ")[1])


def checkpoints(folder: Path) -> list[str]:
    """The marked checkpoints, by stage and step; no other is there."""
    found = sorted((folder / "run.partial" / "checkpoints").glob("*/checkpoint-*"))
    assert [path for path in found if not (path / "whole").is_file()] == []
    return [f"{path.parent.name} {path.name}" for path in found]


@pytest.mark.parametrize(
    ("kind", "step", "written"),
    [
        pytest.param("full", 3, "stage-1 checkpoint-3", marks=pytest.mark.slow),
        ("full", 9, "stage-1 checkpoint-9"),
        ("full", 12, "stage-1 checkpoint-12"),  # an epoch's end: its evaluation is not lost
        pytest.param("full by steps", 8, "stage-1 checkpoint-8", marks=pytest.mark.slow),  # and this step's neither
        pytest.param("resnet", 7, "stage-1 checkpoint-7", marks=pytest.mark.slow),
        ("resnet on states", 7, "stage-1 checkpoint-7"),
        ("gradual", 12 + 9, "stage-2 checkpoint-9"),
        ("labels", 8, "stage-1 checkpoint-8"),
        ("pairs", 8, "stage-1 checkpoint-8"),
    ],
)
def test_stopped_in_a_stage(
    kind: str, step: int, written: str, server: Server, undisturbed: Any, tmp_path: Path
) -> None:
    done = server.train(tmp_path, kind, moments=[stopped(STEP, step)])
    assert done.code == 143, done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()
    assert written in checkpoints(tmp_path)
    again = server.command(tmp_path, *resume_words(done))
    assert again.code == 0, again.err
    assert_same_run(tmp_path / "run", undisturbed(kind))
    assert_whole(tmp_path)


@pytest.mark.parametrize("kind", thin(("full", "max_steps", "early stop"), ("early stop",)))
def test_stopped_at_the_end_of_a_stage(kind: str, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """The stage is finished first: nothing of it is done again."""
    last = json.loads((undisturbed(kind) / "report.json").read_text())["stages"][-1]["steps"]
    done = server.train(tmp_path, kind, moments=[stopped(STEP, last)])
    assert done.code == 143, done.err
    assert len(json.loads((tmp_path / "run.partial" / "stage.json").read_text())["stages"]) == 2
    assert checkpoints(tmp_path) == []
    again = server.command(tmp_path, *resume_words(done), moments=[(STEP, "before", 1, "", int(signal.SIGKILL))])
    assert again.code == 0, again.err
    assert_same_run(tmp_path / "run", undisturbed(kind))


def test_stopped_twice(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """Both times in the middle of the same epoch."""
    first = server.train(tmp_path, "full", moments=[stopped(STEP, 8)])
    words = resume_words(first)
    second = server.command(tmp_path, *words, moments=[stopped(STEP, 2)])
    assert (first.code, second.code) == (143, 143)
    assert "stage-1 checkpoint-10" in checkpoints(tmp_path)
    assert resume_words(second) == words
    assert server.command(tmp_path, *words).code == 0
    assert_same_run(tmp_path / "run", undisturbed("full"))


@pytest.mark.parametrize(
    "moment", [stopped("hftl.models.load:find_checkpoint"), stopped("hftl.training.features:pick_features")]
)
def test_stopped_before_training(moment: Moment, server: Server, tmp_path: Path) -> None:
    done = server.train(tmp_path, "full", moments=[moment])
    assert done.code == 143, done.err
    assert "Traceback" not in done.err
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "stdout", "stderr"}
    assert list((tmp_path / "cache").rglob("*.npy")) == []


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(stopped("hftl.run_folder:Path.mkdir", within="hftl.run:open_partial"), marks=pytest.mark.slow),
        stopped("hftl.training.replay:_write", 3),
        pytest.param(stopped("hftl.adapt:predict_logits"), marks=pytest.mark.slow),
        stopped("hftl.adapt:save_final"),
    ],
    ids=lambda moment: moment[0],
)
def test_stopped_outside_of_the_stages(moment: Moment, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    done = server.train(tmp_path, "gradual", moments=[moment])
    assert done.code == 143, done.err
    assert "Traceback" not in done.err
    assert list((tmp_path / "cache").rglob(".partial-*")) == []
    assert server.train(tmp_path, "gradual", "--resume").code == 0
    assert_same_run(tmp_path / "run", undisturbed("gradual"))
    assert_whole(tmp_path)


def test_overwriting_run_is_stopped(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """The old run stays until the new one is whole, and the printed command still says that it may go."""
    assert server.train(tmp_path, "full", "--seed", 3).code == 0
    before = (tmp_path / "run" / "report.json").read_bytes()
    done = server.train(tmp_path, "full", "--overwrite", moments=[stopped(STEP, 9)])
    assert done.code == 143, done.err
    assert (tmp_path / "run" / "report.json").read_bytes() == before
    assert server.command(tmp_path, *resume_words(done)).code == 0
    assert_same_run(tmp_path / "run", undisturbed("full"))


def test_ctrl_c(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    done = server.train(tmp_path, "full", moments=[stopped(STEP, 9, number=INTERRUPT)])
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    assert "stage-1 checkpoint-9" in checkpoints(tmp_path)  # the step in work is not lost
    assert server.command(tmp_path, *resume_words(done)).code == 0
    assert_same_run(tmp_path / "run", undisturbed("full"))


def two_processes(place: Path, folder: Path, *more: object, moments: dict[int, list[Moment]] | None = None) -> Outcome:
    """Run `hftl train` on two processes and wait; a hang is ended after two minutes."""
    folder.mkdir(exist_ok=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*train_words(place, "full"), "--per_device_train_batch_size", 4, *more]
    process = subprocess.Popen(
        [*launch, "-m", "tests.faults.worker", json.dumps(moments or {}), *map(str, words)],
        cwd=folder, env=subprocess_env(HFTL_CACHE=str(folder / "cache"), PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Outcome(process.returncode, out, err)


@pytest.mark.slow
def test_two_processes_are_stopped(place: Path, tmp_path: Path) -> None:
    """Both get the signal, one of them a step later; both stop after the same step, in the middle of an epoch."""
    whole = two_processes(place, tmp_path / "whole")
    assert whole.code == 0, whole.err
    folder = tmp_path / "cut"
    done = two_processes(place, folder, moments={0: [stopped(STEP, 8)], 1: [stopped(STEP, 7)]})
    assert done.code != 0
    assert done.err.count("Go on with: hftl train ") == 1, done.err
    assert "Traceback (most recent call last):\n  File" not in done.err.split("Interrupted.")[0]
    assert "stage-1 checkpoint-7" in checkpoints(folder)
    again = two_processes(place, folder, "--resume")
    assert again.code == 0, again.err
    assert_same_run(folder / "run", tmp_path / "whole" / "run")
