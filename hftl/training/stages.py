"""Fit a plan: for every stage a new optimizer and a new Trainer, hence a new DDP wrap."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from hftl.atomic import write_new
from hftl.config import RunConfig
from hftl.errors import TrainingError
from hftl.evaluation.logistic import Probe
from hftl.methods.plan import Given, Plan, Stage
from hftl.models.heads import unfold_scale, without_bias
from hftl.tasks.ragged import values_of
from hftl.tasks.scores import mean_loss, measure
from hftl.tasks.task import Encoded
from hftl.training.arguments import followed, smaller_batch, stage_arguments
from hftl.training.cache import drop_states, weights_hash
from hftl.training.checkpoints import Interruptible, PauseAt, Paused, stage_running, train_on
from hftl.training.features import MAPS, Passer, head_watched, predict_logits, read_by_head
from hftl.training.losses import LossGuard, make_loss
from hftl.training.order import Numbered, SeededEpochs, Together
from hftl.training.precision import choose_bf16, runs_on_cpu, without_autocast
from hftl.training.replay import first_tensor
from hftl.training.states import StageData, StateCache, stage_inputs, store
from hftl.training.trainer import GroupedTrainer, Telling, pin_frozen, set_trainable
from hftl.training.world import broadcast_from_main, from_every_process, is_main_process, take_from_main, wait_for_all


# The head from which all layers begin to learn: length of a class's weights at most, while the logits deviate by so much.
# A pooler's outputs are small (.03 in MiniLM), and a regression on them has weights 30 to 260 long, with which each small
# step of the body is a large one of the logits: with these two banking77 (500 rows, 250 steps) ends at .812, without at
# .770; where weights are short, as of convnets, nothing changes (docs/log.md, 2026-11-27).
START_NORM, START_SPREAD = 5.0, 0.3


@dataclass(frozen=True)
class StageReport:
    """What a stage did, as it stands in report.json."""

    name: str
    trainable_parameters: int
    learning_rates: dict[str, float]
    seconds: float
    steps: int
    epochs: float
    history: list[dict[str, float]]
    reads: str = ""  # what it trained on: "rows", cached "states" or "features"
    weights: str = ""  # hash of the weights at its end, equal on all processes
    interpolation: dict[str, Any] | None = None  # what a stage between two earlier results found
    paused: bool = False  # before its end


@dataclass(frozen=True)
class Fitted:
    """The stages' reports, and what the run's report must say beside them."""

    stages: list[StageReport]
    notes: list[str]
    states: list[str] = field(default_factory=list)  # keys of stored states, where a pause may be followed by more


@dataclass(frozen=True)
class _Fit:
    """What the stages of one run share."""

    plan: Plan
    data: StageData
    config: RunConfig
    work: Path
    states: StateCache | None
    pause: PauseAt | None


def fit_plan(
    plan: Plan, probe: Probe, data: StageData, config: RunConfig, work: Path, pause: PauseAt | None = None
) -> Fitted:
    """Run the stages in order; `plan.model` holds the result. Finished stages are in `work` and are not run again.

    With `pause`, the gradient stage stops there, what follows it without gradient is done for a look, and the next call
    goes on from the checkpoint, on a fresh plan. Raises `TrainingError` when the loss is no number, `Preempted` after
    SIGTERM.
    """
    scale = data.output.scale(data.train.targets) if data.output.scale else None
    if scale is None:
        return _fit_stages(plan, _start(plan, probe, data), data, config, work, pause)
    centre, deviation = (0.0 if without_bias(plan.model, plan.outputs) else scale[0]), scale[1]
    fitted = _fit_stages(plan, probe.scaled(centre, deviation), data.scaled(centre, deviation), config, work, pause)
    for output in plan.outputs:  # so that the model answers in the units of the data
        unfold_scale(plan.model, output, centre, deviation)
    return fitted


def _start(plan: Plan, probe: Probe, data: StageData) -> Probe:
    """Return the probe as a body that learns starts from it, with weights that are not too large for that."""
    moves = any(stage.solve is None and not stage.body_frozen and stage.loss is None for stage in plan.stages)
    if not moves or data.output.link != "softmax" or data.train_features is None:
        return probe
    return probe.softened(values_of(data.train_features), START_NORM, START_SPREAD)


def _fit_stages(
    plan: Plan, probe: Probe, data: StageData, config: RunConfig, work: Path, pause: PauseAt | None
) -> Fitted:
    # Rank 0 alone writes that list, below; the others must not find a stage in it that they have yet to run.
    done = broadcast_from_main(_read_done(work) if is_main_process() else None)
    reports, notes = [StageReport(**entry) for entry in done["stages"]], done["notes"]
    first = len(reports)
    states, note = store(plan, data, config, done["states"]) if first < len(plan.stages) else (None, "")
    fit = _Fit(plan, data, config, work, states, pause)
    notes += [note] if note and note not in notes else []
    reads_states = states is not None if done["states"] is None else done["states"]  # decided once: they are rounded
    if is_main_process():
        _write_done(work, reports, notes, reads_states)
    if first:
        plan.model.load_state_dict(load_file(work / f"stage-{first - 1}.safetensors"))
    for i, stage in enumerate(plan.stages[first:], start=first):
        start = time.perf_counter()
        with stage_running():
            if stage.solve is not None:
                report = _without_gradient(plan, stage, _given(fit, stage, probe))
            else:
                report = _with_room(fit, stage, work / "checkpoints" / f"stage-{i}", notes)
            if report.paused:
                for following in plan.stages[i + 1 :]:
                    _without_gradient(plan, following, _given(fit, following, probe))
                seconds = round(time.perf_counter() - start, 3)
                return Fitted([*reports, replace(report, seconds=seconds)], notes, states.keys if states else [])
            weights = _same_on_all(plan.model)
            reports.append(replace(report, weights=weights, seconds=round(time.perf_counter() - start, 3)))
            if is_main_process():
                _save_stage(plan.model, work, i)
                _write_done(work, reports, notes, reads_states)
                _drop_stage(work, i, plan.stages)
            wait_for_all()
    drop_states(states.keys if states else [])
    return Fitted(reports, notes)


def _read_done(work: Path) -> dict[str, Any]:
    """The finished stages, their notes, and whether the run reads stored states: None before that is decided."""
    path = work / "stage.json"
    return json.loads(path.read_text()) if path.is_file() else {"stages": [], "notes": [], "states": None}


def _write_done(work: Path, reports: list[StageReport], notes: list[str], states: bool) -> None:
    """Write what a resumed run begins with."""
    done = {"stages": [asdict(report) for report in reports], "notes": notes, "states": states}
    write_new(work / "stage.json", json.dumps(done))


def _save_stage(model: nn.Module, work: Path, index: int) -> None:
    """Write the weights, before the list of finished stages names them: a stage counts as done when it is complete."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(state, work / f"stage-{index}.safetensors")


