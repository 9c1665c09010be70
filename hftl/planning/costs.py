"""What a run costs on this machine in memory and time, from a few real batches run on a copy of the model."""

import copy
import math
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import Subset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from hftl.evaluation.logistic import cv_rows
from hftl.evaluation.mask_probe import PATCHES
from hftl.methods.plan import Plan, Stage
from hftl.paths import cache_dir
from hftl.prepare import Prepared
from hftl.probing import extract, features_key, frozen_features, is_answered_by_probe, shares_pass
from hftl.tasks.ragged import in_memory
from hftl.terminal import progress
from hftl.training.arguments import stage_arguments
from hftl.training.cache import is_cached, shortage
from hftl.training.features import Encoded, Passer, batches_by_length
from hftl.training.losses import make_loss
from hftl.training.precision import autocast, without_autocast
from hftl.training.replay import StateMaker, with_states
from hftl.training.states import StageInputs, StateCache, stage_inputs, state_maker, without
from hftl.training.trainer import GroupedTrainer, pin_frozen, set_trainable


ADAMW_BYTES, GRADIENT_BYTES = 8, 4  # per learning parameter: two fp32 moments, one fp32 gradient
TIMED = 3  # batches, of features and of steps alike
COMPARE_SECONDS = 300.0  # what a plan may spend on features for the comparison; rule of thumb, ours
ROOM = 0.8  # share of the free memory that a measurement may take; rule of thumb, ours


def look_at_machine(use_cpu: bool) -> dict[str, Any]:
    """Return device, memory and disk in bytes, as they are now."""
    memory, folder, gpu = psutil.virtual_memory(), cache_dir(), None
    if not use_cpu and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        gpu = {"name": torch.cuda.get_device_name(), "free_bytes": int(free), "total_bytes": int(total)}
    existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    return {
        "device": "cpu" if use_cpu else str(torch.accelerator.current_accelerator()),
        "threads": torch.get_num_threads(),
        "memory_total_bytes": int(memory.total),
        "memory_free_bytes": int(memory.available),
        "gpu": gpu,
        "disk_free_bytes": int(shutil.disk_usage(existing).free),
    }


def free_memory(machine: dict[str, Any]) -> int:
    """Bytes that are free where the model trains: of the GPU, or of the machine's memory."""
    return int(machine["gpu"]["free_bytes"] if machine["gpu"] else machine["memory_free_bytes"])


@dataclass(frozen=True)
class FeatureCost:
    """Extraction of one split's features."""

    batch_seconds: float  # of one forward batch
    row_bytes: int  # of what is kept, all poolings

    def seconds(self, encoded: Encoded) -> float:
        """Estimate for all rows of `encoded`."""
        return self.batch_seconds * len(batches_by_length(encoded.lengths))


def time_features(ready: Prepared) -> FeatureCost:
    """Time a few of the batches in which `frozen_features` would run the training rows, long and short ones."""
    batches = batches_by_length(ready.train.lengths)
    timed = [batches[int((i + 0.5) / TIMED * len(batches))] for i in range(TIMED)]
    _extract(ready, timed[-1])  # to warm up
    start = time.perf_counter()
    for rows in timed:
        arrays = _extract(ready, rows)
    seconds = (time.perf_counter() - start) / TIMED
    size = sum(a.itemsize * a.shape[1] for a in arrays.values() if a.ndim > 1)
    if "counts" in arrays:  # of patches, of which a row has several
        size *= int(min(arrays["counts"].mean(), PATCHES / len(ready.train)))
    return FeatureCost(seconds, size)


def _extract(ready: Prepared, rows: list[int]) -> dict[str, np.ndarray]:
    passer = Passer(ready.collate, ready.use_cpu, ready.bf16)
    return extract(ready, ready.loaded, passer, ready.train.items(rows), "features (sample)")


def are_cached(ready: Prepared) -> dict[str, bool]:
    """Say for train and validation whether a run would find their features on disk."""
    parts = {"train": ready.train}
    parts |= {"validation": ready.validation} if ready.task.output.keep is None else {}  # maps are answered whole
    exact = {part: is_answered_by_probe(ready.config, part) for part in parts}
    return {p: is_cached(features_key(ready, rows, ready.bf16 and not exact[p])) for p, rows in parts.items()}


