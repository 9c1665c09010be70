"""What lies around a run: accelerate and its processes, the network, the installed packages."""

import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from hftl.errors import TrainingError
from hftl.training import world
from hftl.training.features import predict_logits
from hftl.training.trainer import GroupedTrainer
from tests.command import ROOT
from tests.runs import checkpoint, split_folder, subprocess_env
from tests.traps.loading import load, text_data


# 9: accelerate's state


def test_features_before_and_after_training_arguments(folder: Path) -> None:
    loaded = load("bert", folder)
    data = text_data(loaded)
    flags: dict[str, Any] = {"use_cpu": True}
    before = predict_logits(loaded.model, data.train, data.collate, **flags)
    TrainingArguments(output_dir=str(folder / "args"), use_cpu=True, report_to="none")
    after = predict_logits(loaded.model, data.train, data.collate, **flags)
    np.testing.assert_array_equal(before, after)
    args = TrainingArguments(output_dir=str(folder / "args"), use_cpu=True, report_to="none")
    args.remove_unused_columns = False
    assert GroupedTrainer(model=loaded.model, args=args).accelerator.num_processes == 1


def test_forward_rows_gives_rows_in_order_and_draws_no_numbers(folder: Path) -> None:
    loaded = load("bert", folder)
    data = text_data(loaded)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = predict_logits(loaded.model, data.train, data.collate, use_cpu=True)
    assert torch.equal(state, torch.get_rng_state())
    for i in range(len(data.train)):
        batch = {k: v for k, v in data.collate([data.train[i]]).items() if k != "labels"}
        with torch.no_grad():
            np.testing.assert_allclose(loaded.model(**batch).logits[0].numpy(), found[i], atol=1e-5)


# 10: the world that was asked for


def test_a_process_that_is_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = SimpleNamespace(num_processes=1, distributed_type="DistributedType.NO")
    monkeypatch.setattr(world, "Accelerator", lambda cpu: alone)
    assert world.check_world(True) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes were launched"):
        world.check_world(True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="FSDP"):
        world.check_world(True)


def test_accelerate_launch_on_cpu_is_refused(folder: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    words = ["--data", str(split_folder(folder / "data", 16)), "--model", str(checkpoint("bert", folder))]
    target = folder / "launched"
    done = subprocess.run(
        [*launch, "-m", "hftl", "train", "text-classification", *words, "--method", "probe", "--output_dir", target],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=subprocess_env(HFTL_CACHE=str(folder / "cache"), HF_HOME=str(folder / "hf")),
        timeout=200,
    )
    assert done.returncode != 0
    assert "asked for 2 processes but started 1" in done.stderr
    assert not target.exists()


# 12, 13, 15: the Hub, optimum, torch.compile


def test_metrics_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from hftl.tasks import CLASSES
    from hftl.tasks.scores import as_metric

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = as_metric(CLASSES, "ab").compute(predictions=[0, 1, 1], references=[0, 1, 0])
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_optimum_is_no_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = [project["dependencies"], *project["optional-dependencies"].values()]
    assert not [name for group in every for name in group if name.startswith("optimum")]


def test_a_launcher_further_up_is_seen() -> None:
    """A shell or srun may come between `accelerate launch` and the process."""
    ask = "from hftl.training.world import _asked_of_accelerate; print(_asked_of_accelerate())"
    between = f"import subprocess, sys; subprocess.run(['sh', '-c', '{sys.executable} -c \"{ask}\"; true'])"
    words = [sys.executable, "-c", between, "accelerate", "launch", "--num_processes", "3", "x.py"]
    done = subprocess.run(words, capture_output=True, text=True, env=subprocess_env(PYTHONPATH=str(ROOT)), timeout=240)
    assert done.stdout.strip() == "(3, '')", done.stderr