def _drop_stage(work: Path, index: int, stages: tuple[Stage, ...]) -> None:
    """Remove what no later stage starts from, and no figure of an interpolation is taken from, once `index` is done."""
    shutil.rmtree(work / "checkpoints" / f"stage-{index}", ignore_errors=True)
    starts = {stage.start for stage in stages[index + 1 :]}
    if stages[index].start is None:
        for earlier in set(range(index)) - starts:
            (work / f"stage-{earlier}.safetensors").unlink(missing_ok=True)


def _same_on_all(model: nn.Module) -> str:
    """Hash of all weights on several processes, "" on one.

    Statistics of a batch norm that learns are each process's own after the last step; all take those of rank 0, as every
    step before began with them. Raises `TrainingError` when the processes do not hold the same ones, bit by bit.
    """
    if len(from_every_process(None)) == 1:
        return ""
    take_from_main(model.buffers())
    hashes = from_every_process(weights_hash(model)[:16])
    if len(set(hashes)) > 1:
        raise TrainingError(
            f"After a stage the processes hold different weights ({', '.join(hashes)}): gradients were not shared. This "
            "is a bug of hftl or of the launcher; train on one process and report it."
        )
    return str(hashes[0])


def _without_gradient(plan: Plan, stage: Stage, given: Given) -> StageReport:
    assert stage.solve is not None
    interpolation = stage.solve(plan, given)
    count = sum(plan.model.get_parameter(name).numel() for name in stage.trainable)
    reads = "features" if interpolation is None else "rows"
    return StageReport(stage.name, count, {}, 0.0, 0, 0.0, [], reads, interpolation=interpolation)


