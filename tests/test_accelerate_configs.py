"""The launch configs: what accelerate makes of each, and, as far as CPUs can tell, that sharding changes nothing."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.dataclasses import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file

from tests import sharded_steps
from tests.runs import stock_model, subprocess_env
from tests.tiny import build


ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "accelerate_configs"
# name: distributed type, processes, machines
EXPECTED = {
    "cpu": ("NO", 1, 1),
    "single_gpu": ("NO", 1, 1),
    "multi_gpu": ("MULTI_GPU", 8, 1),
    "multi_node": ("MULTI_GPU", 16, 2),
    "fsdp2": ("FSDP", 8, 1),
    "deepspeed_zero2": ("DEEPSPEED", 8, 1),
    "deepspeed_zero3": ("DEEPSPEED", 8, 1),
}
HYPERPARAMETERS = ("learning_rate", "batch", "epoch", "accumulation", "clipping", "warmup", "weight_decay")


def _launch(name: str, *words: str) -> Namespace:
    """The arguments of `accelerate launch --config_file`, as accelerate resolves them. Port 0: any free one."""
    line = ["--config_file", str(FOLDER / f"{name}.yaml"), "--main_process_port", "0", *words, "-m", "hftl", "train"]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(line))
    args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    return args


def test_every_file_is_expected() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_file_says_what_it_launches(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    kind, processes, machines = EXPECTED[name]
    assert config.distributed_type == DistributedType(kind)
    assert (config.num_processes, config.num_machines) == (processes, machines)
    args = _launch(name)
    assert (args.num_processes, args.num_machines or 1) == (processes, machines)
    assert args.use_fsdp is (kind == "FSDP")
    assert args.use_deepspeed is (kind == "DEEPSPEED")
    assert args.multi_gpu is (kind == "MULTI_GPU")
    assert args.mixed_precision == "no"
    assert _launch(name, "--num_processes", "2").num_processes == 2  # as the comments say


@pytest.mark.parametrize("name", EXPECTED)
def test_no_hyperparameters(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ")

    def keys(value: Any) -> list[str]:
        return [k for key, v in value.items() for k in (key, *keys(v))] if isinstance(value, dict) else []

    for key in keys(yaml.safe_load(text)):
        assert not any(word in key for word in HYPERPARAMETERS), key


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"cpu", "single_gpu"}))
def test_command_in_the_comment_names_the_file(name: str) -> None:
    head = (FOLDER / f"{name}.yaml").read_text().split("compute_environment")[0]
    assert "accelerate launch" in head
    if name != "multi_gpu":
        assert f"accelerate_configs/{name}.yaml" in head
        assert "NOT tried" in head


def test_machines_keep_the_rank_they_are_given() -> None:
    args = _launch("multi_node", "--machine_rank", "1", "--main_process_ip", "10.0.0.1")
    prepare_multi_gpu_env(args)
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "8", 1)
    assert args.rdzv_endpoint.startswith("10.0.0.1:")
    assert args.rdzv_backend == "static"
    elastic = _launch("multi_node", "--rdzv_backend", "c10d", "--main_process_ip", "10.0.0.1")
    assert elastic.rdzv_backend == "c10d"


def test_rendezvous_keys_of_a_file_are_ignored(tmp_path: Path) -> None:
    """Why multi_node.yaml holds none and its comment names the flag."""
    path = tmp_path / "c10d.yaml"
    path.write_text((FOLDER / "multi_node.yaml").read_text() + "rdzv_backend: c10d\nsame_network: true\n")
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(path), "x.py"]))
    assert (args.rdzv_backend, args.same_network) == ("static", False)


@pytest.mark.parametrize(("name", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_deepspeed_leaves_the_hyperparameters_to_trainer(name: str, stage: int) -> None:
    _, env = prepare_deepspeed_cmd_env(_launch(name))
    assert env["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(stage)
    assert env["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == str(stage == 3).lower()
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS" not in env  # accelerate then says "auto"
    assert "ACCELERATE_GRADIENT_CLIPPING" not in env


def test_fsdp2_wraps_the_layers_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = prepare_multi_gpu_env(_launch("fsdp2"))
    assert env["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"  # accelerate's default would leave ranks without weights
    for key in [k for k in os.environ if k.startswith("FSDP_")]:
        monkeypatch.delenv(key)
    for key in [k for k in env if k.startswith("FSDP_")]:
        monkeypatch.setenv(key, env[key])
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    model, _ = stock_model("bert", build("bert", tmp_path / "base"))
    plugin.set_auto_wrap_policy(model)
    policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert policy is not None
    wrapped = [type(module).__name__ for module in model.modules() if policy(module)]
    assert wrapped == ["BertEmbeddings", *["BertLayer"] * 3]


def test_sharded_steps_equal_whole_ones(tmp_path: Path) -> None:
    """Torch's `fully_shard` on two processes, with hftl's groups, frozen and learning; accelerate's own path needs GPUs."""
    base = build("bert", tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "tests.sharded_steps", str(base), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=subprocess_env(),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads((tmp_path / "facts.json").read_text())
    loaded, groups = sharded_steps.start(base)
    before = {k: v.detach().clone() for k, v in loaded.model.state_dict().items()}
    learning = {name for group in groups for name in group.parameters}
    sharded_steps.train(loaded.model, groups, rank=0, world=1)
    alone, sharded = loaded.model.state_dict(), load_file(tmp_path / "sharded.safetensors")

    assert facts["world"] == 2
    assert facts["unsharded"] == []
    assert facts["learning"] == sorted(learning)
    assert facts["local"] < 0.6 * facts["total"]
    assert set(alone) == set(sharded)
    frozen = set(dict(loaded.model.named_parameters())) - learning
    assert frozen
    assert all(torch.equal(sharded[name], before[name]) for name in frozen)
    gaps = {k: float((alone[k] - sharded[k]).abs().max() / alone[k].abs().max().clamp(min=1)) for k in alone}
    # A key's bias has no gradient but rounding noise, which Adam blows up to full steps (tests/test_exactness.py).
    assert max(gap for name, gap in gaps.items() if not name.endswith("key.bias")) < 1e-5
    assert max(float((before[name] - sharded[name]).abs().max()) for name in learning) > 1e-3
