"""The report of `hftl plan`: half of a run, a few measured steps, nothing trained or written."""

import copy
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hftl.config import RunConfig, check_score
from hftl.errors import ConfigError
from hftl.evaluation.verdict import Comparison
from hftl.evidence.ladder import compare
from hftl.methods import check_combination, check_method, get_method, policy
from hftl.methods.auto import AUTO
from hftl.methods.plan import Plan, Stage
from hftl.models.classes import own_class_note
from hftl.models.heads import without_bias
from hftl.models.layers import is_under
from hftl.planning.costs import (
    ADAMW_BYTES,
    GRADIENT_BYTES,
    FeatureCost,
    Measured,
    StageCost,
    choose_cache,
    comparison_features,
    free_memory,
    look_at_machine,
    seconds,
    stage_costs,
    time_features,
)
from hftl.prepare import Prepared, prepare
from hftl.probing import head_pooling, under_probe
from hftl.selection.race_plan import plan_race
from hftl.selection.race_policy import race_seconds, rungs_of
from hftl.tasks import get_task
from hftl.training.arguments import check_arguments, check_fits, smaller_batch
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.world import check_strategy, check_world, current_strategy


@dataclass(frozen=True, eq=False)
class Basis:
    """What the plans of all methods on the same data and model rest on, measured once."""

    ready: Prepared
    machine: dict[str, Any]
    cost: FeatureCost
    pooling: str
    regression: float  # seconds
    compared: Comparison | None


def measure(config: RunConfig) -> Basis:
    """Load data and model, time the features, and compare the probe with the baselines. Raises as `plan_report` does."""
    check_combination(config)
    _check_one_process(config)
    check_arguments(config, get_task(config.task).output)
    machine = look_at_machine(runs_on_cpu(config.training))
    ready = prepare(config)
    check_fits(config, ready.loaded.model, len(ready.train))
    check_score(config.training, ready.task.output.scores)
    check_method(config.method, ready.loaded)
    cost = time_features(ready)
    rows, features = comparison_features(ready, cost)
    return Basis(ready, machine, cost, *_first_probe(ready, rows, features), compare(ready, rows, features))


def plan_report(config: RunConfig) -> dict[str, Any]:
    """Return what `hftl plan --json` prints, as plain values.

    Only features are kept, in the usual cache. Raises the `HftlError` that `hftl train` would raise before training.
    """
    basis = measure(config)
    return report_on(basis, basis.ready)


def report_for(basis: Basis, method: str) -> dict[str, Any]:
    """Return the report of another method on the same basis. Raises `ConfigError` where the model cannot follow it."""
    ready = basis.ready
    config = replace(ready.config, method=replace(ready.config.method, method=method))
    check_combination(config)
    check_method(config.method, ready.loaded)
    return report_on(basis, replace(ready, config=config, loaded=copy.deepcopy(ready.loaded)))


def report_on(basis: Basis, ready: Prepared) -> dict[str, Any]:
    """Return the report of the run that is `ready`."""
    config, machine, cost, compared = ready.config, basis.machine, basis.cost, basis.compared
    pooling, regression = basis.pooling, basis.regression
    loaded = under_probe(ready, ready.loaded, pooling)
    parameters = sum(p.numel() for p in loaded.model.parameters())  # before a method wraps it
    plan = get_method(str(config.method.method))(loaded, config.method, len(ready.train))
    cache = choose_cache(ready, plan)
    costs = stage_costs(ready, plan, cache)
    kept = cost.row_bytes * (ready.train.count + ready.validation.count)
    needed = {**_memory(plan, costs, machine), "cache": {"features_bytes": kept, "states_bytes": cache.size}}
    times = seconds(ready, costs, cache, cost, regression)
    race = _race(ready, times) if config.method.method == AUTO.name else None
    facts = policy.Facts(
        rows_per_class=ready.rows_per_name,
        gap=compared.gap if compared else None,
        baseline=compared.baseline if compared else "",
        full_seconds=_full_seconds(ready, cost, times),
        full_fits=_would_fit(parameters, needed),
        width=policy.width_of(ready.loaded),
        scale=ready.task.output.written(),
        per=ready.task.output.words["per"],
    )
    return {
        "task": config.task,
        "method": config.method.method,
        "model": {
            "name": loaded.name,
            "source": loaded.source,
            "revision": loaded.revision,
            "architecture": type(loaded.model).__name__,
            "parameters": parameters,
        },
        "data": _describe_data(ready),
        **ready.task.inputs.describe(
            ready.splits, ready.loaded.processor, [ready.train.lengths, ready.validation.lengths], ready.cut
        ),
        "stages": [_stage(ready, plan, c) for c in costs],
        "memory": needed,
        "time": times,
        "race": race,
        "recommendation": _recommendation(facts, compared),
        "notes": [
            *ready.splits.warnings,
            *ready.notes,
            *own_class_note(loaded.model if race is None else ready.loaded.model),  # a race may end in either
            *([cache.note] if cache.note else []),
            *_notes(costs),
        ],
    }


