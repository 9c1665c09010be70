"""The report of `hftl plan`: the first half of a run, a few measured steps, and nothing trained or written."""

import os
import time
from typing import Any

import numpy as np

from hftl.config import RunConfig
from hftl.data.splits import sample
from hftl.errors import ConfigError
from hftl.evaluation.verdict import Comparison
from hftl.evidence.ladder import compare
from hftl.methods import check_combination, check_method, get_method
from hftl.methods.plan import Plan, full_defaults, is_convnet
from hftl.models.heads import without_bias
from hftl.planning.describe import describe_data, learns
from hftl.planning.estimate import ADAMW_BYTES, GRADIENT_BYTES, learning_parameters, memory, seconds, weight_bytes
from hftl.planning.features import FeatureCost, are_cached, comparison_features, time_features
from hftl.planning.machine import look_at_machine
from hftl.planning.recommend import Facts, recommend
from hftl.planning.stage_costs import StageCost, choose_cache, stage_costs
from hftl.prepare import Prepared, prepare
from hftl.training.logistic import choose_penalty, fit_logistic
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.probing import head_pooling, mean_pooled
from hftl.training.world import check_strategy, check_world, current_strategy


FIT_VALUES = 1_000_000  # rows x classes that the probe is fitted on for its timing: two seconds
FULL_STEP = (
    3  # forward passes that a step of all layers costs: the backward one counts twice (Kaplan et al. 2020, 2.1)
)


def plan_report(config: RunConfig) -> dict[str, Any]:
    """Return what `hftl plan --json` prints, as plain values.

    Only features are kept, in the usual cache. Raises the `HftlError` that `hftl train` would raise before training.
    """
    check_combination(config)
    _check_one_process(config)
    machine = look_at_machine(runs_on_cpu(config.training))
    ready = prepare(config)
    check_method(config.method, ready.loaded)
    convnet, full_epochs = (
        is_convnet(ready.loaded.model),
        full_defaults(ready.loaded, config.method)[1]["num_train_epochs"],
    )
    cost = time_features(ready)
    rows, features = comparison_features(ready, cost, are_cached(ready)["train"])
    cached = are_cached(ready)  # as a run would find it now
    pooling, regression = _first_probe(ready, rows, features)
    compared = compare(ready, rows, features)

    loaded = mean_pooled(ready.loaded, ready.splits.labels) if pooling == "mean" else ready.loaded
    body = weight_bytes(loaded.model)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    plan = get_method(str(config.method.method))(loaded, config.method, len(ready.train))
    cache = choose_cache(ready, plan, machine["disk_free_bytes"])
    costs = stage_costs(ready, plan, cache, pooling)
    needed = memory(ready, plan, costs, cache, cost, machine)
    times = seconds(ready, costs, cache, cost, cached, regression)
    facts = Facts(
        rows_per_class=_rows_per_class(ready),
        gap=compared.gap if compared else None,
        baseline=compared.baseline if compared else "",
        full_seconds=_full_seconds(ready, cost, costs, times, full_epochs),
        full_fits=_full_fits(body, parameters, needed),
        convnet=convnet,
    )
    return {
        "task": config.task,
        "method": config.method.method,
        "model": _model(ready, parameters),
        "data": describe_data(ready.splits),
        **_inputs(ready),
        "stages": [_stage(ready, plan, c) for c in costs],
        "memory": needed,
        "time": times,
        "recommendation": _recommendation(facts, compared),
        "notes": [*ready.splits.warnings, *ready.notes, *([cache.note] if cache.note else []), *_notes(costs)],
    }


