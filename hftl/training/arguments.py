"""Trainer's arguments for a stage: hftl's habits, then the method's defaults, then what the user typed."""

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hftl.config import RunConfig
from hftl.methods.plan import Plan, Stage
from hftl.surroundings import hide_bars
from hftl.training.precision import choose_bf16, runs_on_cpu


def stage_epochs(plan: Plan, stage: Stage, config: RunConfig) -> float:
    """Epochs of the stage: its own, else its share of the run's."""
    if stage.epochs is not None:
        return stage.epochs
    total = config.training.get("num_train_epochs", plan.defaults.get("num_train_epochs", 3.0))
    return float(total) * (stage.share or 0.0)


def stage_arguments(plan: Plan, stage: Stage, config: RunConfig, best_metric: str, folder: Path) -> TrainingArguments:
    """Return the TrainingArguments of a gradient stage whose checkpoints go to `folder`."""
    values: dict[str, Any] = {
        "eval_strategy": "epoch",
        "save_strategy": config.training.get("eval_strategy", "epoch"),
        "save_total_limit": 1,
        "load_best_model_at_end": config.training.get("eval_strategy", "epoch") != "no",
        "metric_for_best_model": best_metric,
        "logging_steps": 10,
        "logging_nan_inf_filter": False,  # Trainer would hide a NaN loss behind the average
        "report_to": "none",
        "disable_tqdm": hide_bars(),
        "seed": config.train_seed,
        "bf16": choose_bf16(config.training),
        "per_device_eval_batch_size": 64,
        "use_cpu": runs_on_cpu(config.training),
        "restore_callback_states_from_checkpoint": True,  # else early stopping counts from 0 in a resumed run
        **plan.defaults,
        **config.training,
        "output_dir": str(folder),
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }
    if "eval_steps" in config.training and "save_steps" not in config.training:
        values["save_steps"] = config.training["eval_steps"]
    values["num_train_epochs"] = stage_epochs(plan, stage, config)
    if values.get("max_steps", -1) > 0:
        values["max_steps"] = max(1, round(values["max_steps"] * (stage.share or 1.0)))
    return TrainingArguments(**values)


def smaller_batch(size: int, accumulation: int) -> tuple[int, int]:
    """Return the next smaller batch that divides `size`, with the accumulation that keeps their product.

    Half where that is whole (16 x 1 becomes 8 x 2), else the largest divisor below (9 x 1 becomes 3 x 3).
    """
    smaller = max(d for d in range(1, size) if size % d == 0)
    return smaller, accumulation * (size // smaller)
