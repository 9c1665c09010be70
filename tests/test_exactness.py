"""Runs that must come out equal do: accumulation, processes, seeds, the probe against scikit-learn."""

import dataclasses
import importlib
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer, TrainerCallback

from hftl import prepare
from hftl.adapt import adapt
from hftl.errors import TrainingError
from hftl.tasks import TASKS, get_task
from hftl.training import stages
from hftl.training.features import Passer
from hftl.training.trainer import GroupedTrainer
from tests.runs import split_folder, stock_model, subprocess_env, tiny_run
from tests.thin import thin
from tests.tiny import build


ROWS, STEPS = 32, 6
FLOW = importlib.import_module("hftl.adapt")  # the package offers a function of the same name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("exact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        split_folder(path / "data", ROWS, other=13)  # rows that two processes cannot share evenly
        build("bert", path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        yield path


def _flags(method: str, rows: int, accumulate: int) -> dict[str, Any]:
    return {
        "method": method,
        "use_cpu": True,
        "bf16": False,
        "evidence": False,
        "max_steps": STEPS,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": accumulate,
        "train_sampling_strategy": "random",
        "learning_rate": 1e-3,
        "lora_dropout": 0.0,
    }


def _run(folder: Path, name: str, method: str, rows: int = 8, accumulate: int = 1, **more: Any) -> Any:
    flags = {**_flags(method, rows, accumulate), **more}
    data, base = str(folder / "data"), str(folder / "base")
    return adapt("text-classification", data=data, model=base, output_dir=folder / name, **flags)


def _state(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "final" / "model.safetensors")


def _distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert set(a) == set(b)
    # The softmax takes a key's bias out again: its gradient is rounding noise, which Adam blows up to full steps.
    # A weight of 50, as the probe has on features of small spread, is held to as many digits as a weight of 1.
    gaps = {k: float((a[k] - b[k]).abs().max() / b[k].abs().max().clamp(min=1)) for k in a}
    return max(gap for k, gap in gaps.items() if not k.endswith("key.bias"))


_WHOLE: dict[str, Any] = {}


def _whole(folder: Path, method: str) -> Any:
    """One process, 8 rows at once; it must have gone somewhere for equality to mean anything."""
    if method not in _WHOLE:
        _WHOLE[method] = _run(folder, f"{method}-whole", method, **MORE.get(method, {}))
        base = load_file(folder / "base" / "model.safetensors")
        final = _state(_WHOLE[method].run_dir)
        moved = max(float((base[k] - final[k]).abs().max()) for k in base if k in final)
        assert moved == 0 if method == "head" else moved > 1e-3
    return _WHOLE[method]


@pytest.mark.parametrize(
    ("method", "optimizer"),
    thin(product(("full", "lora"), ("adamw_torch", "sgd")), [("lora", "adamw_torch"), ("full", "sgd")]),
)
def test_accumulation_is_exact(method: str, optimizer: str, folder: Path) -> None:
    more = {} if optimizer == "adamw_torch" else {"optim": "sgd", "learning_rate": 0.02}
    whole = _whole(folder, method) if not more else _run(folder, f"{method}-sgd", method, **more)
    parts = _run(folder, f"{method}-{optimizer}-parts", method, rows=2, accumulate=4, **more)
    assert parts.report["stages"][-1]["steps"] == STEPS
    assert _distance(_state(whole.run_dir), _state(parts.run_dir)) < 1e-5


MORE: dict[str, dict[str, Any]] = {
    "gradual": {"max_steps": -1, "num_train_epochs": 4, "cache": "on", "class_weights": "balanced"},
    "head": {"pooling": "native"},
}


@pytest.mark.parametrize(
    "method", ["gradual", *(pytest.param(name, marks=pytest.mark.slow) for name in ("full", "lora", "head"))]
)
def test_two_processes_are_exact(method: str, folder: Path) -> None:
    target = folder / f"{method}-two"
    more = MORE.get(method, {})
    flags = {**_flags(method, 4, 1), **more, "data": folder / "data", "model": folder / "base", "output_dir": target}
    words = [w for k, v in flags.items() for w in (f"--{k}", str(v).lower() if isinstance(v, bool) else str(v))]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "hftl", "train", "text-classification", *words],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        env=subprocess_env(HFTL_CACHE=str(folder / f"cache-{method}")),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((target / "report.json").read_text())
    whole = _whole(folder, method)
    assert report["environment"]["processes"] == 2
    assert [s["steps"] for s in report["stages"]] == [s["steps"] for s in whole.report["stages"]]
    # Bit-equal on both ranks after every stage: hftl compares them, stops where they differ, and notes the hash.
    assert all(len(stage["weights"]) == 16 for stage in report["stages"])
    assert len({stage["weights"] for stage in report["stages"]}) == len(report["stages"])
    assert _distance(_state(whole.run_dir), _state(target)) < 1e-5
    mine, theirs = whole.report["metrics"]["test"], report["metrics"]["test"]
    assert theirs["accuracy"] == mine["accuracy"]
    assert sum(row["support"] for row in report["per_class"]) == report["data"]["rows"]["test"] == 13
    if method != "head":  # whose history counts features
        histories = [
            [e["eval_accuracy"] for s in r["stages"] for e in s["history"] if "eval_accuracy" in e]
            for r in (report, whole.report)
        ]
        assert histories[0] == histories[1]
    assert theirs["log_loss"] == pytest.approx(mine["log_loss"], rel=1e-4)


