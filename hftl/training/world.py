"""The processes of a run: how many there are, whether they are the ones that were asked for, and what can be spread.

hftl reads and writes the model's weights between and after Trainer's loops, outside of any wrap: it hashes them,
extracts features, writes the probe's solution into the head, saves each finished stage from the main process, shares
the test rows out in batches of unequal number, and merges LoRA. That holds where every process has whole fp32 weights:

- NO, MULTI_GPU, MULTI_CPU: always.
- DeepSpeed ZeRO up to stage 2: gradients and optimizer states are sharded, the weights are not. Two limits. Under bf16
  and fp16 DeepSpeed's engine casts the model's own weights. And an engine leaves hooks on the parameters until it is
  destroyed, so that only methods with one stage by gradient are let through.
- ZeRO-3: the weights are shards, from loading or from the first wrap on, which only the engine can gather.
- FSDP: training turns the weights into shards in place (DTensor; with version 1, flat parameters, which moreover cannot
  mix frozen and learning ones without use_orig_params). A state_dict read by the main process alone holds shards, and a
  forward pass gathers on all processes at once, so unequal numbers of batches hang. The probe would be right only where
  every process has loaded whole weights, which accelerate's default for FSDP prevents; and it has nothing to shard.
"""

import atexit
import contextlib
import os
from collections.abc import Iterable
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from hftl.errors import TrainingError
from hftl.methods import METHODS


WHOLE_WEIGHTS = ("NO", "MULTI_GPU", "MULTI_CPU")
ONE_ENGINE = tuple(name for name, method in METHODS.items() if method.deepspeed)
NO_ENGINE = tuple(name for name, method in METHODS.items() if not method.by_gradient)  # outside of Trainer


def check_world(use_cpu: bool) -> int:
    """Return the number of processes. Raises `TrainingError` when it is not the number asked for at launch.

    `accelerate launch --cpu --num_processes 2` silently runs one process, and a multi_gpu or FSDP config on a machine
    without GPU silently starts independent ones, each of which would believe that it is alone.
    """
    accelerator = Accelerator(cpu=use_cpu)
    actual = accelerator.num_processes
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    kind = str(accelerator.distributed_type).rpartition(".")[2]
    if asked > 1 and actual != asked:
        hint = "" if torch.cuda.is_available() else " This machine has no GPU: set ACCELERATE_USE_CPU=true."
        raise TrainingError(f"{asked} processes were launched, but each runs on its own ({kind}).{hint}")
    launched, wanted = _asked_of_accelerate()
    if launched > 1 and actual == 1:
        raise TrainingError(
            f"accelerate launch was asked for {launched} processes but started 1, as it does for CPU configs. Use "
            f"`torchrun --nproc_per_node {launched} -m hftl train ...`, or ACCELERATE_USE_CPU=true accelerate launch "
            f"--multi_gpu --num_processes {launched}."
        )
    on_purpose = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if wanted == "MULTI_GPU" and kind == "MULTI_CPU" and not on_purpose:
        raise TrainingError(
            "accelerate launch was asked for several GPUs, but there is none here. To train on the CPU with "
            f"{asked} processes, set ACCELERATE_USE_CPU=true."
        )
    for flag, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DEEPSPEED")):
        if os.environ.get(flag, "").lower() == "true" and kind != name:
            raise TrainingError(f"The launch config asks for {name}, but what runs is {kind}: it needs GPUs.")
    if actual > 1:
        atexit.register(_leave)
    return actual


def _leave() -> None:
    """End the process group before Python ends: else its threads may abort a process whose run succeeded."""
    if _together():
        torch.distributed.destroy_process_group()


def _asked_of_accelerate() -> tuple[int, str]:
    """Return the number of processes and the kind that an `accelerate launch` above was asked for, else (1, "")."""
    words = next((words for words in _commands_above() if _is_launch(words)), None)
    if words is None:
        return 1, ""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    args, _ = launch_command_parser().parse_known_args(words[words.index("launch") + 1 :])
    config = load_config_from_file(args.config_file) if args.config_file else None
    processes = args.num_processes or (config.num_processes if config else 1)
    kind = "MULTI_GPU" if args.multi_gpu else str(config.distributed_type).rpartition(".")[2] if config else ""
    return processes, kind


def _commands_above() -> list[list[str]]:
    """The command lines of the ancestors, nearest first: srun, nohup or a shell may come between."""
    commands = []
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):  # of another user, or gone
            commands.append(process.cmdline())
    return commands


