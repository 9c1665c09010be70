"""What each way of spreading a run over processes can do with each method; the rest is refused before training.

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

from accelerate.state import AcceleratorState

from hftl.errors import TrainingError
from hftl.methods import METHODS


WHOLE_WEIGHTS = ("NO", "MULTI_GPU", "MULTI_CPU")
ONE_ENGINE = tuple(name for name, method in METHODS.items() if method.deepspeed)
NO_ENGINE = tuple(name for name, method in METHODS.items() if not method.by_gradient)  # outside of Trainer


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
    """Raise `TrainingError`, with cause and mend in one line, when the method cannot be right under the strategy.

    `kind` is the name of an accelerate DistributedType; `half` says that training runs in bf16 or fp16; `seeds` how
    many trainings follow each other in the process.
    """
    if kind in WHOLE_WEIGHTS:
        return
    if kind == "FSDP":
        _refuse_fsdp(method_name, fsdp_version)
    elif kind == "DEEPSPEED":
        _check_deepspeed(method_name, zero_stage, half)
        if seeds > 1 and method_name not in NO_ENGINE:
            raise TrainingError(
                "--seeds trains several times in one process, and a DeepSpeed engine is not known to end cleanly before "
                "the next. Start one run per --seed, or use accelerate_configs/multi_gpu.yaml."
            )
    else:
        raise TrainingError(
            f"hftl has not been made for {kind}. Use accelerate_configs/single_gpu.yaml, multi_gpu.yaml or cpu.yaml."
        )


def _refuse_fsdp(method_name: str, fsdp_version: int | None) -> None:
    name = f"FSDP{fsdp_version or ''}"
    if method_name in NO_ENGINE:
        cause = "trains outside of Trainer, on whole weights, so that there is nothing to shard"
    else:
        cause = "reads whole weights after training, where FSDP leaves shards"
    raise TrainingError(
        f"--method {method_name} {cause}: it cannot run under {name}. Use accelerate_configs/multi_gpu.yaml, or, where "
        "AdamW's states do not fit, deepspeed_zero2.yaml."
    )


def _check_deepspeed(method_name: str, zero_stage: int | None, half: bool) -> None:
    if zero_stage not in (0, 1, 2):
        stage = "an unknown ZeRO stage" if zero_stage is None else f"ZeRO-{zero_stage}"
        raise TrainingError(
            f"--method {method_name} reads and writes whole weights, of which {stage} leaves shards. "
            "Use accelerate_configs/deepspeed_zero2.yaml or multi_gpu.yaml."
        )
    if method_name in NO_ENGINE:
        return
    if method_name not in ONE_ENGINE:
        raise TrainingError(
            f"--method {method_name} is not among those that may train under DeepSpeed "
            f"({', '.join(ONE_ENGINE)}): each takes one engine and no more. Use "
            "accelerate_configs/multi_gpu.yaml."
        )
    if half:
        raise TrainingError(
            "Under bf16 and fp16 DeepSpeed casts the weights themselves, and hftl's are fp32. "
            "Add --bf16 false (and leave --fp16 out), or use accelerate_configs/multi_gpu.yaml."
        )
