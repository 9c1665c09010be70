"""What is trained and what is frozen: parameters, batch norms, dropout, one optimizer per stage."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hftl.methods import METHODS
from hftl.methods.plan import Group, Plan, Stage
from hftl.training.stages import fit_plan
from hftl.training.trainer import GroupedTrainer, pin_frozen, set_trainable
from tests.tiny import TEXT_FAMILIES
from tests.traps.loading import config_of, load, text_data


# 1 and 2: frozen when the optimizer is built, thawed after the DDP wrap


def test_a_new_trainer_and_optimizer_per_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("bert", folder)
    data = text_data(loaded)
    layers = loaded.layers
    body = Group("body", (*layers.stem, *chain(*layers.blocks)), 1.0)
    head = Group("head", layers.head, 1.0)
    stages = (Stage("first", (head,), 0.5), Stage("second", (body, head), 0.5))
    plan = Plan(loaded.model, loaded.outputs, layers, stages)
    made: list[GroupedTrainer] = []
    seen: list[dict[str, torch.Tensor]] = []
    start = GroupedTrainer.train

    def spied(self: GroupedTrainer, *args: Any, **kwargs: Any) -> Any:
        made.append(self)
        seen.append({k: v.clone() for k, v in loaded.model.state_dict().items()})
        return start(self, *args, **kwargs)

    monkeypatch.setattr(GroupedTrainer, "train", spied)
    work = folder / "two-stages"
    work.mkdir()
    config = config_of(folder, learning_rate=1e-3)
    reports = fit_plan(plan, None, data, config, work).stages  # type: ignore[arg-type]
    assert len({id(t) for t in made}) == 2
    assert len({id(t.optimizer.optimizer) for t in made}) == 2  # type: ignore[union-attr]
    frozen = set(body.parameters)
    assert all(torch.equal(seen[0][n], seen[1][n]) for n in frozen)
    final = loaded.model.state_dict()
    still = {n for n in frozen if torch.equal(seen[1][n], final[n])}
    assert still <= {n for n in frozen if "token_type" in n or "position" in n or "key.bias" in n}
    assert [r.steps for r in reports] == [2, 2]
    counts = [sum(p.numel() for n, p in loaded.model.named_parameters() if n in s.trainable) for s in plan.stages]
    assert [r.trainable_parameters for r in reports] == counts


def test_every_trainable_parameter_is_in_one_group(folder: Path) -> None:
    for family in ("bert", "resnet"):
        for method in METHODS:
            plan = METHODS[method](load(family, folder), config_of(folder).method, 100)
            for stage in plan.stages:
                assert len(stage.trainable) == len(set(stage.trainable))
                set_trainable(plan.model, stage.trainable)  # raises for a name that is not there
                assert {n for n, p in plan.model.named_parameters() if p.requires_grad} == set(stage.trainable)


def test_set_trainable_names_what_is_missing() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        set_trainable(nn.Linear(2, 2), ["nowhere"])


# 3: a frozen convnet is not frozen; nor is a frozen encoder without dropout


@pytest.mark.parametrize("family", ["resnet", "efficientnet"])
@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_batch_norm_statistics_hold_still(family: str, method: str, folder: Path) -> None:
    plan = METHODS[method](load(family, folder), config_of(folder).method, 100)
    stage = plan.stages[-1]
    set_trainable(plan.model, stage.trainable)
    before = {n: b.clone() for n, b in plan.model.named_buffers()}
    hook = pin_frozen(plan.model, plan, stage)
    for _ in range(2):
        plan.model.train()
        plan.model(pixel_values=torch.randn(4, 3, 32, 32))
    hook.remove()
    assert all(torch.equal(before[n], b) for n, b in plan.model.named_buffers())


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_head_method_reads_the_cached_features(family: str, folder: Path) -> None:
    """The states that the frozen encoder gives in training are those of evaluation, a missing pooler or not."""
    loaded = load(family, folder)
    plan = METHODS["head"](loaded, config_of(folder).method, 100)
    stage = plan.stages[-1]
    set_trainable(loaded.model, stage.trainable)
    states: list[torch.Tensor] = []
    blocks = loaded.model.base_model
    last = getattr(blocks, "encoder", None) or blocks.transformer
    note = last.register_forward_hook(lambda _, __, out: states.append(out[0].detach()))
    batch = {"input_ids": torch.randint(6, 200, (4, 12)), "attention_mask": torch.ones(4, 12, dtype=torch.long)}
    loaded.model.eval()
    loaded.model(**batch)
    hook = pin_frozen(loaded.model, plan, stage)
    loaded.model.train()
    loaded.model(**batch)
    hook.remove()
    note.remove()
    assert torch.equal(states[0], states[1])