def comparison_features(ready: Prepared, cost: FeatureCost) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the rows to compare on, at most 3,000 of train, and their features by pooling, [rows, d] each.

    Where these are all rows of train, the features stay in the cache for the run itself.
    """
    cached, rows = are_cached(ready)["train"], cv_rows(ready.strata[0], ready.config.train_seed)
    afford = int(COMPARE_SECONDS / max(cost.seconds(ready.train), 1e-9) * len(ready.train.targets))
    if not cached and afford < len(rows):
        rows = np.random.default_rng(0).permutation(rows)[: max(afford, 1)]
    whole = cached or len(rows) == len(ready.train.targets)
    encoded = ready.train if whole else ready.train.take(rows)
    parts, _ = frozen_features(ready, {"train": encoded})
    return rows, {k: in_memory(v[rows] if whole else v) for k, v in parts["train"].items()}


@dataclass(frozen=True)
class StateChoice:
    """Which states of frozen layers a run would store: `maker` is None where it would store none, and `note` why."""

    maker: StateMaker | None
    size: int = 0  # bytes
    note: str = ""


def choose_cache(ready: Prepared, plan: Plan) -> StateChoice:
    """Decide as `hftl.training.states.store` does, and say how many bytes that takes."""
    parts = (ready.rows_to_train_on, ready.validation)
    maker, note = state_maker(plan, parts, ready.collate, ready.config)
    if maker is None:
        return StateChoice(None, note=note)
    size = sum(map(maker.bytes, parts))
    why = shortage("states", size)
    if why is not None:
        return StateChoice(None, note=without(ready.config.method.cache, why)[1])
    return StateChoice(maker, size)


@dataclass(frozen=True)
class Measured:
    """One device batch of a stage, as Trainer runs it. Bytes are those of a whole batch, as seconds of one are."""

    rows: int = 0  # that were really run at once
    optimizer_bytes: int = 0
    batch_seconds: float = 0.0  # forward and backward
    update_seconds: float = 0.0  # the optimizer's step
    forward_seconds: float = 0.0  # per row, without gradient
    typical_bytes: int = 0  # saved for the backward pass, rows of median length
    longest_bytes: int = 0


@dataclass(frozen=True)
class StageCost:
    """One stage; a closed-form stage has no steps and costs nothing here."""

    stage: Stage
    learning: int  # parameters that learn
    reads: str = "features"
    epochs: float = 0.0
    steps: int = 0
    args: TrainingArguments | None = None
    measured: Measured | None = Measured()  # None where not one row fits in memory


def stage_costs(ready: Prepared, plan: Plan, cache: StateChoice) -> list[StageCost]:
    """Count the steps of every stage, and run a few of them, on a copy of the model.

    The model, which moves to the CPU, and the random state of torch, numpy and Python are the same afterwards.
    """
    trial = replace(plan, model=copy.deepcopy(plan.model.cpu()))
    drawn, numpy_drawn = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(), TemporaryDirectory(prefix="hftl-plan-") as folder:
            return [_cost(ready, trial, stage, cache, folder) for stage in progress(plan.stages, "steps", "stage")]
    finally:
        random.setstate(drawn)
        np.random.set_state(numpy_drawn)


def _cost(ready: Prepared, trial: Plan, stage: Stage, cache: StateChoice, folder: str) -> StageCost:
    learning = sum(trial.model.get_parameter(name).numel() for name in stage.trainable)
    if stage.solve is not None:
        return StageCost(stage, learning)
    rows = ready.rows_to_train_on
    args = stage_arguments(trial, stage, ready.config, ready.task.output, Path(folder), len(rows))
    per_epoch = steps_per_epoch(args, len(rows))
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
    epochs = steps / per_epoch if args.max_steps > 0 else float(args.num_train_epochs)
    grouped = ready.config.training.get("train_sampling_strategy", "group_by_length") == "group_by_length"
    batches = pick_batches(rows.lengths, args.train_batch_size, grouped)
    inputs = _inputs(ready, trial, stage, np.concatenate(batches), cache)
    set_trainable(trial.model, stage.trainable)
    hook = pin_frozen(inputs.module, trial, stage)
    try:
        measured = _measure(inputs, len(batches[0]), learning, args, ready)
    finally:
        hook.remove()
        without_autocast(inputs.module)
    return StageCost(stage, learning, inputs.reads, epochs, steps, args, measured)


def steps_per_epoch(args: TrainingArguments, rows: int) -> int:
    """Optimizer steps of an epoch, by Trainer's arithmetic."""
    size = args.train_batch_size * args.world_size
    batches = rows // size if args.dataloader_drop_last else math.ceil(rows / size)
    return max(math.ceil(batches / args.gradient_accumulation_steps), 1)


