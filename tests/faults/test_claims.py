"""Two runs never write one folder: the second start is refused, and runs without a name get different ones."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import ROOT
from tests.faults.commands import SMALL, Server, assert_whole, train_words
from tests.runs import subprocess_env


def start(place: Path, folder: Path, *more: object) -> subprocess.Popen[str]:
    env = subprocess_env(HFTL_CACHE=str(folder / "cache"), PYTHONPATH=str(ROOT))
    words = [*train_words(place, "full"), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "hftl", *map(str, words)], cwd=folder, env=env, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "pause", [pytest.param(0.15 * i, marks=() if i == 5 else pytest.mark.slow) for i in range(20)]
)
def test_two_starts_into_one_folder(pause: float, place: Path, tmp_path: Path) -> None:
    runs = [start(place, tmp_path)]
    time.sleep(pause)
    runs.append(start(place, tmp_path, "--learning_rate", "1e-3"))
    errors = [run.communicate(timeout=240)[1] for run in runs]
    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 2], errors
    refused = errors[codes.index(2)]
    assert "error: " in refused
    assert "Traceback" not in refused
    for name in ("stdout", "stderr"):
        (tmp_path / name).touch()
    assert_whole(tmp_path)
    rate = "learning_rate: 0.001" in (tmp_path / "run" / "config.yaml").read_text()
    assert rate == (codes == [2, 0])


@pytest.mark.slow
def test_runs_without_a_name(place: Path, tmp_path: Path) -> None:
    """Two sweeps that differ in their rates alone, started together."""
    flags = {**SMALL, "data": place / "t.csv", "model": place / "bert", "method": "full", "max_steps": 4}
    words = ["train", "text-classification", *(str(w) for k, v in flags.items() for w in (f"--{k}", v))]
    env = subprocess_env(HFTL_CACHE=str(tmp_path / "cache"), PYTHONPATH=str(ROOT))
    runs = [
        subprocess.Popen([sys.executable, "-m", "hftl", *words, "--learning_rate", rate], cwd=tmp_path, env=env)
        for rate in ("1e-3", "1e-4")
    ]
    assert [run.wait(timeout=240) for run in runs] == [0, 0]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"t-bert-full", "t-bert-full-2"}
    configs = [(path / "config.yaml").read_text() for path in (tmp_path / "runs").iterdir()]
    assert sum("learning_rate: 0.001" in config for config in configs) == 1


def test_a_killed_run_holds_nothing(server: Server, tmp_path: Path) -> None:
    """Its lock went with it: the folder can be resumed at once."""
    moment = ("transformers.trainer:Trainer.training_step", "before", 3, "", 9)
    assert server.train(tmp_path, "full", moments=[moment]).code == -9
    assert server.train(tmp_path, "full", "--resume").code == 0
    assert_whole(tmp_path)