def test_processes_that_drift_apart_are_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "from_every_process", lambda mine: [mine, "another"])
    with pytest.raises(TrainingError, match="different weights"):
        _run(folder, "drifted", "full")
    assert not (folder / "drifted").exists()


@pytest.mark.parametrize("method", thin(("probe", "head", "lora", "full", "gradual"), ("lora", "gradual")))
def test_same_seed_same_run(method: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the defaults left on, dropout and length groups included; the second run reads its features cached."""
    monkeypatch.setenv("HFTL_CACHE", str(folder / f"fresh-{method}"))
    more = {"train_sampling_strategy": None, "lora_dropout": 0.1}
    runs = [_run(folder, f"{method}-seed-{i}", method, **more) for i in range(2)]
    assert _distance(_state(runs[0].run_dir), _state(runs[1].run_dir)) == 0.0
    assert runs[0].report["metrics"] == runs[1].report["metrics"]
    assert [run.report["probe"]["features"] for run in runs] == ["computed", "cache"]
    if method in ("lora", "full", "gradual"):
        other = _run(folder, f"{method}-seed-other", method, seed=7, **more)
        assert _distance(_state(runs[0].run_dir), _state(other.run_dir)) > 0


def test_probe_is_scikit_learns_regression(folder: Path) -> None:
    run = _run(folder, "probe-sklearn", "probe", pooling="native")
    model, _ = stock_model("bert", run.run_dir / "final")
    task = get_task("text-classification")
    tokenizer = AutoTokenizer.from_pretrained(run.run_dir / "final")
    parts = {}
    names = ["class_0", "class_1", "class_2"]
    for split in ("train", "test"):
        frame = pd.read_csv(folder / "data" / f"{split}.csv")
        labels = [names.index(x) for x in frame["label"]]
        table = Dataset.from_dict({"text": list(frame["text"]), "label": labels})
        encoded = task.encode(table, tokenizer)
        collate = task.collator(tokenizer)
        found = Passer(collate, use_cpu=True).features(model, ("classifier",), encoded, split)
        parts[split] = (found["native"].astype(np.float64), encoded.targets)
    x, y = parts["train"]
    mean, scale = x.mean(0), x.std(0)
    sklearn = LogisticRegression(C=run.report["probe"]["C"], solver="newton-cg", max_iter=2000, tol=1e-12).fit(
        (x - mean) / scale, y
    )
    for features, _ in parts.values():
        theirs = sklearn.decision_function((features - mean) / scale)
        weight = model.classifier.weight.detach().double().numpy()
        ours = features @ weight.T + model.classifier.bias.detach().double().numpy()
        ours, theirs = (z - z.mean(1, keepdims=True) for z in (ours, theirs))  # a shift of all classes means nothing
        assert np.abs(ours - theirs).max() < 1e-4


class _Spy:
    """The test split; every use of it is recorded."""

    def __init__(self, table: Dataset, events: list[str]):
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_events", events)

    def __getattr__(self, name: str) -> Any:
        self._events.append("test split")
        return getattr(self._table, name)

    def __getitem__(self, key: Any) -> Any:
        self._events.append("test split")
        return self._table[key]

    def __len__(self) -> int:
        self._events.append("test split")
        return len(self._table)


@pytest.mark.parametrize("method", ["probe", "lora"])
def test_test_split_is_read_last(method: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    load_task, fit_plan = prepare.load_task, FLOW.fit_plan

    def spied_task(*args: Any) -> Any:
        found, splits = load_task(*args)
        watched = dataclasses.replace(found, inputs=dataclasses.replace(found.inputs, encode=spied_encode))
        return watched, dataclasses.replace(splits, test=_Spy(splits.test, events))

    def spied_fit(*args: Any) -> Any:
        result = fit_plan(*args)
        events.append("trained")
        return result

    inputs = TASKS["text-classification"].inputs

    def spied_encode(table: Any, processor: Any) -> Any:
        events.append("encode test" if isinstance(table, _Spy) else "encode")
        return inputs.encode(table, processor)

    monkeypatch.setattr(prepare, "load_task", spied_task)
    monkeypatch.setattr(FLOW, "fit_plan", spied_fit)
    _run(folder, f"{method}-spied", method)
    trained = events.index("trained")
    assert set(events[:trained]) == {"encode"}
    assert events[trained + 1] == "encode test"


@pytest.mark.parametrize("family", thin(("vit", "dinov2", "resnet"), ("vit", "resnet")))
def test_best_checkpoint_comes_back_whole(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ViT's files use older key names; Trainer's own restore would bring back the head alone, without an error."""
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    more = {"metric_for_best_model": "loss", "greater_is_better": True}  # the worst loss, which is not the last
    run = tiny_run(family, "full", tmp_path, max_steps=-1, num_train_epochs=3, learning_rate=3e-4, **more)
    losses = [entry["eval_loss"] for entry in run.report["stages"][-1]["history"] if "eval_loss" in entry]
    assert len(set(losses)) == 3
    assert max(losses) != losses[-1]
    assert run.report["metrics"]["validation"]["log_loss"] == pytest.approx(max(losses), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("family", "method"),
    thin(
        (("vit", "full"), ("bert", "lora"), ("resnet", "full"), ("bert", "head")),
        [("bert", "lora"), ("resnet", "full")],
    ),
)
def test_resumed_run_equals_an_uninterrupted_one(
    family: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    flags = {"max_steps": -1, "num_train_epochs": 3, "learning_rate": 1e-3}
    whole = tiny_run(family, method, tmp_path, "whole", **flags)

    class Power(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    start = GroupedTrainer.__init__

    def cut_off(self: GroupedTrainer, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        self.add_callback(Power)

    with monkeypatch.context() as patch:
        patch.setattr(GroupedTrainer, "__init__", cut_off)
        with pytest.raises(KeyboardInterrupt):
            tiny_run(family, method, tmp_path, "cut", **flags)
    assert not (tmp_path / "cut").exists()
    resumed = tiny_run(family, method, tmp_path, "cut", resume=True, **flags)
    assert resumed.report["stages"][-1]["steps"] == whole.report["stages"][-1]["steps"]
    assert _distance(_state(whole.run_dir), _state(resumed.run_dir)) < 1e-6
