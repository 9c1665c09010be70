"""Trainer's arguments for a stage: hftl's habits, then the method's defaults, then what the user typed.

They are tried on a toy before any data is read: what Trainer would refuse late is refused at once.
"""

import contextlib
import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from hftl.config import RunConfig
from hftl.errors import ConfigError, HftlError
from hftl.methods.plan import LEAST_STEPS, Plan, Stage
from hftl.models.layers import Layers
from hftl.surroundings import check_trackers
from hftl.tasks.task import Output
from hftl.training.losses import make_loss
from hftl.training.order import draws_from
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.replay import OnFeatures
from hftl.training.trainer import GroupedTrainer


# What a rehearsal of two steps overrides: sizes, and what reaches outside of it.
_SMALL: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 1.0,
    "max_steps": -1,
    "report_to": [],
    "torch_compile": False,
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": None,
    "dataloader_persistent_workers": False,
}
# `check_fits` asks the model itself.
_OF_THE_MODEL = {"gradient_checkpointing": False, "activation_checkpointing": False, "neftune_noise_alpha": None}
_ROWS: Any = [{"features": torch.ones(2) * i, "labels": i % 2} for i in range(4)]


def stage_epochs(plan: Plan, stage: Stage, config: RunConfig) -> float:
    """Epochs of the stage: its own, else its share of the run's."""
    if stage.epochs is not None:
        return stage.epochs
    total = config.training.get("num_train_epochs", plan.defaults.get("num_train_epochs", 3.0))
    return float(total) * stage.share


def keeps_best(config: RunConfig) -> bool:
    """Does the run keep its best checkpoint, and not its last weights?"""
    asked = config.method.early_stopping_patience is not None or "metric_for_best_model" in config.training
    return asked and config.training.get("eval_strategy", "epoch") != "no"


def followed(config: RunConfig, output: Output) -> tuple[str, bool]:
    """Return the score by which the best checkpoint is told, and whether more of it is better."""
    name = str(config.training.get("metric_for_best_model", output.best)).removeprefix("eval_")
    more = name not in output.smaller and not name.endswith("loss")  # for names of the user's own as Trainer says
    return name, bool(config.training.get("greater_is_better", more))


def batch_size(plan: Plan, stage: Stage, config: RunConfig, rows: int) -> int:
    """Rows of a step: the method's own, or half where typed epochs of so few `rows` would be fewer than `LEAST_STEPS`.

    Left open, the epochs are as many as that takes. MiniLM, 3 epochs of 600 rows, 16 and 8 rows a step (docs/log.md):
    entities .826, .852; R2 .559, .625; several labels .765, .775; pairs .883, .885.
    """
    size: int = plan.defaults.get("per_device_train_batch_size", 8)
    epochs = config.training.get("num_train_epochs")
    own = {"per_device_train_batch_size", "gradient_accumulation_steps"} & {*config.training}
    few = epochs is not None and rows * epochs < LEAST_STEPS * size
    return size // 2 if few and not own and stage.group == 1 else size


def stage_arguments(
    plan: Plan, stage: Stage, config: RunConfig, output: Output, folder: Path, rows: int
) -> TrainingArguments:
    """Return the TrainingArguments of a gradient stage over so many rows, whose checkpoints go to `folder`."""
    values: dict[str, Any] = {
        "eval_strategy": "epoch",
        "save_strategy": config.training.get("eval_strategy", "epoch"),
        "save_total_limit": 1,
        # Else the last weights stay: at the low end of the schedule they are the better ones. Of 500 training rows the best
        # by macro F1 on 50 validation rows was 1.5 points worse, and by the log-loss 4 (benchmarks/rates.py).
        "load_best_model_at_end": keeps_best(config),
        "metric_for_best_model": output.best,
        "greater_is_better": followed(config, output)[1],
        "logging_steps": 0.05,  # of the stage's steps: a curve of 20 points, however long it is
        "logging_nan_inf_filter": False,  # Trainer would hide a NaN loss behind the average
        "report_to": "none",
        "disable_tqdm": True,  # `Telling` says how far it is
        "seed": config.train_seed,
        "bf16": choose_bf16(config.training),
        "per_device_eval_batch_size": 64,
        "use_cpu": runs_on_cpu(config.training),
        "restore_callback_states_from_checkpoint": True,  # else early stopping counts from 0 in a resumed run
        **plan.defaults,
        "per_device_train_batch_size": batch_size(plan, stage, config, rows),
        **config.training,
        "output_dir": str(folder),
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }
    if stage.loss is not None:  # nothing is answered yet
        values |= {"eval_strategy": "no", "load_best_model_at_end": False}
    if "eval_steps" in config.training and "save_steps" not in config.training:
        values["save_steps"] = config.training["eval_steps"]
    values["num_train_epochs"] = stage_epochs(plan, stage, config)
    if "num_train_epochs" in config.training and "max_steps" not in config.training:
        values["max_steps"] = -1  # the method's own number of steps gives way
    if values.get("max_steps", -1) > 0:
        values["max_steps"] = max(1, round(values["max_steps"] * stage.share))
    return TrainingArguments(**values)


