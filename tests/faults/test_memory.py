"""Memory that ends in training costs speed, not the run; and scoring many rows of many classes takes little."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.command import ROOT, shell
from tests.faults.commands import Server, assert_same_run, assert_whole, report_of
from tests.runs import subprocess_env


SETUPS = "tests.faults.setups:"
NOTE = "{}: out of memory at {} rows; went on from the stage's start with {} rows x {} accumulation steps"


def assert_close(run: Path, other: Path) -> None:
    ours, theirs = (load_file(path / "final" / "model.safetensors") for path in (run, other))
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert float((tensor - theirs[name]).abs().max()) <= 1e-5 * float(theirs[name].abs().max()), name


@pytest.mark.parametrize(
    ("kind", "setup", "stages"),
    [
        ("full", "room_for_two", ["full"]),
        ("full", "room_for_three", ["full"]),
        ("gradual", "room_for_two", ["head", "top 1 of 3 blocks", "top 2 of 3 blocks", "all 3 blocks and the stem"]),
    ],
)
def test_smaller_batches(kind: str, setup: str, stages: list[str], server: Server, tmp_path: Path) -> None:
    done = server.train(tmp_path, kind, setup=SETUPS + setup)
    assert done.code == 0, done.err
    report = report_of(tmp_path / "run")
    notes = [note for note in report["warnings"] if "out of memory" in note]
    expected = [NOTE.format(stage, *sizes) for stage in stages for sizes in ((8, 4, 2), (4, 2, 4))]
    assert len(notes) == len(expected)
    for note, words in zip(notes, expected, strict=True):
        assert note.startswith(words)
        assert note.endswith("the same effective batch.")

    flags = ("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 4, "--output_dir", "small")
    assert server.train(tmp_path, kind, *flags, setup=SETUPS + setup).code == 0
    small = report_of(tmp_path / "small")
    assert not any("out of memory" in note for note in small["warnings"])
    assert [s["steps"] for s in report["stages"]] == [s["steps"] for s in small["stages"]]
    assert_close(tmp_path / "run", tmp_path / "small")


def test_stopped_after_memory_ended(server: Server, tmp_path: Path) -> None:
    """The resumed stage meets the same limit; the result is the same."""
    setup = SETUPS + "room_for_two"
    term = [("transformers.trainer:Trainer.training_step", "after", 30, "", 15)]
    assert server.train(tmp_path, "full", setup=setup, moments=term).code == 143
    assert server.train(tmp_path, "full", "--resume", setup=setup).code == 0
    assert server.train(tmp_path, "full", "--output_dir", "whole", setup=setup).code == 0
    assert_close(tmp_path / "run", tmp_path / "whole")


def test_one_row_does_not_fit(server: Server, tmp_path: Path) -> None:
    done = server.train(tmp_path, "full", setup=SETUPS + "room_for_none")
    assert done.code == 2
    assert "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert line == done.err.strip().splitlines()[-1]
    assert line.startswith("error: Out of memory at 1 rows a step.")
    assert "--max_seq_length" in line
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "stdout", "stderr"}


def test_other_errors_are_not_taken_for_memory(server: Server, tmp_path: Path) -> None:
    done = server.train(tmp_path, "full", setup=SETUPS + "another_error")
    assert done.code == 1
    assert "shapes cannot be multiplied" in done.err
    assert "Go on with: hftl train" not in done.err  # not a step was trained: the next start finds nothing in its way
    assert not (tmp_path / "run.partial").exists()


@pytest.mark.slow
def test_scores_of_many_rows_and_classes() -> None:
    """100,000 rows x 1,000 classes: the logits are 0.37 GiB, and no copy of all of them is made."""
    done = shell(["-m", "tests.faults.evaluation_memory"], ROOT, subprocess_env())
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["accuracy"] == pytest.approx(0.001, abs=0.001)
    assert found["forward"] < 1.5 * 100_000 * 1_000 * 4 / 2**30
    assert found["all"] < 2


@pytest.mark.parametrize(
    "setup",
    [
        "no_room_for_a_stage",
        pytest.param("no_room_for_a_checkpoint", marks=pytest.mark.slow),
        pytest.param("no_room_for_the_report", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk(setup: str, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """One line; what is finished is kept, and `--resume` ends as a run that nothing disturbed."""
    done = server.train(tmp_path, "gradual", setup=SETUPS + setup)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("error: The disk of run.partial is full")
    assert "--resume" in line
    assert len(json.loads((tmp_path / "run.partial" / "stage.json").read_text())["stages"]) > 1
    assert server.train(tmp_path, "gradual", "--resume").code == 0
    assert_same_run(tmp_path / "run", undisturbed("gradual"))
    assert_whole(tmp_path)
