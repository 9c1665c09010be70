"""Memory and time of a run, from what was measured of its stages."""

from collections.abc import Iterable
from typing import Any

import torch

from hftl.methods.plan import Plan
from hftl.planning.costs import ADAMW_BYTES, GRADIENT_BYTES, FeatureCost, StageCost
from hftl.prepare import Prepared
from hftl.probing import shares_pass
from hftl.training.arguments import smaller_batch


def memory(
    ready: Prepared, plan: Plan, costs: list[StageCost], states: int, features: FeatureCost, machine: dict[str, Any]
) -> dict[str, Any]:
    """Estimate what the hungriest stage holds at once, beside what the machine has; `states` are bytes on disk."""
    weights = _bytes([*plan.model.parameters(), *plan.model.buffers()])
    stages = [_stage_memory(cost, weights, on_gpu=machine["gpu"] is not None) for cost in costs]
    # A stage that could not be run at all is the one to talk about.
    worst = max(stages, key=lambda s: (s["activations_bytes"] is None, s["total_bytes"]))
    free, rows = _free(machine), len(ready.train) + len(ready.validation)
    fits = worst["activations_bytes"] is not None and worst["total_bytes"] <= free
    return {
        **worst,
        "cache": {"features_bytes": features.row_bytes * rows, "states_bytes": states},
        "machine": machine,
        "fits": fits,
        "mend": "" if fits else _make_it_fit(worst, free),
    }


def would_fit(parameters: list[torch.Tensor], buffers: list[torch.Tensor], needed: dict[str, Any]) -> bool:
    """Would all layers fit? Their activations are at least those of this plan's stages, which `memory` returned."""
    learning = sum(p.numel() for p in parameters)
    activations = needed["activations_bytes"]
    per_row = activations["longest"] / max(needed["batch_rows"], 1) if activations else 0  # a batch can be cut up
    total = _bytes([*parameters, *buffers]) + (GRADIENT_BYTES + ADAMW_BYTES) * learning + per_row
    return bool(total <= _free(needed["machine"]))


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _free(machine: dict[str, Any]) -> int:
    return int(machine["gpu"]["free_bytes"] if machine["gpu"] else machine["memory_free_bytes"])


def _stage_memory(cost: StageCost, weights: int, *, on_gpu: bool) -> dict[str, Any]:
    args, seen = cost.args, cost.measured
    gradients = GRADIENT_BYTES * cost.learning if args else 0
    moments = 0 if args is None else seen.optimizer_bytes if seen else ADAMW_BYTES * cost.learning
    copy = weights if args else 0  # where a stage starts again after out-of-memory: in the machine's memory
    longest = seen.longest_bytes if seen else 0
    unknown = args is not None and seen is None
    return {
        "stage": cost.stage.name,
        "weights_bytes": weights,
        "restart_copy_bytes": copy,
        "gradients_bytes": gradients,
        "optimizer": str(getattr(args.optim, "value", args.optim)) if args else "none",
        "optimizer_bytes": moments,
        "activations_bytes": None if unknown else {"typical": seen.typical_bytes if seen else 0, "longest": longest},
        "batch_rows": args.train_batch_size if args else 0,
        "accumulation": args.gradient_accumulation_steps if args else 1,
        "measured_rows": seen.rows if seen else 0,
        "total_bytes": weights + gradients + moments + longest + (0 if on_gpu else copy),
    }


def _make_it_fit(worst: dict[str, Any], free: int) -> str:
    """Say what to change: a smaller batch where that is enough, else fewer learning weights."""
    activations = worst["activations_bytes"]
    size, steps = worst["batch_rows"], worst["accumulation"]
    if activations is not None and size:
        per_row, fixed = activations["longest"] / size, worst["total_bytes"] - activations["longest"]
        while size > 1 and fixed + per_row * size > free:
            size, steps = smaller_batch(size, steps)
        if fixed + per_row * size <= free:
            return (
                f"Add --per_device_train_batch_size {size} --gradient_accumulation_steps {steps} (the same "
                "effective batch), or lower --max_seq_length or --image_size."
            )
    return (
        "Not even one row at a time: use --method lora, --train_top 1, --method probe, a smaller model, or a "
        "machine with more memory."
    )


def seconds(
    ready: Prepared,
    costs: list[StageCost],
    passes: int,
    features: FeatureCost,
    cached: dict[str, bool],
    regression: float,
) -> dict[str, Any]:
    """Estimate the run's time by its parts. None in a part that could not be measured makes the total None.

    `passes` over the training rows store states of frozen layers; `cached` says whose features are on disk already.
    """
    parts = {"train": ready.train, "validation": ready.validation}
    extraction = {part: 0.0 if cached[part] else features.seconds(rows) for part, rows in parts.items()}
    states = 0.0
    if passes:  # the passes that extract features store the states of plain rows beside them
        shared = shares_pass(ready.config)
        beside = {part: shared and not cached[part] and not (part == "train" and ready.augmented) for part in parts}
        states += 0.0 if beside["train"] else passes * features.seconds(ready.train)
        states += 0.0 if beside["validation"] else features.seconds(ready.validation)
    per_row = features.seconds(ready.train) / len(ready.train)
    final = per_row * (len(ready.splits.test) + len(ready.validation))
    stages = [_stage_seconds(cost, len(ready.validation)) for cost in costs]
    times = [regression, states, final, *(s[k] for s in stages for k in ("train_seconds", "evaluation_seconds"))]
    known = all(time is not None for time in times)
    return {
        "note": "Estimates from a few timed batches on this machine as busy as it is now; early stopping may end sooner.",
        "features": {part: "cached" if is_cached else "to compute" for part, is_cached in cached.items()},
        "features_seconds": sum(extraction.values()),
        "regression_seconds": regression,
        "states_seconds": states,
        "stages": stages,
        "prediction_seconds": final,
        "seeds": ready.config.seeds,
        "total_seconds": sum(extraction.values()) + ready.config.seeds * sum(times) if known else None,
    }


def _stage_seconds(cost: StageCost, validation_rows: int) -> dict[str, Any]:
    step = train = evaluation = 0.0 if cost.args is None else None
    if cost.args is not None and cost.measured is not None:
        step = cost.args.gradient_accumulation_steps * cost.measured.batch_seconds + cost.measured.update_seconds
        train = step * cost.steps
        times = 0.0 if str(getattr(cost.args.eval_strategy, "value", "")) == "no" else max(cost.epochs, 1.0)
        evaluation = times * validation_rows * cost.measured.forward_seconds
    return {
        "name": cost.stage.name,
        "steps": cost.steps,
        "seconds_per_step": step,
        "train_seconds": train,
        "evaluation_seconds": evaluation,
    }