def _first_probe(ready: Prepared, rows: np.ndarray, features: dict[str, np.ndarray]) -> tuple[str, float]:
    """Return the pooling that the run would choose, and an estimate of the seconds of its regression.

    The choice looks at the same rows in the run; the fit is timed on few enough of them, and grows with the rows.
    """
    labels, classes, config = ready.train.labels[rows], len(ready.splits.labels), ready.config
    pooling, no_bias = head_pooling(config), without_bias(ready.loaded.model, ready.loaded.output)
    start = time.perf_counter()
    choice = choose_penalty(features, labels, pooling, config.train_seed, ready.weights, no_bias)
    chosen = time.perf_counter()
    some = sample(labels, classes, max(FIT_VALUES // classes, classes), config.train_seed, every_class=True)
    fit_logistic(
        features[choice.pooling][some], labels[some], classes, choice.C, ready.weights,
        intercept=choice.pooling not in no_bias,
    )  # fmt: skip
    fit = (time.perf_counter() - chosen) * len(ready.train) / len(some)
    return choice.pooling, chosen - start + fit


def _model(ready: Prepared, parameters: int) -> dict[str, Any]:
    loaded = ready.loaded
    return {
        "name": loaded.name,
        "source": loaded.source,
        "revision": loaded.revision,
        "architecture": type(loaded.model).__name__,
        "parameters": parameters,
    }


def _inputs(ready: Prepared) -> dict[str, Any]:
    lengths = [ready.train.lengths, ready.validation.lengths]
    facts: dict[str, Any] = ready.task.inputs.describe(ready.splits, ready.loaded.processor, lengths, ready.cut)
    return facts


def _stage(ready: Prepared, plan: Plan, cost: StageCost) -> dict[str, Any]:
    count = learning_parameters(plan, cost)
    args = cost.args
    return {
        "name": cost.stage.name,
        "learns": learns(plan, cost.stage),
        "trainable_parameters": count,
        "share": count / sum(p.numel() for p in plan.model.parameters()),
        "learning_rates": {g.name: args.learning_rate * g.rate for g in cost.stage.groups} if args else {},
        "epochs": cost.epochs,
        "steps": cost.steps,
        "rows": len(ready.train),
        "device_batch": args.train_batch_size if args else 0,
        "accumulation": args.gradient_accumulation_steps if args else 0,
        "processes": 1,
        "reads": cost.reads,
    }


def _rows_per_class(ready: Prepared) -> float:
    counts = np.bincount(ready.train.labels)
    return float(np.median(counts[counts > 0]))


def _full_seconds(
    ready: Prepared, cost: FeatureCost, costs: list[StageCost], times: dict[str, Any], epochs: float
) -> float:
    """Fine-tuning of every layer: as measured where that is the plan, else from the forward pass."""
    method = ready.config.method
    whole = method.method == "full" and method.train_top is None and not (method.train_norms or method.train_bias)
    measured = times["stages"][-1]["train_seconds"]
    if whole and measured is not None:
        return float(measured)
    epochs = ready.config.training.get("num_train_epochs", epochs)
    return FULL_STEP * float(epochs) * cost.seconds(ready.train)


def _full_fits(weights: int, parameters: int, needed: dict[str, Any]) -> bool | None:
    """Would all layers fit? Their activations are at least those of this plan's stages."""
    machine = needed["machine"]
    free = machine["gpu"]["free_bytes"] if machine["gpu"] else machine["memory_free_bytes"]
    activations = needed["activations_bytes"]
    per_row = activations["longest"] / max(needed["batch_rows"], 1) if activations else 0  # a batch can be cut up
    return weights + (GRADIENT_BYTES + ADAMW_BYTES) * parameters + per_row <= free


def _recommendation(facts: Facts, compared: Comparison | None) -> dict[str, Any]:
    chosen = recommend(facts)
    return {
        "method": chosen.method,
        "reason": chosen.reason,
        "rows_per_class": facts.rows_per_class,
        "comparison": None
        if compared is None
        else {
            "rows": compared.rows,
            "probe_accuracy": compared.probe_accuracy,
            "baseline": compared.baseline,
            "baseline_accuracy": compared.baseline_accuracy,
            "difference": {"value": compared.gap.value, "low": compared.gap.low, "high": compared.gap.high},
        },
        "full_seconds": facts.full_seconds,
        "full_fits": facts.full_fits,
    }


def _notes(costs: list[StageCost]) -> list[str]:
    """What the figures leave out."""
    args = [c.args for c in costs if c.args is not None]
    notes = []
    if any(a.gradient_checkpointing for a in args):
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
