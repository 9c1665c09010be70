"""`--method contrastive`: its loss against the formula, its draws, and that a run is the sum of its stages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score

from hftl.adapt import adapt
from hftl.errors import ConfigError
from hftl.evaluation.logistic import fit_probe
from hftl.methods.contrastive import GROUP, TEMPERATURE, pull_together
from hftl.tasks.outputs.classes import CLASSES
from hftl.tasks.outputs.labels import LABELS
from hftl.training.losses import LossGuard, make_loss
from hftl.training.order import Together
from hftl.training.stages import closed_form
from tests.runs import checkpoint, split_folder, subprocess_env, text_frame, tiny_run
from tests.tiny import build


STEPS = 6
FLAGS: dict[str, Any] = {
    "max_steps": STEPS,
    "logging_steps": 2,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2 * GROUP,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("contrastive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        split_folder(path / "data", 40, other=12)
        build("bert", path / "base-bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        yield path


def _run(folder: Path, name: str, **flags: Any) -> Any:
    return tiny_run("bert", "contrastive", folder, name, **{**FLAGS, "data": str(folder / "data"), **flags})


def _state(run: Any) -> dict[str, torch.Tensor]:
    return load_file(run.run_dir / "final" / "model.safetensors")


def _same_body(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Of a key's bias the gradient is rounding noise, which Adam blows up to full steps; the softmax takes it out."""
    body = [name for name in one if "classifier" not in name and not name.endswith("key.bias")]
    return max(float((one[name] - other[name]).abs().max()) for name in body) < 1e-5