def _first_probe(ready: Prepared, rows: np.ndarray, features: dict[str, np.ndarray]) -> tuple[str, float]:
    """Return the pooling that the run would choose, and an estimate of the seconds of its regression.

    The choice looks at the same rows in the run; the fit is timed on them, and grows with the rows.
    """
    known, config = (features, ready.train.targets[rows], len(ready.splits.labels)), ready.config
    no_bias = without_bias(ready.loaded.model, ready.loaded.outputs)
    probe = ready.task.output.probe(*known, head_pooling(config), config.train_seed, ready.weights, no_bias)
    return probe.pooling, probe.seconds + probe.fit_seconds * (len(ready.train.targets) / len(rows) - 1)


def _race(ready: Prepared, times: dict[str, Any]) -> dict[str, Any]:
    """Return the race that the run would begin; its time is added to `times`."""
    race = asdict(plan_race(ready))
    times["race_seconds"] = race_seconds(costs := list(race["seconds"].values()), rungs_of(costs, race["budget"]))
    times["total_seconds"] += times["race_seconds"]
    return race


def _describe_data(ready: Prepared) -> dict[str, Any]:
    """Rows and origin of each split, and the labels with their number of training rows."""
    splits = ready.splits
    counts = ready.task.output.counts(ready.train.targets, splits.labels)
    return {
        "name": splits.name,
        "rows": {part: len(getattr(splits, part)) for part in ("train", "validation", "test")},
        "origins": splits.origins,
        "labels": [{"id": i, "label": label, "train_rows": int(counts[i])} for i, label in enumerate(splits.labels)],
        "skipped": list(splits.skipped),
    }


def _stage(ready: Prepared, plan: Plan, cost: StageCost) -> dict[str, Any]:
    args = cost.args
    return {
        "name": cost.stage.name,
        "learns": learns(plan, cost.stage),
        "trainable_parameters": cost.learning,
        "share": cost.learning / sum(p.numel() for p in plan.model.parameters()),
        "learning_rates": {g.name: args.learning_rate * g.rate for g in cost.stage.groups} if args else {},
        "epochs": cost.epochs,
        "steps": cost.steps,
        "rows": len(ready.train),
        "device_batch": args.train_batch_size if args else 0,
        "accumulation": args.gradient_accumulation_steps if args else 0,
        "processes": 1,
        "reads": cost.reads,
    }


def learns(plan: Plan, stage: Stage) -> str:
    """Say in words what learns in `stage`: "the top 2 of 6 blocks and the head"."""
    layers = plan.layers
    n = len(layers.modules)
    names = [name.removeprefix(plan.path) for name in stage.trainable]
    body = [name for name in names if not is_under(name, layers.above)]
    inside = [i for i, module in enumerate(layers.modules) if any(is_under(name, (module,)) for name in body)]
    parts = ["the stem"] if any(not is_under(name, layers.modules) for name in body) else []
    if len(inside) == n > 0:
        parts.append(f"all {n} blocks")
    elif inside and inside == list(range(n - len(inside), n)):
        parts.append(f"the top {len(inside)} of {n} blocks")
    elif inside:
        parts.append(f"blocks {', '.join(str(i + 1) for i in inside)} of {n}")
    if not parts:
        return "the head"
    where = " and ".join(parts)
    if any(group.name == "adapters" for group in stage.groups):
        return f"adapters in {where}, and the head"
    if stage.name in ("norms", "biases", "norms and biases"):
        return f"the {stage.name} of {where}, and the head"
    return f"{', '.join(parts)} and the head"


