"""Which method may run under which strategy: refused in one line before training, or let through."""

from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import Accelerator

from hftl.errors import TrainingError
from hftl.methods import METHODS
from hftl.training import world
from hftl.training.world import check_strategy, current_strategy
from tests.runs import tiny_run


TRAINED_ONCE = ("head", "lora", "full")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["NO", "MULTI_GPU", "MULTI_CPU"])
def test_whole_weights_take_every_method(kind: str, method: str) -> None:
    check_strategy(method, kind, None, None)
    check_strategy(method, kind, None, None, half=True)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("method", ["probe", *TRAINED_ONCE])
def test_zero_with_whole_weights_takes_one_stage(method: str, stage: int) -> None:
    check_strategy(method, "DEEPSPEED", stage, None)


def _refusal(method: str, kind: str, zero: int | None, fsdp: int | None, *, half: bool = False) -> str:
    with pytest.raises(TrainingError) as caught:
        check_strategy(method, kind, zero, fsdp, half=half)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300
    assert "accelerate_configs/" in text  # names what works instead
    return text


@pytest.mark.parametrize("method", TRAINED_ONCE)
def test_deepspeed_trains_in_fp32_alone(method: str) -> None:
    assert "--bf16 false" in _refusal(method, "DEEPSPEED", 2, None, half=True)
    check_strategy("probe", "DEEPSPEED", 2, None, half=True)  # never reaches DeepSpeed's engine


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"probe", *TRAINED_ONCE} | {"a method of tomorrow"}))
def test_deepspeed_refuses_what_needs_several_engines(method: str) -> None:
    assert method in _refusal(method, "DEEPSPEED", 2, None)


@pytest.mark.parametrize("method", TRAINED_ONCE)
def test_deepspeed_trains_one_seed_a_process(method: str) -> None:
    with pytest.raises(TrainingError, match="Start one run per --seed"):
        check_strategy(method, "DEEPSPEED", 2, None, seeds=3)
    check_strategy("probe", "DEEPSPEED", 2, None, seeds=3)  # never reaches DeepSpeed's engine
    check_strategy(method, "MULTI_GPU", None, None, seeds=3)


@pytest.mark.parametrize("method", METHODS)
def test_shards_are_refused(method: str) -> None:
    for text in (
        _refusal(method, "DEEPSPEED", 3, None),
        _refusal(method, "FSDP", None, 2),
        _refusal(method, "FSDP", None, 1),
    ):
        assert f"--method {method} " in text
        assert "deepspeed_zero2.yaml" in text
    assert "ZeRO-3" in _refusal(method, "DEEPSPEED", 3, None)
    assert "FSDP2" in _refusal(method, "FSDP", None, 2)
    assert "unknown" in _refusal(method, "DEEPSPEED", None, None)


@pytest.mark.parametrize("kind", ["MEGATRON_LM", "XLA", "MULTI_XPU"])
def test_what_nobody_looked_at_is_refused(kind: str) -> None:
    assert kind in _refusal("full", kind, None, None)


def test_current_strategy_here() -> None:
    Accelerator(cpu=True)
    assert current_strategy() == ("NO", None, None)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            {"distributed_type": "DistributedType.FSDP", "fsdp_plugin": SimpleNamespace(fsdp_version=2)},
            ("FSDP", None, 2),
        ),
        (
            {"distributed_type": "DistributedType.DEEPSPEED", "deepspeed_plugin": SimpleNamespace(zero_stage=3)},
            ("DEEPSPEED", 3, None),
        ),
    ],
)
def test_current_strategy_reads_the_plugin(state: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "AcceleratorState", lambda: SimpleNamespace(**state))
    assert current_strategy() == expected


@pytest.mark.parametrize("method", ["head", "full"])
def test_smoothed_labels(method, tmp_path):
    plain, smooth = (
        tiny_run("bert", method, tmp_path, name, max_steps=4, label_smoothing_factor=value)
        for name, value in (("plain", 0.0), ("smooth", 0.3))
    )
    weights = [(run.run_dir / "final" / "model.safetensors").read_bytes() for run in (plain, smooth)]
    assert weights[0] != weights[1]  # it is not only taken, it counts
