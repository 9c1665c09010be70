"""`--resume` goes on with the same run only: for any other it is refused, and what was cut off stays as it is."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.command import Outcome
from tests.faults.commands import TERM, Server, assert_same_run, assert_whole, train_words
from tests.runs import text_frame
from tests.tiny import build


STEP = "transformers.trainer:Trainer.training_step"


@pytest.fixture(scope="module")
def cut_off(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that SIGTERM has stopped in the middle of a stage, with its own data and model beside it."""
    folder = tmp_path_factory.mktemp("cut-off")
    shutil.copy(server.place / "t.csv", folder)
    shutil.copytree(server.place / "bert", folder / "bert")
    build("bert", folder / "bert-2", seed=5)
    text_frame(66, seed=3).to_csv(folder / "other.csv", index=False)
    done = server.command(folder, *train_words(folder, "full"), moments=[(STEP, "after", 9, "", TERM)])
    assert done.code == 143, done.err
    return folder


@pytest.fixture
def folder(cut_off: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, under the paths of which it knows."""
    kept = tmp_path / "kept"
    shutil.copytree(cut_off, kept)
    yield cut_off
    shutil.rmtree(cut_off)
    shutil.copytree(kept, cut_off)


def contents(folder: Path) -> dict[str, str]:
    """Every file with the hash of what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def error_of(done: Outcome) -> str:
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert line == done.err.strip().splitlines()[-1]
    return line


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--data", "other.csv"], "other flags"),
        (["--model", "bert-2"], "other flags"),
        (["--learning_rate", "1e-4"], "other flags"),
        pytest.param(["--num_train_epochs", 4], "other flags", marks=pytest.mark.slow),
        pytest.param(["--method", "head"], "other flags", marks=pytest.mark.slow),
        pytest.param(["--seed", 7], "other flags", marks=pytest.mark.slow),
    ],
)
def test_other_flags(flags: list[object], says: str, server: Server, folder: Path) -> None:
    before = contents(folder / "run.partial")
    assert "checkpoints/stage-1/checkpoint-9/whole" in before
    line = error_of(server.command(folder, *train_words(folder, "full"), *flags, "--resume"))
    assert says in line
    assert "run.partial" in line
    assert contents(folder / "run.partial") == before
    assert not (folder / "run").exists()


def test_other_rows_under_the_same_name(server: Server, folder: Path) -> None:
    before = contents(folder / "run.partial")
    shutil.copy(folder / "other.csv", folder / "t.csv")
    line = error_of(server.command(folder, *train_words(folder, "full"), "--resume"))
    assert "other data" in line
    assert contents(folder / "run.partial") == before


def test_other_labels_of_the_same_rows(server: Server, folder: Path) -> None:
    before = contents(folder / "run.partial")
    frame = pd.read_csv(folder / "t.csv")
    swap = {"class_0": "class_1", "class_1": "class_0"}
    frame.assign(label=[swap.get(x, x) for x in frame.label]).to_csv(folder / "t.csv", index=False)
    line = error_of(server.command(folder, *train_words(folder, "full"), "--resume"))
    assert "other data" in line
    assert contents(folder / "run.partial") == before


def test_other_weights_under_the_same_name(server: Server, folder: Path) -> None:
    before = contents(folder / "run.partial")
    shutil.rmtree(folder / "bert")
    shutil.copytree(folder / "bert-2", folder / "bert")
    line = error_of(server.command(folder, *train_words(folder, "full"), "--resume"))
    assert "other data or weights" in line
    assert contents(folder / "run.partial") == before


def test_without_resume(server: Server, folder: Path) -> None:
    before = contents(folder / "run.partial")
    line = error_of(server.command(folder, *train_words(folder, "full")))
    assert "--resume" in line
    assert contents(folder / "run.partial") == before


def test_refused_run_can_still_be_resumed(server: Server, undisturbed: Any, folder: Path) -> None:
    words = train_words(folder, "full")
    error_of(server.command(folder, *words, "--seed", 7, "--resume"))
    steps = [(STEP, "before", 18 - 9 + 1, "", TERM)]  # it may not take one step more than are left
    assert server.command(folder, *words, "--resume", moments=steps).code == 0
    assert_same_run(folder / "run", undisturbed("full"))


def test_folder_that_is_no_run(server: Server, tmp_path: Path) -> None:
    for name in ("run", "run.partial"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "letter.txt").write_text("dear")
        before = contents(folder)
        assert name in error_of(server.train(tmp_path, "full", "--resume"))
        assert contents(folder) == before
        shutil.rmtree(folder)


def test_finished_run(server: Server, undisturbed: Any) -> None:
    """A scheduler that always passes --resume is not told that a finished job failed."""
    folder = undisturbed("full").parent
    before = contents(folder / "run")
    done = server.train(folder, "full", "--resume")
    assert done.code == 0, done.err
    assert "run is finished already" in done.err
    assert "other flags" in error_of(server.train(folder, "full", "--resume", "--seed", 7))
    assert "exists already" in error_of(server.train(folder, "full"))
    assert contents(folder / "run") == before


def test_finished_by_an_older_version(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """Lines that its config.yaml does not have yet had their default."""
    shutil.copytree(undisturbed("full").parent, tmp_path / "old")
    path = tmp_path / "old" / "run" / "config.yaml"
    lines = path.read_text().splitlines()
    newer = [line for line in lines if line.startswith("skip_bad_rows:")]
    assert newer
    path.write_text("\n".join(line for line in lines if line not in newer) + "\n")
    done = server.train(tmp_path / "old", "full", "--resume")
    assert done.code == 0, done.err
    assert "run is finished already" in done.err
    path.write_text(path.read_text() + "skip_bad_rows: true\n")
    assert "other flags" in error_of(server.train(tmp_path / "old", "full", "--resume"))


@pytest.mark.parametrize("left", [[], ["rows.json"]])
def test_nothing_to_go_on_with(left: list[str], server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """It starts from the beginning and says so, once."""
    for name in left:
        (tmp_path / "run.partial").mkdir()
        (tmp_path / "run.partial" / name).write_text("{}")
    done = server.train(tmp_path, "full", "--resume")
    assert done.code == 0, done.err
    assert done.err.count("run.partial holds nothing to go on with: the run starts from the beginning.") == 1
    assert_same_run(tmp_path / "run", undisturbed("full"))
    assert_whole(tmp_path)


def test_resumed_run_does_not_say_so(server: Server, folder: Path) -> None:
    done = server.command(folder, *train_words(folder, "full"), "--resume")
    assert done.code == 0, done.err
    assert "nothing to go on with" not in done.err
