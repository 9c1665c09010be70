"""Asks the server for commands, and compares the runs that they leave."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from safetensors.torch import load_file

from tests.command import ROOT, Outcome
from tests.runs import subprocess_env


KILL, TERM, INTERRUPT = int(signal.SIGKILL), int(signal.SIGTERM), int(signal.SIGINT)
Moment = tuple[str, str, int, str, int]  # function, "before" or "after", which call, within what, signal

SMALL = {"use_cpu": "true", "bf16": "false", "evidence": "false", "per_device_train_batch_size": 8}
TEXT = {"data": "t.csv", "model": "bert"}
IMAGES = {"data": "images", "model": "resnet", "method": "full", "augment": "default", "num_train_epochs": 3}
BY_STEPS = {"eval_strategy": "steps", "eval_steps": 4, "save_steps": 4}  # in the middle of an epoch, that is
KINDS: dict[str, dict[str, object]] = {
    "gradual": {**TEXT, "method": "gradual", "num_train_epochs": 8},  # 4 stages of 2 epochs of 6 steps
    "full": {**TEXT, "method": "full", "num_train_epochs": 3},
    "resnet": IMAGES,
    "full by steps": {**TEXT, "method": "full", "num_train_epochs": 3, **BY_STEPS},
    "resnet by steps": {**IMAGES, **BY_STEPS, "eval_steps": 3, "save_steps": 3},
    "resnet on states": {**IMAGES, **BY_STEPS, "num_train_epochs": 8, "train_top": 2, "cache": "on"},
    "max_steps": {**TEXT, "method": "full", "max_steps": 8},
    "wise": {**TEXT, "method": "wise", "num_train_epochs": 9, "early_stopping_patience": 1},
    "labels": {**TEXT, "data": "labels.csv", "label_separator": "|", "method": "full", "num_train_epochs": 3},
    "pairs": {**TEXT, "data": "pairs.csv", "method": "full", "num_train_epochs": 3},
    "auto": {**TEXT, "method": "auto", "budget": "1h", "num_train_epochs": 2},  # 9 steps a trial, in rungs of 2 and 6
    "early stop": {**TEXT, "method": "full", "num_train_epochs": 9, "early_stopping_patience": 1},
    # random windows of images of any size
    "windows": {
        "data": "shapes",
        "model": "segformer",
        "method": "full",
        "num_train_epochs": 3,
        "sliding_windows": "true",
        "image_size": 32,
    },
    # the mixture that keeps enough of the base, under another loss
    "kept": {
        **TEXT,
        "method": "wise",
        "keep": 0.99,
        "loss": "logit_adjusted",
        "evidence": "full",
        "num_train_epochs": 3,
    },
    "contrastive": {
        **TEXT,
        "method": "contrastive",
        "max_steps": 9,
        "save_steps": 4,
        "per_device_train_batch_size": 16,
    },
}


def killed(function: str, count: int = 1, when: str = "before", within: str = "") -> Moment:
    return (function, when, count, within, KILL)


@dataclass
class Server:
    """The process that forks; `place` holds the data and the checkpoints."""

    process: subprocess.Popen[str]
    place: Path

    @classmethod
    def start(cls, place: Path) -> "Server":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=subprocess_env(),
        )  # fmt: skip
        server = cls(process, place)
        assert server._file("stdout").readline() == "ready\n"
        return server

    def stop(self) -> None:
        self._file("stdin").close()
        self.process.wait(timeout=60)

    def _file(self, name: str) -> IO[str]:
        file = getattr(self.process, name)
        assert file is not None
        return file

    def command(
        self, cwd: Path, *words: object, moments: list[Moment] | None = None, setup: str = "", **env: str
    ) -> Outcome:
        """Run `hftl WORDS` in `cwd`, with a cache of its own there; `setup` names a function to be called before."""
        request: dict[str, Any] = {
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "env": {"HFTL_CACHE": str(cwd / "cache"), **env},
            "moments": moments or [],
            "setup": setup,
            "out": str(cwd / "stdout"),
            "err": str(cwd / "stderr"),
        }
        file = self._file("stdin")
        file.write(json.dumps(request) + "\n")
        file.flush()
        code = int(self._file("stdout").readline())
        return Outcome(code, (cwd / "stdout").read_text(), (cwd / "stderr").read_text())

    def train(self, cwd: Path, kind: str, *more: object, **options: Any) -> Outcome:
        """Train one of `KINDS` into `run`."""
        return self.command(cwd, *train_words(self.place, kind), *more, **options)


def train_words(place: Path, kind: str) -> list[object]:
    flags = {**SMALL, **KINDS[kind]}
    tasks = {"resnet": "image-classification", "segformer": "image-segmentation"}
    task = tasks.get(str(flags["model"]), "text-classification")
    flags |= {"data": place / str(flags["data"]), "model": place / str(flags["model"]), "output_dir": "run"}
    return ["train", task, *(word for name, value in flags.items() for word in (f"--{name}", value))]


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def path_of(report: dict[str, Any]) -> list[list[tuple[float, float]]]:
    """Epoch and validation loss of every evaluation of every stage: where the weights went, the best and the others."""
    return [[(e["epoch"], e["eval_loss"]) for e in s["history"] if "eval_loss" in e] for s in report["stages"]]


def assert_same_run(run: Path, other: Path) -> None:
    """The same weights bit by bit, the same metrics, the same path, and as many steps in every stage."""
    ours, theirs = (load_file(path / "final" / "model.safetensors") for path in (run, other))
    assert set(ours) == set(theirs)
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    ours, theirs = report_of(run), report_of(other)
    assert ours["metrics"] == theirs["metrics"]
    assert [s["steps"] for s in ours["stages"]] == [s["steps"] for s in theirs["stages"]]
    assert path_of(ours) == path_of(theirs)


def assert_whole(folder: Path) -> None:
    """The run folder holds what a finished run holds, and nothing lies beside it."""
    adapter = {"adapter"} if (folder / "run" / "adapter").is_dir() else set()
    proof = {"report.html", "baseline"} if report_of(folder / "run")["evidence"] else set()  # a baseline may be saved
    there = {path.name for path in (folder / "run").iterdir()} - proof
    assert there == {"config.yaml", "report.json", "final"} | adapter
    assert {path.name for path in folder.iterdir()} - {"cache"} == {"run", "stdout", "stderr"}  # nothing may be cached


def assert_goes_on_after_a_kill(task: str, flags: dict[str, Any], place: Path) -> None:
    """Train with these flags, undisturbed and killed after nine steps, then resumed: both end alike to the last bit."""
    words = [
        "train",
        task,
        *(word for name, value in flags.items() for word in (f"--{name}", value)),
        "--output_dir",
        "run",
    ]
    server = Server.start(place)
    try:
        cut = [killed("transformers.trainer:Trainer.training_step", 9, "after")]
        for name, moments in (("whole", []), ("cut", cut)):
            (place / name).mkdir()
            outcome = server.command(place / name, *words, moments=moments)
            assert (outcome.code == 0) is (name == "whole"), outcome.err
        resumed = server.command(place / "cut", *words, "--resume")
        assert resumed.code == 0, resumed.err
    finally:
        server.stop()
    assert_same_run(place / "whole" / "run", place / "cut" / "run")