def pick_batches(lengths: np.ndarray, size: int, grouped: bool = True) -> list[np.ndarray]:
    """Return the row numbers of batches to run: the longest rows, rows of median length, then `TIMED` to time.

    These go over the range of lengths, each of similar length as `grouped` training forms them, or are drawn at random.
    """
    order = np.argsort(-lengths, kind="stable")
    size, rng = min(size, len(order)), np.random.default_rng(0)

    def at(share: float) -> np.ndarray:
        start = round((1 - share) * (len(order) - size))
        return order[start : start + size]

    shares = [(i + 0.5) / TIMED for i in range(TIMED)]
    return [at(1.0), at(0.5), *(at(share) if grouped else rng.permutation(order)[:size] for share in shares)]


def _inputs(ready: Prepared, trial: Plan, stage: Stage, numbers: np.ndarray, cache: StateChoice) -> StageInputs:
    """What the stage would train on, for the training rows called `numbers`: real rows, but zeros for their features
    and states, with which a step takes as long.
    """
    rows = ready.rows_to_train_on.items(numbers)
    features = states = None
    if stage.on_features:
        features = rows.by_row(np.zeros((rows.count, trial.model.get_submodule(trial.output).in_features), np.float32))
    first = trial.frozen_blocks(stage)
    if cache.maker is not None and first in cache.maker.firsts:
        shapes = cache.maker.arrays(replace(rows, augment=False))
        stored = {first: with_states(rows, first, {name: np.zeros(*array) for name, array in shapes.items()})}
        states = StateCache(cache.maker.anatomy, stored, stored, [])
    data = replace(
        ready.stage_data, train=rows, validation=rows, train_features=features, validation_features=features
    )
    return stage_inputs(trial, stage, data, states, ready.config.method.cache)


def _measure(
    inputs: StageInputs, whole: int, learning: int, args: TrainingArguments, ready: Prepared
) -> Measured | None:
    """Run the batches of `inputs.train`, `whole` rows each; fewer at once where memory is short, None without any."""
    inputs.module.to(args.device)
    room = ROOM * free_memory(look_at_machine(ready.use_cpu)) - (GRADIENT_BYTES + ADAMW_BYTES) * learning
    try:
        if room < 0:
            return None
        few = min(2, whole)
        longest, typical = (_saved(inputs, range(start, start + few), args) / few for start in (0, whole))
        size = whole
        while size and longest * size > room:
            size //= 2
        return _train(inputs, whole, size, args, ready, int(typical * whole), int(longest * whole)) if size else None
    except Exception as error:
        if not (should_reduce_batch_size(error) or isinstance(error, MemoryError)):
            raise
        return None