def _full_seconds(ready: Prepared, cost: FeatureCost, times: dict[str, Any]) -> float:
    """Fine-tuning of every layer: as measured where that is the plan, else from the forward pass."""
    method, measured = ready.config.method, times["stages"][-1]["train_seconds"]
    whole = method.method == "full" and method.train_top is None and not (method.train_norms or method.train_bias)
    if whole and measured is not None:
        return float(measured)
    return policy.full_seconds(ready.loaded, ready.config, len(ready.train), cost.seconds(ready.train))


def _recommendation(facts: policy.Facts, compared: Comparison | None) -> dict[str, Any]:
    figures = asdict(compared) if compared else None
    if figures:
        figures["difference"] = figures.pop("gap")
    return {
        **asdict(policy.recommend(facts)),
        "rows_per_class": facts.rows_per_class,
        "comparison": figures,
        "score": facts.scale.name,
        "full_seconds": facts.full_seconds,
        "full_fits": facts.full_fits,
    }


def _notes(costs: list[StageCost]) -> list[str]:
    """What the figures leave out."""
    notes = []
    if any(c.args is not None and c.args.gradient_checkpointing for c in costs):
        notes.append("--gradient_checkpointing: the activations and seconds shown are those without it.")
    if any(c.args is not None and c.measured is None for c in costs):
        notes.append("Steps were not timed: the weights, gradients and one row do not fit in the free memory.")
    return notes


def _check_one_process(config: RunConfig) -> None:
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked > 1 or check_world(runs_on_cpu(config.training)) > 1:
        raise ConfigError(
            f"hftl plan runs in one process, not in {asked}: start it without torchrun or accelerate launch."
        )
    check_strategy(str(config.method.method), *current_strategy(), half=choose_bf16(config.training))


def _memory(plan: Plan, costs: list[StageCost], machine: dict[str, Any]) -> dict[str, Any]:
    """Estimate what the hungriest stage holds at once, beside what the machine has."""
    weights = sum(t.numel() * t.element_size() for t in (*plan.model.parameters(), *plan.model.buffers()))
    stages = [_stage_memory(cost, weights, on_gpu=machine["gpu"] is not None) for cost in costs]
    # A stage that could not be run at all is the one to talk about.
    worst = max(stages, key=lambda s: (s["activations_bytes"] is None, s["total_bytes"]))
    free = free_memory(machine)
    fits = worst["activations_bytes"] is not None and worst["total_bytes"] <= free
    return {**worst, "machine": machine, "fits": fits, "fix": "" if fits else _make_it_fit(worst, free)}


def _would_fit(parameters: int, needed: dict[str, Any]) -> bool:
    """Would all layers fit? Their activations are at least those of this plan's stages, which `_memory` returned."""
    activations = needed["activations_bytes"]
    per_row = activations["longest"] / max(needed["batch_rows"], 1) if activations else 0  # a batch can be cut up
    total = needed["weights_bytes"] + (GRADIENT_BYTES + ADAMW_BYTES) * parameters + per_row
    return bool(total <= free_memory(needed["machine"]))


def _stage_memory(cost: StageCost, weights: int, *, on_gpu: bool) -> dict[str, Any]:
    args = cost.args
    seen = cost.measured or Measured(optimizer_bytes=ADAMW_BYTES * cost.learning)
    gradients, copy = (GRADIENT_BYTES * cost.learning, weights) if args else (0, 0)
    activations = {"typical": seen.typical_bytes, "longest": seen.longest_bytes}
    held = weights + gradients + seen.optimizer_bytes + seen.longest_bytes
    return {
        "stage": cost.stage.name,
        "weights_bytes": weights,
        "restart_copy_bytes": copy,  # where a stage starts again after out-of-memory: in the machine's memory
        "gradients_bytes": gradients,
        "optimizer": str(getattr(args.optim, "value", args.optim)) if args else "none",
        "optimizer_bytes": seen.optimizer_bytes,
        "activations_bytes": activations if cost.measured else None,
        "batch_rows": args.train_batch_size if args else 0,
        "accumulation": args.gradient_accumulation_steps if args else 1,
        "measured_rows": seen.rows,
        "total_bytes": held + (0 if on_gpu else copy),
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
