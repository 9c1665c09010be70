"""What each stage of a plan reads, how many steps it takes, and what one of them costs here."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments

from hftl.errors import TrainingError
from hftl.methods.plan import Plan, Stage
from hftl.planning.features import extract_small
from hftl.planning.machine import free_memory
from hftl.planning.measure import Measured, measure_stage, pick_batches, unchanged
from hftl.prepare import Prepared
from hftl.progress import progress
from hftl.tasks.task import Encoded
from hftl.training.arguments import stage_arguments, stage_epochs
from hftl.training.cache import SPARE, budget
from hftl.training.features import run_batches
from hftl.training.inputs import StageData, StageInputs, stage_inputs
from hftl.training.losses import make_loss
from hftl.training.replay import Anatomy, capture
from hftl.training.state_pass import state_shapes
from hftl.training.states import StateCache, StateRows, choose_states


@dataclass(frozen=True)
class StateChoice:
    """Which states of frozen layers a run would store: None where it would store none, and why."""

    anatomy: Anatomy | None
    firsts: list[int]
    passes: int  # forward passes over the training rows
    size: int  # bytes
    note: str


@dataclass(frozen=True)
class StageCost:
    """One stage: `measured` is None for a closed-form stage, and where not one row fits in memory."""

    stage: Stage
    reads: str
    epochs: float
    steps: int
    args: TrainingArguments | None
    measured: Measured | None


def choose_cache(ready: Prepared, plan: Plan, disk_free: int) -> StateChoice:
    """Decide as `hftl.training.states.store` does, and say how many bytes that takes."""
    config = ready.config.method
    parts = (ready.rows_to_train_on, ready.validation)
    epochs = [stage_epochs(plan, stage, ready.config) for stage in plan.stages]
    chosen, note = choose_states(plan, epochs, parts, ready.collate, config.cache, config.cache_views)
    if chosen is None:
        return StateChoice(None, [], 0, 0, note)
    anatomy, firsts, passes = chosen
    shapes = [state_shapes(anatomy, firsts, part, n) for part, n in zip(parts, (passes, 1), strict=True)]
    cells = sum(math.prod(shape) for part in shapes for shape in part.values())
    size = cells * (2 if ready.bf16 else 4)
    if size > budget() or size + SPARE > disk_free:
        why = f"{size / 2**30:.1f} GiB are more than the budget or the disk holds"
        if config.cache == "on":
            raise TrainingError(f"--cache on cannot be held: {why}. Use --cache auto.")
        return StateChoice(None, [], 0, 0, f"no cache of frozen layers: {why}")
    return StateChoice(anatomy, firsts, passes, size, "")


def stage_costs(ready: Prepared, plan: Plan, cache: StateChoice, pooling: str) -> list[StageCost]:
    """Count the steps of every stage, and run a few of them. The model is the same afterwards."""
    return [_cost(ready, plan, stage, cache, pooling) for stage in progress(plan.stages, "timing steps", "stage")]


def steps_per_epoch(args: TrainingArguments, rows: int) -> int:
    """Optimizer steps of an epoch, by Trainer's arithmetic."""
    size = args.train_batch_size * args.world_size
    batches = rows // size if args.dataloader_drop_last else math.ceil(rows / size)
    return max(math.ceil(batches / args.gradient_accumulation_steps), 1)


def count_steps(args: TrainingArguments, rows: int) -> int:
    """Optimizer steps of a stage."""
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch(args, rows))


def _cost(ready: Prepared, plan: Plan, stage: Stage, cache: StateChoice, pooling: str) -> StageCost:
    if stage.share is None:
        return StageCost(stage, "features", 0.0, 0, None, None)
    # A Trainer would make this folder; none is made here.
    args = stage_arguments(plan, stage, ready.config, ready.task.output.best, Path("nowhere"))
    rows = ready.rows_to_train_on
    grouped = ready.config.training.get("train_sampling_strategy", "group_by_length") == "group_by_length"
    picks = pick_batches(rows.lengths, args.train_batch_size, grouped)
    inputs = _inputs(ready, plan, stage, picks.rows, cache, pooling)
    steps = count_steps(args, len(rows))
    epochs = steps / steps_per_epoch(args, len(rows)) if args.max_steps > 0 else float(args.num_train_epochs)
    loss = make_loss(args.label_smoothing_factor, ready.weights, ready.task.output.loss)
    measured = measure_stage(plan, stage, inputs, picks, args, loss, lambda: free_memory(ready.use_cpu))
    return StageCost(stage, inputs.reads, epochs, steps, args, measured)


def _inputs(
    ready: Prepared, plan: Plan, stage: Stage, numbers: np.ndarray, cache: StateChoice, pooling: str
) -> StageInputs:
    """What the stage would train on, for the training rows called `numbers`."""
    sample = ready.rows_to_train_on.take(numbers)
    features = states = None
    if stage.on_features:  # of rows as they are: what a run has cached is not augmented
        features = extract_small(ready, ready.train.take(numbers))[pooling]
    first = plan.frozen_blocks(stage)
    if cache.anatomy is not None and first in cache.firsts:
        states = _states(ready, plan, cache.anatomy, first, sample)
    classes = len(ready.splits.labels)
    data = StageData(sample, sample, ready.collate, classes, features, features, ready.weights, ready.task.output)
    return stage_inputs(plan, stage, data, states, ready.config.method.cache)


def _states(ready: Prepared, plan: Plan, anatomy: Anatomy, first: int, sample: Encoded) -> StateCache:
    """The states that enter block `first`, in memory."""
    got: dict[int, torch.Tensor] = {}
    found: dict[int, np.ndarray] = {}

    def use(rows: list[int], _: Any, batch: dict[str, torch.Tensor]) -> None:
        value = got.pop(first).float().cpu().numpy()
        mask = None if sample.starts is None else batch["attention_mask"].bool().cpu().numpy()
        for i, row in enumerate(rows):
            found[row] = value[i] if mask is None else value[i][mask[i]]

    hooks = capture(plan.model, anatomy, [first], lambda at, value: got.update({at: value}))
    try:
        with unchanged(plan.model):
            run_batches(
                plan.model, sample, ready.collate, use, bf16=ready.bf16, use_cpu=ready.use_cpu, title="frozen layers"
            )
    finally:
        for hook in hooks:
            hook.remove()
    ordered = [found[i] for i in range(len(sample))]
    rows = StateRows(sample, np.stack(ordered) if sample.starts is None else np.concatenate(ordered), sample.starts)
    return StateCache(anatomy, {first: rows}, {first: rows}, {})