def _given(fit: _Fit, stage: Stage, probe: Probe) -> Given:
    """What the stage may rest on. The score is the one by which Trainer would keep the best checkpoint."""
    if stage.start is None:
        return Given(probe, fit=partial(_new_probe, fit))
    data, flags = fit.data, fit.config.training
    rows, collate = data.validation, data.collate
    metric, more = followed(fit.config, data.output)

    def score(model: nn.Module) -> float:
        logits = predict_logits(model, rows, collate, use_cpu=runs_on_cpu(flags), title="interpolation")
        values = {
            **data.hooks.metrics(logits, rows.targets),
            **measure(data.output, data.output.decode(logits), rows.targets, data.labels),
            "loss": mean_loss(data.output, logits, rows.targets),
        }
        return float(values[metric]) * (1 if more else -1)

    return Given(probe, load_file(fit.work / f"stage-{stage.start}.safetensors"), score, metric, data.kept)


def _new_probe(fit: _Fit) -> Probe:
    """The probe on the features that the model has now. All processes call this together."""
    plan, data, config = fit.plan, fit.data, fit.config
    passer = Passer(data.collate, runs_on_cpu(config.training), choose_bf16(config.training))
    rows = replace(data.train, augment=False)
    features = passer.features(plan.model, plan.outputs, rows, "features")
    return closed_form(features, data, "native", config.train_seed, without_bias(plan.model, plan.outputs))


def closed_form(features: dict[str, Any], data: StageData, pooling: str, seed: int, no_bias: tuple[str, ...]) -> Probe:
    """Fit the probe on the train rows' `features`, by pooling, on the main process; the others get its solution."""
    probe: Probe | None = None
    if is_main_process():
        rows = (features, data.train.targets, len(data.labels))
        probe = data.output.probe(*rows, pooling, seed, data.class_weights, no_bias)
    fitted: Probe = broadcast_from_main(probe)
    return fitted


