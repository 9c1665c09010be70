"""A run folder that an earlier hftl wrote: all that is done with a run is still done with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import hftl
from hftl.cli import run_command
from hftl.demo.app import build_demo
from hftl.export import export
from tests.hub.target import HubTarget, target_fixture
from tests.push import on_the_hub, push


OLD = Path(__file__).parent / "old_run"  # at commit 8be93ab: LoRA on a tiny BERT, worse than its baseline
TEXTS = ["happy glad", "angry furious", "the house"]
PROBABILITIES = [
    [0.0011498586, 0.0066330019, 0.9922171395],
    [0.0023859407, 0.0012676434, 0.9963464160],
    [0.0013146115, 0.0014540727, 0.9972313158],
]
target = target_fixture()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)  # where its config.yaml says texts.csv
    return tmp_path / "run"


def main_output(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert run_command(list(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_predict(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = hftl.load(run).predict(TEXTS)
    assert np.allclose([list(a.probabilities.values()) for a in answers], PROBABILITIES, atol=1e-6)
    assert main_output(capsys, "predict", str(run / "baseline"), *TEXTS)[0].startswith("class 1\t")


def test_eval(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads("".join(main_output(capsys, "eval", str(run), "--data", "texts.csv", "--json")))
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(1 / 3)


def test_export(run: Path) -> None:
    report = export(run)
    assert report.values["parity"]["labels_equal"]
    assert report.values["parity"]["origin"] == "test rows of the run"


def test_demo(run: Path) -> None:
    words = json.dumps(build_demo(run).get_config_file(), default=str)
    assert "class 2" in words
    assert "TF-IDF" in words


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
def test_push(run: Path, target: HubTarget) -> None:
    pushed = push(target, on_the_hub(run, target, run.parent / "copy"), target.new_repo("old"))
    assert pushed is not None