def _is_launch(words: list[str]) -> bool:
    return "launch" in words and any("accelerate" in word for word in words[: words.index("launch")])


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_main_process() -> bool:
    """True on rank 0, before and after torch.distributed is up."""
    if _together():
        return torch.distributed.get_rank() == 0
    return int(os.environ.get("RANK", "0")) == 0


def is_local_main_process() -> bool:
    """True on one process per machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def wait_for_all() -> None:
    """Barrier over all processes; nothing when there is one."""
    if _together():
        torch.distributed.barrier()


def broadcast_from_main(value: Any) -> Any:
    """Return rank 0's `value` on every process."""
    if not _together():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def take_from_main(tensors: Iterable[torch.Tensor]) -> None:
    """Give every process rank 0's values of these tensors, in place."""
    for tensor in tensors if _together() else ():
        torch.distributed.broadcast(tensor, src=0)


def local_world() -> tuple[int, int]:
    """Return this process's number on its machine, and how many processes the machine has."""
    return int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def one_machine() -> bool:
    """True when all processes of the run share this machine's disk."""
    return int(os.environ.get("WORLD_SIZE", "1")) == local_world()[1]


def from_every_process(value: Any, group: Any = None) -> list[Any]:
    """Return every process's `value`, in order of rank, on all of them; by `group`, or the default one."""
    if not _together():
        return [value]
    box: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(box, value, group=group)
    return box


def on_the_cpu() -> Any:
    """A group in which the processes agree between steps without waiting for their GPUs; None for one process."""
    return torch.distributed.new_group(backend="gloo") if len(from_every_process(None)) > 1 else None


def largest(value: int, group: Any) -> int:
    """The largest `value` of all processes; this process's own without a group."""
    if group is None:
        return value
    number = torch.tensor(value)
    torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX, group=group)
    return int(number)


def current_strategy() -> tuple[str, int | None, int | None]:
    """Return kind, ZeRO stage and FSDP version of this process, as `check_strategy` takes them.

    An `Accelerator` must have been made before, as `check_world` does.
    """
    state = AcceleratorState()
    kind = str(state.distributed_type).rpartition(".")[2]
    zero_stage = state.deepspeed_plugin.zero_stage if kind == "DEEPSPEED" else None
    fsdp_version = state.fsdp_plugin.fsdp_version if kind == "FSDP" else None
    return kind, zero_stage, fsdp_version


def check_strategy(
    method_name: str,
    kind: str,
    zero_stage: int | None,
    fsdp_version: int | None,
    *,
    half: bool = False,
    seeds: int = 1,
) -> None:
    """Raise `TrainingError`, with cause and fix in one line, when the method cannot be right under the strategy.

    `kind` is the name of an accelerate DistributedType; `half` says that training runs in bf16 or fp16; `seeds` how
    many trainings follow each other in the process.
    """
    if kind in WHOLE_WEIGHTS:
        return
    method, trains = f"--method {method_name}", method_name not in NO_ENGINE
    if kind == "FSDP":
        cause = (
            "reads whole weights after training, where FSDP leaves shards"
            if trains
            else "trains outside of Trainer, on whole weights, so that there is nothing to shard"
        )
        raise TrainingError(
            f"{method} {cause}: it cannot run under FSDP{fsdp_version or ''}. Use accelerate_configs/multi_gpu.yaml, "
            "or, where AdamW's states do not fit, deepspeed_zero2.yaml."
        )
    if kind != "DEEPSPEED":
        raise TrainingError(
            f"hftl has not been made for {kind}. Use accelerate_configs/single_gpu.yaml, multi_gpu.yaml or cpu.yaml."
        )
    if zero_stage not in (0, 1, 2):
        stage = "an unknown ZeRO stage" if zero_stage is None else f"ZeRO-{zero_stage}"
        raise TrainingError(
            f"{method} reads and writes whole weights, of which {stage} leaves shards. "
            "Use accelerate_configs/deepspeed_zero2.yaml or multi_gpu.yaml."
        )
    if trains and method_name not in ONE_ENGINE:
        raise TrainingError(
            f"{method} is not among those that may train under DeepSpeed ({', '.join(ONE_ENGINE)}): each takes one "
            "engine and no more. Use accelerate_configs/multi_gpu.yaml."
        )
    if trains and half:
        raise TrainingError(
            "Under bf16 and fp16 DeepSpeed casts the weights themselves, and hftl's are fp32. "
            "Add --bf16 false (and leave --fp16 out), or use accelerate_configs/multi_gpu.yaml."
        )
    if trains and seeds > 1:
        raise TrainingError(
            "--seeds trains several times in one process, and a DeepSpeed engine is not known to end cleanly before "
            "the next. Start one run per --seed, or use accelerate_configs/multi_gpu.yaml."
        )
