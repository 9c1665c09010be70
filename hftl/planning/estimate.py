"""Memory and time of a run, from what was measured of its stages."""

from typing import Any

import torch

from hftl.methods.plan import Plan
from hftl.planning.features import FeatureCost
from hftl.planning.stage_costs import StageCost, StateChoice
from hftl.prepare import Prepared
from hftl.training.arguments import smaller_batch
from hftl.training.probing import shares_pass


ADAMW_BYTES = 8  # two fp32 moments per learning parameter
GRADIENT_BYTES = 4
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_apex_fused")  # whose states are those
NO_GRADIENT = {"typical": 0, "longest": 0}


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


def optimizer_bytes(args: Any, learning: int) -> int | None:
    """Bytes of the optimizer's states, None for an optimizer other than AdamW."""
    name = str(getattr(args.optim, "value", args.optim))
    return ADAMW_BYTES * learning if name in ADAMW else None


def learning_parameters(plan: Plan, cost: StageCost) -> int:
    """Number of parameters that learn in the stage."""
    sizes = {name: p.numel() for name, p in plan.model.named_parameters()}
    return sum(sizes[name] for name in cost.stage.trainable)


def memory(
    ready: Prepared, plan: Plan, costs: list[StageCost], cache: StateChoice, features: FeatureCost,
    machine: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Estimate what the hungriest stage holds at once, beside what the machine has."""
    stages = [_stage_memory(plan, cost) for cost in costs if cost.args is not None]
    if not stages:
        stages = [_closed_form(plan)]
    # A stage that could not be run at all is the one to talk about.
    worst = max(stages, key=lambda s: (s["activations_bytes"] is None, s["total_bytes"]))
    on_gpu = machine["gpu"] is not None
    free = machine["gpu"]["free_bytes"] if on_gpu else machine["memory_free_bytes"]
    needed = worst["total_bytes"] + (0 if on_gpu else worst["restart_copy_bytes"])
    fits = False if worst["activations_bytes"] is None else needed <= free
    if fits and worst["optimizer_bytes"] is None:
        fits = None  # unknown
    rows = len(ready.train) + len(ready.validation)
    return {
        **worst,
        "total_bytes": needed,
        "cache": {"features_bytes": features.row_bytes * rows, "states_bytes": cache.size},
        "machine": machine,
        "fits": fits,
        "mend": "" if fits is not False else _mend(worst, needed, free),
    }


def _closed_form(plan: Plan) -> dict[str, Any]:
    weights = weight_bytes(plan.model)
    return {
        "stage": plan.stages[0].name, "weights_bytes": weights, "restart_copy_bytes": 0, "gradients_bytes": 0,
        "optimizer": "none", "optimizer_bytes": 0, "activations_bytes": dict(NO_GRADIENT), "batch_rows": 0,
        "accumulation": 1, "measured_rows": 0, "total_bytes": weights,
    }  # fmt: skip


def _stage_memory(plan: Plan, cost: StageCost) -> dict[str, Any]:
    assert cost.args is not None
    weights, learning, seen = weight_bytes(plan.model), learning_parameters(plan, cost), cost.measured
    states = optimizer_bytes(cost.args, learning)
    activations = None if seen is None else {"typical": seen.typical_bytes, "longest": seen.longest_bytes}
    known = [weights, GRADIENT_BYTES * learning, states or 0, activations["longest"] if activations else 0]
    return {
        "stage": cost.stage.name,
        "weights_bytes": weights,
        "restart_copy_bytes": weights,  # in the machine's memory: where a stage starts again after out-of-memory
        "gradients_bytes": GRADIENT_BYTES * learning,
        "optimizer": str(getattr(cost.args.optim, "value", cost.args.optim)),
        "optimizer_bytes": states,
        "activations_bytes": activations,
        "batch_rows": cost.args.train_batch_size,
        "accumulation": cost.args.gradient_accumulation_steps,
        "measured_rows": 0 if seen is None else seen.rows,
        "total_bytes": sum(known),
    }


def _mend(worst: dict[str, Any], needed: int, free: int) -> str:
    """What to change so that it fits: a smaller batch where that is enough, else fewer learning weights."""
    activations = worst["activations_bytes"]
    size, steps = worst["batch_rows"], worst["accumulation"]
    if activations is not None and size:
        per_row, fixed = activations["longest"] / size, needed - activations["longest"]
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
    ready: Prepared, costs: list[StageCost], cache: StateChoice, features: FeatureCost, cached: dict[str, bool],
    regression: float,
) -> dict[str, Any]:  # fmt: skip
    """Estimate the run's time by its parts. None in a part that could not be measured makes the total None."""
    extraction = sum(
        0.0 if cached[part] else features.seconds(rows)
        for part, rows in (("train", ready.train), ("validation", ready.validation))
    )
    stages = [_stage_seconds(ready, cost) for cost in costs]
    states = _states_seconds(ready, cache, features, cached)
    per_row = features.seconds(ready.train) / len(ready.train)
    final = per_row * (len(ready.splits.test) + len(ready.validation))
    parts = [regression, states, final, *(s[key] for s in stages for key in ("train_seconds", "evaluation_seconds"))]
    known = all(part is not None for part in parts)
    total = extraction + ready.config.seeds * sum(parts) if known else None  # features serve all seeds
    return {
        "note": "Estimates from a few timed batches on this machine as busy as it is now; early stopping may end sooner.",
        "features": {part: "cached" if found else "to compute" for part, found in cached.items()},
        "features_seconds": extraction,
        "regression_seconds": regression,
        "states_seconds": states,
        "stages": stages,
        "prediction_seconds": final,
        "seeds": ready.config.seeds,
        "total_seconds": total,
    }


def _states_seconds(ready: Prepared, cache: StateChoice, features: FeatureCost, cached: dict[str, bool]) -> float:
    """Passes over frozen layers beside those that extract the features, which store the states of plain rows."""
    if not cache.passes:
        return 0.0
    shared = {
        "train": shares_pass(ready.config) and not cached["train"] and not ready.augmented,
        "validation": shares_pass(ready.config) and not cached["validation"],
    }
    train = 0.0 if shared["train"] else cache.passes * features.seconds(ready.train)
    return train + (0.0 if shared["validation"] else features.seconds(ready.validation))


def _stage_seconds(ready: Prepared, cost: StageCost) -> dict[str, Any]:
    found: dict[str, Any] = {"name": cost.stage.name, "steps": cost.steps, "seconds_per_step": None}
    if cost.args is None:
        return {**found, "seconds_per_step": 0.0, "train_seconds": 0.0, "evaluation_seconds": 0.0}
    if cost.measured is None:
        return {**found, "train_seconds": None, "evaluation_seconds": None}
    step = cost.args.gradient_accumulation_steps * cost.measured.batch_seconds + cost.measured.update_seconds
    times = 0.0 if str(getattr(cost.args.eval_strategy, "value", "")) == "no" else max(cost.epochs, 1.0)
    return {
        **found,
        "seconds_per_step": step,
        "train_seconds": step * cost.steps,
        "evaluation_seconds": times * len(ready.validation) * cost.measured.forward_seconds,
    }