def _by_hand(features: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Khosla et al. 2020, equation 2, pair by pair; a soft likeness weighs its pair."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    losses = np.zeros(len(features))
    for i in range(len(features)):
        others = [j for j in range(i // GROUP * GROUP, (i // GROUP + 1) * GROUP) if j != i]
        total = sum(np.exp(unit[i] @ unit[j] / TEMPERATURE) for j in others)
        pulls = [alike[i, j] * np.log(np.exp(unit[i] @ unit[j] / TEMPERATURE) / total) for j in others]
        weight = sum(alike[i, j] for j in others)
        losses[i] = -sum(pulls) / weight if weight else 0.0
    return losses


def test_the_loss_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2 * GROUP, 5))
    ids = np.concatenate([np.arange(2 * GROUP - 2) % 5, [7, 8]])  # two rows have nobody like them
    sets = (rng.random((2 * GROUP, 4)) < 0.4).astype(np.float32)
    for output, targets in ((CLASSES, ids), (LABELS, sets)):
        assert output.alike is not None
        alike = output.alike(torch.from_numpy(targets))
        losses = pull_together(torch.from_numpy(features), alike)
        assert losses.numpy() == pytest.approx(_by_hand(features, alike.numpy()), abs=1e-5)
        assert float(losses.sum()) > 0


def test_labels_are_alike_by_overlap() -> None:
    sets = (np.random.default_rng(1).random((12, 5)) < 0.4).astype(np.float32)
    sets[3] = sets[4] = 0
    assert LABELS.alike is not None
    alike = LABELS.alike(torch.from_numpy(sets)).numpy()
    for i in range(12):
        for j in range(12):
            assert alike[i, j] == pytest.approx(jaccard_score(sets[i], sets[j], zero_division=1.0))


@pytest.mark.parametrize(("counts", "twice"), [((40, 9, 3), 3), ((30, 30), 2), ((4,) * 20, 8), ((1, 1, 1), 3)])
def test_rows_are_drawn_together(counts: tuple[int, ...], twice: int) -> None:
    strata = np.repeat(np.arange(len(counts)), counts)
    order = Together(strata, GROUP, 2 * GROUP, seed=3)
    rows = list(order)
    assert len(rows) == len(order) == -(-len(strata) // (2 * GROUP)) * 2 * GROUP
    for start in range(0, len(rows), GROUP):
        group = rows[start : start + GROUP]
        present, often = np.unique(strata[group], return_counts=True)
        assert len(present) == twice
        assert often.max() - often.min() <= 1
        for stratum, times in zip(present, often, strict=True):  # none comes again before all of its kind have come
            assert len({row for row in group if strata[row] == stratum}) == min(times, counts[stratum])
    assert rows == list(order)
    order.set_epoch(1)
    assert rows != list(order)


def test_the_head_is_the_probe_of_the_new_features(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features: list[Any] = []

    def note(given: Any, *rest: Any) -> Any:
        features.append(given)
        return closed_form(given, *rest)

    monkeypatch.setattr("hftl.training.stages.closed_form", note)
    run = _run(folder, "first", pooling="native")
    stages = run.report["stages"]
    assert [(stage["name"], stage["steps"], stage["reads"]) for stage in stages] == [
        ("pairs", STEPS, "rows"),
        ("probe", 0, "features"),
    ]
    losses = [entry["loss"] for entry in stages[0]["history"] if "loss" in entry]
    assert losses
    assert not any(key.startswith("eval") for entry in stages[0]["history"] for key in entry)
    state, base = _state(run), load_file(folder / "base-bert" / "model.safetensors")
    moved = [name for name in base if name in state and not torch.equal(state[name], base[name])]
    assert any("layer.0" in name for name in moved)
    labels = [int(name[-1]) for name in text_frame(64).label[:40]]
    probe = fit_probe(features[-1], np.array(labels), 3, "native", 42)
    scale = state["classifier.weight"].numpy() / probe.weight  # one temperature for all
    assert scale == pytest.approx(scale[0, 0], rel=1e-3)
    again = _run(folder, "again", pooling="native")
    assert all(torch.equal(tensor, state[name]) for name, tensor in _state(again).items())


def test_accumulation_is_exact(folder: Path) -> None:
    whole, parts = (
        _run(folder, f"accumulate-{n}", per_device_train_batch_size=2 * GROUP // n, gradient_accumulation_steps=n)
        for n in (1, 2)
    )
    assert whole.report["model"]["architecture"] == "BertForSequenceClassification"
    assert _same_body(_state(whole), _state(parts))


def test_a_mean_pooled_head_is_trained_and_saved_as_the_probe_saves_it(folder: Path) -> None:
    run = _run(folder, "mean", pooling="mean")
    assert run.report["model"]["architecture"] == "MeanPooledForSequenceClassification"
    assert run.report["pooling"] == "mean"
    assert len(run.predict(list(text_frame(4).text))) == 4


def test_what_cannot_be_compared_is_refused(folder: Path) -> None:
    frame = text_frame(40)
    frame["label"] = np.linspace(0.0, 1.0, len(frame))
    flags = {"data": frame, "model": str(checkpoint("bert", folder)), "method": "contrastive", "use_cpu": True}
    with pytest.raises(ConfigError, match="compares rows by their classes or labels, and this run learns numbers"):
        adapt("text-classification", output_dir=folder / "number", **flags)
    with pytest.raises(ConfigError, match="multiple of 16"):
        _run(folder, "uneven", per_device_train_batch_size=24)
    with pytest.raises(ConfigError, match="makes no sense"):
        _run(folder, "random", init_head="random")
    assert not list(folder.glob("number*")) + list(folder.glob("uneven*"))


def test_many_labels_at_chance_are_no_explosion() -> None:
    """The guard's mean is over the decisions, like the loss: 150 labels at ln 2 each are no loss of 104."""
    guard = LossGuard(lambda items: items, make_loss(0.0, row_loss=LABELS.loss), LABELS.chance(["a"] * 150))
    labels = torch.zeros(4, 150)
    guard.loss({"logits": torch.zeros(4, 150, requires_grad=True)}, labels, torch.tensor(labels.numel()))
    ((_, value),) = guard._pending
    assert float(value) == pytest.approx(np.log(2))


@pytest.mark.slow
def test_two_processes_are_one(folder: Path) -> None:
    flags = {"data": folder / "data", "model": folder / "base-bert", "method": "contrastive", "use_cpu": "true"}
    flags |= {"bf16": "false", "evidence": "off", **FLAGS, "per_device_train_batch_size": GROUP}
    words = [str(w) for k, v in {**flags, "output_dir": folder / "pair"}.items() for w in (f"--{k}", v)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hftl"]
    command = [*launch, "train", "text-classification", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=subprocess_env(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = _run(folder, "alone")
    report = json.loads((folder / "pair" / "report.json").read_text())
    assert [s["steps"] for s in report["stages"]] == [STEPS, 0]
    assert all(len(stage["weights"]) == 16 for stage in report["stages"])  # equal on both
    pair = load_file(folder / "pair" / "final" / "model.safetensors")
    assert _same_body(_state(alone), pair)
