"""Two processes: they train in one precision, and a fault of one of them ends both with its line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, Outcome
from tests.faults.commands import train_words
from tests.runs import subprocess_env


def two_ranks(place: Path, folder: Path, kind: str, *more: object, **env: str) -> Outcome:
    """Run `hftl train` on two processes and wait; a hang is ended after two minutes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*train_words(place, kind), "--per_device_train_batch_size", 4, *more]
    process = subprocess.Popen(
        [*launch, "-m", "tests.faults.ranks", "seen", *map(str, words)],
        cwd=folder, env=subprocess_env(HFTL_CACHE=str(folder / "cache"), PYTHONPATH=str(ROOT), **env),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Outcome(process.returncode, out, err)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [True, False])
def test_every_stage_trains_in_the_same_precision(bf16: bool, place: Path, tmp_path: Path) -> None:
    words = ("--bf16", str(bf16).lower(), "--cache", "off")
    done = two_ranks(place, tmp_path, "gradual", *words)
    assert done.code == 0, done.err
    for rank in (0, 1):
        seen = json.loads((tmp_path / f"seen-{rank}.json").read_text())
        assert len(seen) > 2
        assert seen == {stage: [bf16] for stage in seen}


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_loss_that_is_no_number_on_one_process(rank: str, place: Path, tmp_path: Path) -> None:
    """Rank 0 says the line of the one that met it, and nothing of the run is left for either."""
    done = two_ranks(place, tmp_path, "full", NAN_ON=rank)
    assert done.code != 0
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "The loss is nan at step 5: training has diverged" in line
    assert done.err.count("exitcode  : 2") >= 1, done.err
    assert "FileNotFoundError" not in done.err
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "seen-0.json", "seen-1.json"}


@pytest.mark.slow
def test_the_adapter_is_saved_once(place: Path, tmp_path: Path) -> None:
    done = two_ranks(place, tmp_path, "full", "--method", "lora", "--max_steps", 2)
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "run" / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