def smaller_batch(size: int, accumulation: int) -> tuple[int, int]:
    """Return the next smaller batch that divides `size`, with the accumulation that keeps their product.

    Half where that is whole (16 x 1 becomes 8 x 2), else the largest divisor below (9 x 1 becomes 3 x 3).
    """
    smaller = max(d for d in range(1, size) if size % d == 0)
    return smaller, accumulation * (size // smaller)


def check_arguments(config: RunConfig, output: Output) -> None:
    """Raise `ConfigError` for training flags that `Trainer` cannot do, naming the flag, before anything is loaded."""
    typed = {name: value for name, value in config.training.items() if name != "seed"}
    check_trackers(config.training.get("report_to"))
    problem = _problem(config, output) if typed else None
    if problem is None:
        return
    for name in reversed(typed):
        rest = {k: v for k, v in config.training.items() if k != name}
        if _problem(replace(config, training=rest), output) is None:
            raise ConfigError(f"--{name} {typed[name]} does not work: {problem}")
    raise ConfigError(f"The training flags ({', '.join(f'--{name}' for name in typed)}) do not work: {problem}")


def check_fits(config: RunConfig, model: Any, rows: int) -> None:
    """Raise `ConfigError` for training flags that this model, or so many training rows, cannot do."""
    flags = config.training
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        if flags.get(name) and not model.supports_gradient_checkpointing:
            raise ConfigError(f"--{name} is not possible: {type(model).__name__} does not support it. Leave it out.")
    if flags.get("neftune_noise_alpha") and not isinstance(model.get_input_embeddings(), nn.Embedding):
        raise ConfigError("--neftune_noise_alpha is for models that read tokens. Leave it out.")
    needed = flags.get("per_device_train_batch_size", 1) * int(os.environ.get("WORLD_SIZE", "1"))
    if flags.get("dataloader_drop_last") and rows < needed:
        raise ConfigError(
            f"--dataloader_drop_last true would drop all {rows} training rows: a batch has {needed}. Lower "
            "--per_device_train_batch_size."
        )


def _problem(config: RunConfig, output: Output) -> str | None:
    """Return what stands in the way of a short training with these flags, in one line; None when nothing does."""
    quiet = io.StringIO()
    try:
        with draws_from(0), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            _rehearse(config, output)
    except HftlError as error:
        return str(error)
    except Exception as error:  # of the libraries: whatever it is, the user's flags brought it about
        text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
        return (text if len(text) < 400 else text[:400] + " ...") or type(error).__name__
    return None


def _rehearse(config: RunConfig, output: Output) -> None:
    toy = OnFeatures(nn.Linear(2, 2))
    plan = Plan(toy, ("linear",), Layers((), (), ()), (), {"learning_rate": 1e-3})
    stage = Stage("rehearsal", (), 1.0)
    with tempfile.TemporaryDirectory() as folder:
        args = stage_arguments(plan, stage, config, output, Path(folder), rows=1)
        if args.torch_compile and runs_on_cpu(config.training):
            raise ConfigError("on a CPU it compiles for minutes and trains no faster. Leave it out.")
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()  # raises where its package is not installed
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 or args.deepspeed or args.fsdp:
            return  # the toy cannot be shared out as the model will be
        vars(args).update(_OF_THE_MODEL)
        _trainer(toy, args, output).get_train_dataloader()  # with the user's workers, which are not started
        vars(args).update(_SMALL)
        _trainer(toy, args, output).train()


def _trainer(toy: nn.Module, args: Any, output: Output) -> GroupedTrainer:
    trainer = GroupedTrainer(
        model=toy,
        args=args,
        train_dataset=_ROWS,
        eval_dataset=_ROWS,
        compute_loss_func=make_loss(args.label_smoothing_factor),
        compute_metrics=lambda _: {args.metric_for_best_model.removeprefix("eval_"): 0.0},  # `check_score` looks at it
    )
    trainer.stage_groups = [(1.0, list(toy.parameters()))]
    return trainer
