"""The report of `hftl plan`: the first half of a run, a few measured steps, and nothing trained or written."""

import os
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from hftl.config import RunConfig
from hftl.data.splits import Splits, sample
from hftl.errors import ConfigError
from hftl.evaluation.logistic import choose_penalty, fit_logistic
from hftl.evaluation.verdict import Comparison
from hftl.evidence.ladder import compare
from hftl.methods import check_combination, check_method, get_method
from hftl.methods.plan import Plan, Stage, full_defaults, is_convnet
from hftl.models.heads import without_bias
from hftl.models.layers import is_under
from hftl.planning.costs import (
    FeatureCost,
    StageCost,
    are_cached,
    choose_cache,
    comparison_features,
    look_at_machine,
    stage_costs,
    time_features,
)
from hftl.planning.estimate import memory, seconds, would_fit
from hftl.planning.recommend import Facts, recommend
from hftl.prepare import Prepared, prepare
from hftl.probing import head_pooling, mean_pooled
from hftl.tasks import get_task
from hftl.training.arguments import check_arguments, check_fits
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.world import check_strategy, check_world, current_strategy


FIT_VALUES = 1_000_000  # rows x classes that the probe is fitted on for its timing: two seconds
# Forward passes that a step of all layers costs: the backward one counts twice (Kaplan et al. 2020, 2.1).
FULL_STEP = 3


def plan_report(config: RunConfig) -> dict[str, Any]:
    """Return what `hftl plan --json` prints, as plain values.

    Only features are kept, in the usual cache. Raises the `HftlError` that `hftl train` would raise before training.
    """
    check_combination(config)
    _check_one_process(config)
    check_arguments(config, get_task(config.task).output)
    machine = look_at_machine(runs_on_cpu(config.training))
    ready = prepare(config)
    check_fits(config, ready.loaded.model, len(ready.train))
    check_method(config.method, ready.loaded)
    convnet = is_convnet(ready.loaded.model)
    full_epochs = full_defaults(ready.loaded, config.method)[1]["num_train_epochs"]
    cost = time_features(ready)
    rows, features = comparison_features(ready, cost, are_cached(ready)["train"])
    cached = are_cached(ready)  # as a run would find it now
    pooling, regression = _first_probe(ready, rows, features)
    compared = compare(ready, rows, features)

    loaded = mean_pooled(ready.loaded, ready.splits.labels) if pooling == "mean" else ready.loaded
    body = [*loaded.model.parameters()], [*loaded.model.buffers()]  # before a method wraps it
    plan = get_method(str(config.method.method))(loaded, config.method, len(ready.train))
    cache = choose_cache(ready, plan)
    costs = stage_costs(ready, plan, cache)
    needed = memory(ready, plan, costs, cache.size, cost, machine)
    times = seconds(ready, costs, cache.passes, cost, cached, regression)
    counts = np.bincount(ready.train.labels)
    facts = Facts(
        rows_per_class=float(np.median(counts[counts > 0])),
        gap=compared.gap if compared else None,
        baseline=compared.baseline if compared else "",
        full_seconds=_full_seconds(ready, cost, times, full_epochs),
        full_fits=would_fit(*body, needed),
        convnet=convnet,
    )
    parameters = sum(p.numel() for p in body[0])
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
        "data": _describe_data(ready.splits),
        **ready.task.inputs.describe(
            ready.splits, ready.loaded.processor, [ready.train.lengths, ready.validation.lengths], ready.cut
        ),
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
    no_bias = without_bias(ready.loaded.model, ready.loaded.output)
    start = time.perf_counter()
    choice = choose_penalty(features, labels, head_pooling(config), config.train_seed, ready.weights, no_bias)
    middle = time.perf_counter()
    some = sample(labels, classes, max(FIT_VALUES // classes, classes), config.train_seed, every_class=True)
    read, bias = features[choice.pooling][some], choice.pooling not in no_bias
    fit_logistic(read, labels[some], classes, choice.C, ready.weights, intercept=bias)
    fit = (time.perf_counter() - middle) * len(ready.train) / len(some)
    return choice.pooling, middle - start + fit


def _describe_data(splits: Splits) -> dict[str, Any]:
    """Rows and origin of each split, and the labels with their number of training rows."""
    counts = np.bincount(np.asarray(splits.train["label"][:]), minlength=len(splits.labels))
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


def _full_seconds(ready: Prepared, cost: FeatureCost, times: dict[str, Any], epochs: float) -> float:
    """Fine-tuning of every layer: as measured where that is the plan, else from the forward pass."""
    method, measured = ready.config.method, times["stages"][-1]["train_seconds"]
    whole = method.method == "full" and method.train_top is None and not (method.train_norms or method.train_bias)
    if whole and measured is not None:
        return float(measured)
    return FULL_STEP * float(ready.config.training.get("num_train_epochs", epochs)) * cost.seconds(ready.train)


def _recommendation(facts: Facts, compared: Comparison | None) -> dict[str, Any]:
    figures = asdict(compared) if compared else None
    if figures:
        figures["difference"] = figures.pop("gap")
    return {
        **asdict(recommend(facts)),
        "rows_per_class": facts.rows_per_class,
        "comparison": figures,
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
