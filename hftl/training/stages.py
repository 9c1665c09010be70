"""Fit a plan: for every stage a new optimizer and a new Trainer, hence a new DDP wrap."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.trainer_utils import get_last_checkpoint

from hftl.config import RunConfig
from hftl.evaluation.metrics import compute_metrics
from hftl.methods.plan import Group, Plan, Stage
from hftl.progress import hide_bars
from hftl.tasks.encoded import EncodedText
from hftl.training.features import Encoded
from hftl.training.freeze import pin_frozen, set_trainable
from hftl.training.logistic import Probe
from hftl.training.losses import LossGuard, make_loss
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.world import broadcast_from_main, is_main_process, wait_for_all


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


class GroupedTrainer(Trainer):
    """Trainer with the stage's parameter groups; the optimizer class and its arguments stay Trainer's own."""

    stage_groups: tuple[Group, ...] = ()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Build one group per (stage group, decayed or not), so that biases and norms keep their zero weight decay."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(model))
        parameters = dict(model.named_parameters())
        groups = []
        for group in self.stage_groups:
            for decay in (True, False):
                chosen = [parameters[n] for n in group.parameters if (n in decayed) is decay]
                if chosen:
                    rate = self.args.learning_rate * group.rate
                    weight_decay = self.args.weight_decay if decay else 0.0
                    groups.append({"params": chosen, "lr": rate, "weight_decay": weight_decay})
        optimizer_class, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer = optimizer_class(groups, **arguments)
        return self.optimizer

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Evaluate every row: `dataloader_drop_last` is for training, but Trainer would drop evaluation rows as well."""
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write checkpoints with the parameter names of the model in memory.

        transformers saves ViT and others under older names, and Trainer reads checkpoints back with
        `load_state_dict(strict=False)`: the best checkpoint, or a resumed one, would bring its head alone.
        """
        if not isinstance(self.model, PreTrainedModel):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = output_dir or str(self.args.output_dir)
            self.model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)


class OnFeatures(nn.Module):
    """The head's one Linear, trained on cached features instead of the frozen body's repeated forward passes."""

    accepts_loss_kwargs = False

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.linear = linear

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Return logits [n, classes] for features [n, d]."""
        return SequenceClassifierOutput(logits=self.linear(features))


class FeatureRows(torch.utils.data.Dataset):
    """Cached features with their labels."""

    def __init__(self, features: np.ndarray, labels: np.ndarray):
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"features": torch.tensor(self.features[index]), "labels": int(self.labels[index])}


@dataclass(frozen=True)
class StageData:
    """What the stages train and validate on."""

    train: Encoded
    validation: Encoded
    collate: Callable
    train_features: np.ndarray | None = None  # for a stage on features
    validation_features: np.ndarray | None = None


def fit_plan(
    plan: Plan, probe: Probe, data: StageData, config: RunConfig, best_metric: str, work: Path
) -> list[StageReport]:
    """Run the stages in order; `plan.model` holds the result. Finished stages are in `work` and are not run again.

    Raises `TrainingError` when the loss is no number.
    """
    done = broadcast_from_main(_read_done(work) if is_main_process() else None)  # rank 0 writes that list, below
    reports = [StageReport(**entry) for entry in done]
    for i, stage in enumerate(plan.stages):
        if i < len(done):
            _load_stage(plan.model, work / f"stage-{i}.safetensors")
            continue
        start = time.perf_counter()
        if stage.share is None:
            report = _closed_form(plan, stage, probe)
        else:
            report = _by_gradient(plan, stage, data, config, best_metric, work / "checkpoints" / f"{i}-{stage.name}")
        reports.append(StageReport(**{**asdict(report), "seconds": round(time.perf_counter() - start, 3)}))
        if is_main_process():
            _save_stage(plan.model, work, i, reports)
        wait_for_all()
    return reports


def _read_done(work: Path) -> list[dict[str, Any]]:
    path = work / "stage.json"
    return json.loads(path.read_text()) if path.is_file() else []