def _with_room(fit: _Fit, stage: Stage, folder: Path, notes: list[str]) -> StageReport:
    """Run the stage; after out-of-memory again from its start, with half the batch and twice the accumulation."""
    plan = fit.plan
    args = stage_arguments(plan, stage, fit.config, fit.data.output, folder, len(fit.data.train))
    # Several processes do not try again, and need no second copy of the model.
    start = {k: v.detach().cpu().clone() for k, v in plan.model.state_dict().items()} if args.world_size == 1 else {}
    while True:
        rows = args.per_device_train_batch_size
        try:
            with _loss(plan, stage, fit.data, args, fit.config.method.loss is not None) as loss:
                return _by_gradient(plan, stage, fit, args, loss)
        except Exception as error:
            if not should_reduce_batch_size(error) and not isinstance(error, MemoryError):
                raise
            if args.world_size > 1 or rows == stage.group:
                raise TrainingError(
                    f"Out of memory at {rows} rows a step. Lower --per_device_train_batch_size and raise "
                    "--gradient_accumulation_steps as much, lower --max_seq_length or --image_size, or use --method lora "
                    "or --train_top."
                ) from None
        groups, steps = smaller_batch(rows // stage.group, args.gradient_accumulation_steps)
        size = groups * stage.group
        notes.append(
            f"{stage.name}: out of memory at {rows} rows; went on from the stage's start with {size} rows x {steps} "
            "accumulation steps, the same effective batch."
        )
        clear_device_cache(garbage_collection=True)
        plan.model.load_state_dict(start)
        shutil.rmtree(folder, ignore_errors=True)
        args.per_device_train_batch_size, args.gradient_accumulation_steps = size, steps
        # What did not fit may be the batch of the evaluation.
        args.per_device_eval_batch_size = min(args.per_device_eval_batch_size, size)


@contextmanager
def _loss(plan: Plan, stage: Stage, data: StageData, args: TrainingArguments, adjusted: bool) -> Iterator[Callable]:
    """The loss of the answers, or the stage's own of what the head reads; exact under accumulation and on many ranks."""
    if stage.loss is None:
        counts = np.maximum(data.output.counts(data.train.targets, data.labels), 1) if adjusted else None
        yield make_loss(args.label_smoothing_factor, data.class_weights, data.output.loss, counts)
        return
    compare, alike = stage.loss, data.output.alike
    assert alike is not None

    def loss(_: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        rows = compare(read_by_head(plan.model, plan.outputs, seen, seen["batch"]), alike(labels))
        return rows.mean() * labels.numel() / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    with (
        head_watched(plan.model, plan.outputs) as seen,
        plan.model.register_forward_pre_hook(lambda _, __, batch: seen.update(batch=batch), with_kwargs=True),
    ):
        yield loss


def _by_gradient(plan: Plan, stage: Stage, fit: _Fit, args: TrainingArguments, loss: Callable) -> StageReport:
    data, config = fit.data, fit.config
    set_trainable(plan.model, stage.trainable)
    set_seed(config.train_seed)  # so that a stage starts alike whatever ran before it
    inputs = stage_inputs(plan, stage, data, fit.states, config.method.cache)
    if "input_ids" in inputs.train[0] and "train_sampling_strategy" not in config.training:
        args.train_sampling_strategy = "group_by_length"
    if data.output.keep is not None and "per_device_eval_batch_size" not in config.training:
        args.per_device_eval_batch_size = MAPS
    if data.validation.window is not None:  # images of different sizes
        args.per_device_eval_batch_size = 1
    per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.world_size > 1 and len(inputs.train) >= per_step:
        args.dataloader_drop_last = True  # accelerate would repeat rows to fill the last batch
    guard = LossGuard(inputs.collate, loss, data.output.chance(data.labels))
    rows = Numbered(inputs.train, config.train_seed)
    output = data.output
    telling = Telling(stage.name, output.headline, output.written(output.headline), logged=fit.pause is None)
    callbacks: list[TrainerCallback] = [guard, SeededEpochs(rows), Interruptible(), telling]
    kept = data.output.decode if data.hooks.compute_metrics is None else lambda logits: logits
    if config.method.early_stopping_patience is not None and args.load_best_model_at_end:
        callbacks.append(EarlyStoppingCallback(config.method.early_stopping_patience))
    callbacks += [fit.pause] if fit.pause else []
    callbacks += data.hooks.callbacks
    hook = pin_frozen(inputs.module, plan, stage)
    trainer = GroupedTrainer(
        model=inputs.module,
        args=args,
        data_collator=guard.collate,
        train_dataset=rows,
        eval_dataset=inputs.validation,
        compute_loss_func=guard.loss,
        compute_metrics=partial(_metrics, data, inputs.validation),
        # Only the winners are kept: the logits of a large validation split would fill the memory.
        preprocess_logits_for_metrics=lambda logits, _: kept(first_tensor(logits)),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # dicts
    trainer.stage_groups, trainer.keep, trainer.window = inputs.groups, output.keep, data.validation.window
    if stage.loss is not None:
        assert data.output.strata is not None
        strata, _ = data.output.strata(data.train.targets, data.labels)
        trainer.order = Together(strata, stage.group, per_step, config.train_seed)
    paused = False
    try:
        train_on(trainer, Path(str(args.output_dir)))
    except Paused:
        paused = True
    finally:
        hook.remove()
        without_autocast(inputs.module)
    trainable = sum(p.numel() for p in inputs.module.parameters() if p.requires_grad)
    rates = {g.name: args.learning_rate * g.rate for g in stage.groups}
    history = [{k: float(v) for k, v in entry.items()} for entry in trainer.state.log_history]
    steps, epochs = trainer.state.global_step, float(trainer.state.epoch or 0)
    return StageReport(stage.name, trainable, rates, 0.0, steps, epochs, history, inputs.reads, paused=paused)


def _metrics(data: StageData, rows: Encoded, found: EvalPrediction) -> dict[str, float]:
    """Return the scores of an evaluation; with a function of the user's, which is given logits, what that says too.

    Of numbers it does not: in training these are standardised.
    """
    answers, labels = np.asarray(found.predictions), np.asarray(found.label_ids)
    own = {} if data.output.scale is not None else data.hooks.metrics(answers, labels)
    answers = answers if data.hooks.compute_metrics is None else data.output.decode(answers)
    return {**own, **measure(data.output, *rows.unpadded(answers, labels), data.labels)}
