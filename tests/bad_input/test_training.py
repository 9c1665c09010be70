"""Training that fails, or is cut off and resumed."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.bad_input.refusals import ROWS, check, copy_of, refused, train
from tests.command import Outcome, environment, hftl, shell, text_csv, write_csv


@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_that_is_no_number(capsys, place, method):
    flags = ("--method", method, "--learning_rate", "1e30", "--num_train_epochs", 3)
    refused(capsys, place, *flags, says=("--learning_rate",))


@pytest.mark.parametrize("method", ["probe", "full"])
def test_weights_that_are_no_numbers(capsys, place, method):
    folder = copy_of(place / "bert", "inf")
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][:] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(capsys, place, "--model", folder, "--method", method, says=("inf",))


def interrupted(place: Path, cwd: Path, *flags: str) -> Outcome:
    """Start a run, wait until it has saved a checkpoint, and press Ctrl-C."""
    words = ["--data", str(place / "t.csv"), "--model", str(place / "bert"), "--method", "full", "--max_steps", "5000"]
    words += ["--early_stopping_patience", "9999", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "hftl", "train", "text-classification", *words],
        cwd=cwd, env=environment(HFTL_CACHE=str(cwd / "cache")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell makes jobs in the background ignore Ctrl-C, and what they start inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not any(cwd.glob("**/*.partial/checkpoints/*/checkpoint-*/trainer_state.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return Outcome(process.returncode, out, err)


@pytest.mark.slow
def test_interrupted_and_resumed(capsys, place, tmp_path):
    done = interrupted(place, tmp_path)
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("Interrupted. Go on with: hftl train ")
    assert done.out == ""
    command = shlex.split(line.split("Go on with: hftl ")[1])
    (partial,) = tmp_path.glob("runs/*.partial")
    output = str(partial).removesuffix(".partial")

    relative = os.path.relpath(output, tmp_path)
    config = f"{relative}.partial/config.yaml"
    check(hftl(capsys, "train", config, "--output_dir", relative), "cut off", "--resume")
    check(
        hftl(capsys, "train", config, "--output_dir", relative, "--resume", "--seed", 3), "other flags", "--overwrite"
    )
    other = text_csv(tmp_path / "t.csv", n=66)
    check(hftl(capsys, "train", config, "--output_dir", relative, "--resume", "--data", other), "other flags")
    assert partial.is_dir()

    # the run is long; a stop file makes no part of hftl, so the test shortens what is left instead
    states = sorted(partial.glob("checkpoints/*/checkpoint-*/trainer_state.json"))
    step = json.loads(states[-1].read_text())["global_step"]
    text = (partial / "config.yaml").read_text()
    (partial / "config.yaml").write_text(re.sub(r"max_steps: \d+", f"max_steps: {step + 5}", text))
    again = shell(["-m", "hftl", *command, "--json"], tmp_path, environment(HFTL_CACHE=str(tmp_path / "cache")))
    assert again.code == 0, again.err
    assert again.json["stages"][-1]["steps"] == step + 5
    assert (tmp_path / relative / "final" / "model.safetensors").is_file()
    assert not partial.exists()


def test_resume_with_other_rows(capsys, place):
    rows = write_csv(Path("x.csv"), ROWS)
    words = ["--data", rows, "--output_dir", "run"]
    assert train(capsys, place, *words).code == 0
    Path("run").rename("run.partial")
    Path("run.partial/rows.json").write_text(json.dumps({"train": "other", "labels": []}))
    check(train(capsys, place, *words, "--resume"), "other data")
    assert Path("run.partial/final").is_dir()