def _save_stage(model: nn.Module, work: Path, index: int, reports: list[StageReport]) -> None:
    """Weights first, then the list of finished stages by rename: a stage counts as done only when it is whole."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(state, work / f"stage-{index}.safetensors")
    partial = work / "stage.json.new"
    partial.write_text(json.dumps([asdict(r) for r in reports]))
    partial.replace(work / "stage.json")


def _load_stage(model: nn.Module, path: Path) -> None:
    model.load_state_dict(load_file(path))


def _closed_form(plan: Plan, stage: Stage, probe: Probe) -> StageReport:
    weight, bias = (plan.model.get_parameter(name) for name in stage.trainable)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(probe.weight))
        bias.copy_(torch.from_numpy(probe.bias))
    return StageReport(stage.name, weight.numel() + bias.numel(), {}, 0.0, 0, 0.0, [])


def stage_arguments(plan: Plan, stage: Stage, config: RunConfig, best_metric: str, folder: Path) -> TrainingArguments:
    """Return Trainer's arguments: hftl's habits, then the method's defaults, then what the user typed."""
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
        "seed": config.data.seed,
        "bf16": choose_bf16(config.training),
        "per_device_eval_batch_size": 64,
        "use_cpu": runs_on_cpu(config.training),
        **plan.defaults,
        **config.training,
        "output_dir": str(folder),
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }
    if "eval_steps" in config.training and "save_steps" not in config.training:
        values["save_steps"] = config.training["eval_steps"]
    epochs, steps = values.get("num_train_epochs", 3.0), values.get("max_steps", -1)
    share = stage.share or 1.0
    values["num_train_epochs"] = float(epochs) * share
    if steps > 0:
        values["max_steps"] = max(1, round(steps * share))
    return TrainingArguments(**values)


def _by_gradient(
    plan: Plan, stage: Stage, data: StageData, config: RunConfig, best_metric: str, folder: Path
) -> StageReport:
    set_trainable(plan.model, stage.trainable)
    set_seed(config.data.seed)  # so that a stage starts alike whatever ran before it
    args = stage_arguments(plan, stage, config, best_metric, folder)
    module, groups, train, validation, collate = _inputs(plan, stage, data)
    if isinstance(train, EncodedText) and "train_sampling_strategy" not in config.training:
        args.train_sampling_strategy = "group_by_length"
    if (
        args.world_size > 1
        and len(train) >= args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    ):
        args.dataloader_drop_last = True  # accelerate would repeat rows to fill the last batch
    callbacks: list[TrainerCallback] = [LossGuard()]
    if args.load_best_model_at_end:
        callbacks.append(EarlyStoppingCallback(config.method.early_stopping_patience))
    hook = pin_frozen(module, body_frozen=stage.body_frozen)
    trainer = GroupedTrainer(
        model=module,
        args=args,
        data_collator=collate,
        train_dataset=train,
        eval_dataset=validation,
        compute_loss_func=make_loss(args.label_smoothing_factor),
        compute_metrics=lambda p: compute_metrics(np.asarray(p.predictions).argmax(-1), np.asarray(p.label_ids)),
        callbacks=callbacks,
    )
    trainer.stage_groups = groups
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    try:
        result = trainer.train(resume_from_checkpoint=last)
    finally:
        hook.remove()
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    rates = {g.name: args.learning_rate * g.rate for g in stage.groups}
    history = [{k: float(v) for k, v in entry.items()} for entry in trainer.state.log_history]
    return StageReport(stage.name, trainable, rates, 0.0, result.global_step, float(trainer.state.epoch or 0), history)


def _inputs(plan: Plan, stage: Stage, data: StageData) -> tuple[Any, tuple[Group, ...], Any, Any, Any]:
    """Return module, groups, train rows, validation rows and collator: the whole model's, or the cached features'."""
    model: PreTrainedModel = plan.model
    if not stage.on_features or data.train_features is None or data.validation_features is None:
        return model, stage.groups, data.train, data.validation, data.collate
    linear = model.get_submodule(plan.output)
    assert isinstance(linear, nn.Linear)
    module = OnFeatures(linear)
    groups = tuple(
        Group(g.name, tuple("linear." + n.rpartition(".")[2] for n in g.parameters), g.rate) for g in stage.groups
    )
    train = FeatureRows(data.train_features, data.train.labels)
    validation = FeatureRows(data.validation_features, data.validation.labels)
    return module, groups, train, validation, None
