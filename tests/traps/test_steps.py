"""The steps of training: the loss, the arguments and the rows that are seen."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from transformers import TrainingArguments

from hftl.config import build_config
from hftl.errors import TrainingError
from hftl.methods.plan import Plan, Stage
from hftl.models.layers import Layers
from hftl.tasks import CLASSES
from hftl.training import stages
from hftl.training.arguments import stage_arguments
from hftl.training.losses import LossGuard, class_weights, make_loss
from hftl.training.precision import exact_fp32, without_autocast
from hftl.training.replay import OnFeatures
from hftl.training.trainer import GroupedTrainer
from tests.runs import checkpoint, stock_model, tiny_run
from tests.traps.loading import config_of, load, text_data


# 4: the loss under accumulation


def test_loss_is_exact_under_accumulation() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    loss = make_loss(0.1)
    whole = loss(SimpleNamespace(logits=logits), labels, torch.tensor(8))
    parts = [loss({"logits": logits[i : i + 2]}, labels[i : i + 2], torch.tensor(8)) for i in range(0, 8, 2)]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(whole, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    alone = loss(SimpleNamespace(logits=logits.detach()), labels)  # evaluation: the mean, not smoothed
    torch.testing.assert_close(alone, nn.functional.cross_entropy(logits.detach(), labels))
    assert OnFeatures.accepts_loss_kwargs is False


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(value: float) -> None:
    args, state = SimpleNamespace(learning_rate=1.0), SimpleNamespace(global_step=3)
    control = SimpleNamespace(should_log=False, should_save=False, should_evaluate=False)
    values = iter([1.0, value])
    guard = LossGuard(len, lambda *_: torch.tensor(next(values), requires_grad=True) * 1, math.log(3))
    for rows in ([4, 2], [0, 7]):
        guard.collate([{"row": row} for row in rows])
    guard.loss(None, torch.zeros(2))
    guard.on_step_end(args, state, control)
    guard.loss(None, torch.zeros(2))
    with pytest.raises(TrainingError, match=r"step 3.*rows 0, 7 .*--learning_rate"):
        guard.on_step_end(args, state, control)
    with pytest.raises(TrainingError, match="validation loss"):
        guard.on_log(args, state, None, logs={"eval_loss": value})


def test_a_loss_that_explodes_stops_the_run() -> None:
    args, state = SimpleNamespace(learning_rate=1.0), SimpleNamespace(global_step=3)
    control = SimpleNamespace(should_log=False, should_save=False, should_evaluate=False)
    guard = LossGuard(len, lambda *_: torch.tensor(1e4, requires_grad=True) * 1, math.log(3))
    guard.loss(None, torch.zeros(2))
    with pytest.raises(TrainingError, match="exploded"):
        guard.on_step_end(args, state, control)


def test_class_weights_are_scikit_learns_and_exact_under_accumulation() -> None:
    labels = np.array([0] * 12 + [1] * 3 + [2])
    weights, said = class_weights("balanced", labels, 3)
    assert weights is not None
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert weights[labels].mean() == pytest.approx(1)
    assert "12.0 times" in said[0]
    assert class_weights("none", labels, 3) == (None, [])
    auto, said = class_weights("auto", labels, 3)
    assert auto is not None
    assert "balanced above 5 times" in said[0]
    assert class_weights("auto", np.array([0, 0, 1]), 2)[0] is None
    torch.manual_seed(0)
    logits, targets = torch.randn(16, 3, requires_grad=True), torch.tensor(labels)
    loss = make_loss(0.1, weights)
    whole = loss(SimpleNamespace(logits=logits), targets, torch.tensor(16))
    parts = [loss({"logits": logits[i : i + 4]}, targets[i : i + 4], torch.tensor(16)) for i in range(0, 16, 4)]
    torch.testing.assert_close(sum(parts), whole)
    reference = nn.functional.cross_entropy(
        logits, targets, weight=torch.tensor(weights).float(), label_smoothing=0.1, reduction="sum"
    )
    torch.testing.assert_close(whole, reference / 16)


def test_arguments_by_default(folder: Path) -> None:
    plan = Plan(nn.Linear(2, 2), ("",), Layers((), (), ()), (), {"learning_rate": 1e-4, "num_train_epochs": 3})
    args = stage_arguments(plan, Stage("s", (), 1.0), config_of(folder), CLASSES, folder / "args", 100)
    assert args.torch_compile is False
    assert args.push_to_hub is False
    assert args.remove_unused_columns is False
    assert args.report_to in ([], "none", ["none"])
    assert args.learning_rate == 1e-4
    assert args.seed == 42


@pytest.mark.parametrize(
    ("rows", "typed", "size"),
    [
        (600, {"num_train_epochs": 3}, 8),  # 113 steps of 16 rows
        (2000, {"num_train_epochs": 3}, 16),
        (600, {}, 16),  # as many epochs as it takes
        (600, {"num_train_epochs": 3, "per_device_train_batch_size": 32}, 32),
        (600, {"num_train_epochs": 3, "gradient_accumulation_steps": 2}, 16),
        (600, {"num_train_epochs": 3, "max_steps": 50}, 8),
        (600, {"max_steps": 50}, 16),
    ],
)
def test_few_typed_epochs_of_few_rows_take_more_steps(rows: int, typed: Any, size: int, folder: Path) -> None:
    method = {"learning_rate": 1e-4, "num_train_epochs": 3, "per_device_train_batch_size": 16}
    plan = Plan(nn.Linear(2, 2), ("",), Layers((), (), ()), (), method)
    flags = {"data": "x", "model": "x", "method": "full", "use_cpu": True, "bf16": False, **typed}
    config = build_config("text-classification", flags)
    args = stage_arguments(plan, Stage("s", (), 1.0), config, CLASSES, folder / "args", rows)
    assert args.per_device_train_batch_size == size


def test_batches_hold_rows_of_like_length_in_random_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"input_ids": [1] * length, "labels": 0} for length in range(1, 104)]
    args = TrainingArguments(str(tmp_path), train_sampling_strategy="group_by_length", per_device_train_batch_size=4)
    trainer = GroupedTrainer(model=nn.Linear(1, 1), args=args, train_dataset=rows)

    def order(seed: int) -> list[int]:
        sampler = trainer._get_train_sampler(rows)
        sampler.generator = torch.Generator().manual_seed(seed)
        return list(sampler)

    first = order(0)
    assert sorted(first) == list(range(103))
    assert max(first[:4]) == 102  # what takes the most memory comes first
    batches = np.array(first[:100]).reshape(-1, 4)
    assert np.ptp(batches, axis=1).mean() < 20  # four of 103 lengths, drawn at random, span 61
    assert (np.diff(batches.max(axis=1)) > 0).sum() > 5  # and not from long to short
    assert first == order(0) != order(1)
    monkeypatch.setattr(TrainingArguments, "world_size", 2)  # one step of both processes is two batches in a row
    steps = np.array(order(0)[:96]).reshape(-1, 8)
    assert np.ptp(steps, axis=1).mean() < 50  # of 103 lengths, eight drawn at random span 81


def test_evaluation_keeps_every_row_when_training_drops_some(folder: Path) -> None:
    loaded = load("bert", folder)
    data = text_data(loaded, 10)
    args = TrainingArguments(
        output_dir=str(folder / "args"),
        use_cpu=True,
        report_to="none",
        dataloader_drop_last=True,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        remove_unused_columns=False,
    )
    trainer = GroupedTrainer(
        model=loaded.model,
        args=args,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collate,
    )
    assert sum(len(b["labels"]) for b in trainer.get_eval_dataloader()) == 10
    assert sum(len(b["labels"]) for b in trainer.get_train_dataloader()) == 8


def test_mixed_precision_ends_with_the_training(folder: Path) -> None:
    """accelerate wraps `forward` in autocast for good; what a run scores afterwards must be plain fp32."""
    run = tiny_run("vit", "full", folder, name="half", bf16=True, evidence=True)
    found = run.report["parity"]["final"]
    assert found["labels_equal"] is True
    assert found["max_difference"] < 1e-6


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_forward_is_what_it_was(family: str, folder: Path) -> None:
    """accelerate's own way to unwrap takes transformers' decorators off too: `return_dict` would fail afterwards."""
    model, _ = stock_model(family, checkpoint(family, folder))
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    asked = {"bert": {"input_ids": torch.arange(8)[None]}, "vit": {"pixel_values": torch.randn(1, 3, 32, 32)}}[family]
    model.eval()
    with torch.no_grad():
        expected = model(**asked).logits
        prepared = accelerator.prepare_model(model)
        assert not torch.equal(prepared(**asked).logits, expected)
        without_autocast(model)
        assert torch.equal(model(**asked).logits, expected)
        assert torch.equal(model(**asked, return_dict=False)[0], expected)
    assert "forward" not in model.__dict__


def test_scores_are_exact_fp32() -> None:
    """cuDNN's convolutions round to TF32 by default; inside they must not, and outside nothing has changed."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    with exact_fp32():
        assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
    assert [switch.fp32_precision for switch in switches] == before


@pytest.mark.parametrize("bf16", [True, False])
def test_every_stage_trains_in_the_same_precision(bf16: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate marks a prepared model, and gives a marked one no mixed precision: later stages trained in fp32."""
    seen: dict[str, set[bool]] = {}
    by_gradient = stages._by_gradient

    def watched(plan: Plan, stage: Stage, *rest: Any) -> Any:
        def note(module: nn.Module, args: Any) -> None:
            if module.training or torch.is_grad_enabled():
                seen.setdefault(stage.name, set()).add(torch.is_autocast_enabled("cpu"))

        linears = [module for module in plan.model.modules() if isinstance(module, nn.Linear)]
        hooks = [linear.register_forward_pre_hook(note) for linear in linears]
        try:
            return by_gradient(plan, stage, *rest)
        finally:
            for hook in hooks:
                hook.remove()

    monkeypatch.setattr(stages, "_by_gradient", watched)
    flags = {"num_train_epochs": 8, "max_steps": -1, "cache": "off"}
    tiny_run("bert", "gradual", folder, name=f"stages-{bf16}", bf16=bf16, **flags)
    assert len(seen) > 2
    assert seen == {name: {bf16} for name in seen}