def _saved(inputs: StageInputs, rows: range, args: TrainingArguments) -> int:
    """Bytes that one forward pass over `rows` saves for its backward pass."""
    items = inputs.collate([inputs.train[i] for i in rows]).items()
    batch = {k: v.to(args.device) for k, v in items if k != "labels"}
    inputs.module.train()
    with autocast(args.device, args.bf16 or args.fp16), saved_bytes(inputs.module) as seen:
        inputs.module(**batch)
    return sum(seen.values())


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[dict[int, int]]:
    """Collect what autograd keeps for the backward pass: storage → bytes, each once, weights and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # it keeps the memory, and not the step that made it: a circle that nothing would free

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield seen


# What costs time or memory in a step: the run's other arguments log, save, evaluate or compile.
_SAME = ("learning_rate", "weight_decay", "max_grad_norm", "optim", "optim_args", "bf16", "fp16", "use_cpu", "seed")


def _train(
    inputs: StageInputs, whole: int, size: int, args: TrainingArguments, ready: Prepared, *saved: int
) -> Measured:
    """Let Trainer run `size` rows of every batch: the first two warm up, the others are timed."""
    starts = range(0, len(inputs.train), whole)
    rows = Subset(inputs.train, [i for start in starts for i in range(start, start + size)])
    few = TrainingArguments(
        args.output_dir,
        **{name: getattr(args, name) for name in _SAME},
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size,
        max_steps=len(starts),
        train_sampling_strategy="sequential",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
    )
    clock, loss = _Clock(), make_loss(args.label_smoothing_factor, ready.weights, ready.task.output.loss)
    trainer = GroupedTrainer(inputs.module, few, inputs.collate, rows, compute_loss_func=loss, callbacks=[clock])
    trainer.remove_callback(PrinterCallback)
    trainer.stage_groups = inputs.groups
    optimizer = trainer.create_optimizer()
    trainer.train()
    batch, update = np.diff(clock.times)[-2 * TIMED :].reshape(TIMED, 2).mean(0).tolist()
    start = time.perf_counter()
    trainer.evaluate(rows)
    forward = (time.perf_counter() - start) / len(rows)
    states = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    moments = sum(t.numel() * t.element_size() for t in states if t.dim())  # without the counts of steps
    return Measured(size, moments, batch * whole / size, update, forward, *saved)


class _Clock(TrainerCallback):
    """Notes when a batch's gradients are there, and when the weights have moved."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The backward pass is over."""
        if args.device.type != "cpu":
            torch.accelerator.synchronize()
        self.times.append(time.perf_counter())

    on_step_end = on_pre_optimizer_step


def seconds(
    ready: Prepared, costs: list[StageCost], cache: StateChoice, features: FeatureCost, regression: float
) -> dict[str, Any]:
    """Estimate the run's time by its parts, features that are on disk already at none.

    None in a part that could not be measured makes the total None.
    """
    cached = are_cached(ready)
    passes = {"train": features.seconds(ready.train), "validation": features.seconds(ready.validation)}
    extraction = sum(passes[part] for part, there in cached.items() if not there)
    states = 0.0
    if cache.maker is not None:  # the passes that extract features store the states of plain rows beside them
        for part, views in (("train", cache.maker.views), ("validation", 1)):
            augmented = part == "train" and ready.augmented
            beside = shares_pass(ready.config) and not cached.get(part, True) and not augmented
            states += 0.0 if beside else views * passes[part]
    final = passes["train"] / len(ready.train) * (len(ready.splits.test) + len(ready.validation))
    stages = [stage_seconds(cost, len(ready.validation)) for cost in costs]
    times = [regression, states, final, *(s[k] for s in stages for k in ("train_seconds", "evaluation_seconds"))]
    return {
        "note": "Estimates from a few timed batches on this machine as busy as it is now; early stopping may end sooner.",
        "features": {part: "cached" if is_there else "to compute" for part, is_there in cached.items()},
        "features_seconds": extraction,
        "regression_seconds": regression,
        "states_seconds": states,
        "stages": stages,
        "prediction_seconds": final,
        "seeds": ready.config.seeds,
        "total_seconds": None if None in times else extraction + ready.config.seeds * sum(times),
    }


def stage_seconds(cost: StageCost, validation_rows: int) -> dict[str, Any]:
    """Estimate the seconds of a stage; None for what could not be measured."""
    step = train = evaluation = None
    if cost.measured is not None:
        accumulation = cost.args.gradient_accumulation_steps if cost.args else 1
        step = accumulation * cost.measured.batch_seconds + cost.measured.update_seconds
        train = step * cost.steps
        validates = cost.args is not None and str(getattr(cost.args.eval_strategy, "value", "")) != "no"
        evaluation = (max(cost.epochs, 1.0) if validates else 0.0) * validation_rows * cost.measured.forward_seconds
    return {
        "name": cost.stage.name,
        "steps": cost.steps,
        "seconds_per_step": step,
        "train_seconds": train,
        "evaluation_seconds": evaluation,
    }
