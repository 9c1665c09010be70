"""The one subclass of Trainer: our parameter groups, checkpoints that come back complete; and what must not move."""

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from hftl import terminal
from hftl.evaluation.scale import Scale
from hftl.methods.plan import Plan, Stage
from hftl.models.layers import is_under
from hftl.training.order import MixedLengths
from hftl.training.replay import OnFeatures, OnStates, first_tensor
from hftl.training.windows import in_windows


Groups = Sequence[tuple[float, list[nn.Parameter]]]  # parameters that share a rate, relative to the stage's


class GroupedTrainer(Trainer):
    """Trainer with the stage's parameter groups; the optimizer class and its arguments stay Trainer's own."""

    stage_groups: Groups = ()
    order: Sampler | None = None  # of the training rows, instead of Trainer's
    keep: Any = None  # `Output.keep`
    window: int | None = None  # `Encoded.window` of the validation rows

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Build one group per (stage group, decayed or not), so that biases and norms keep their zero weight decay."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(model))
        decaying = {id(parameter) for name, parameter in model.named_parameters() if name in decayed}
        groups = []
        for rate, parameters in self.stage_groups:
            for decay in (True, False):
                members = [parameter for parameter in parameters if (id(parameter) in decaying) is decay]
                if members:
                    weight_decay = self.args.weight_decay if decay else 0.0
                    groups.append(
                        {"params": members, "lr": self.args.learning_rate * rate, "weight_decay": weight_decay}
                    )
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

    def prediction_step(self, model: Any, *given: Any, **options: Any) -> Any:
        """Keep of maps what the scores need: Trainer would hold those of all rows, and their masks."""
        read: Any = model if self.window is None else partial(in_windows, model, self.window)
        step: Any = super().prediction_step(read, *given, **options)
        loss, logits, labels = step
        if self.keep is None or logits is None:
            return loss, logits, labels
        rows = zip(first_tensor(logits), labels.cpu().numpy(), strict=True)
        kept = np.stack([self.keep(one, mask) for one, mask in rows])
        return loss, torch.as_tensor(kept, device=labels.device), labels[:, 0, 0]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Follow the stage's own order where it has one."""
        if self.order is not None:
            return self.order
        usual = super()._get_train_sampler(train_dataset)
        if isinstance(usual, LengthGroupedSampler):
            return MixedLengths(
                usual.batch_size * self.args.world_size, lengths=usual.lengths
            )  # alike in all processes
        return usual

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Evaluate windows of words in their order, by which they are joined to rows again.

        With batches of similar length, Trainer would take the evaluation rows by length, too, and never say in which order.
        """
        if getattr(eval_dataset, "units", None) is None:
            return super()._get_eval_sampler(eval_dataset)
        return SequentialSampler(eval_dataset)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write checkpoints with the parameter names of the model in memory.

        transformers saves ViT and others under older names, and Trainer reads checkpoints back with
        `load_state_dict(strict=False)`: the best checkpoint, or a resumed one, would bring its head alone.
        """
        if isinstance(self.model, PreTrainedModel):
            if self.args.should_save:
                folder = output_dir or str(self.args.output_dir)
                self.model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)
            return
        if isinstance(self.model, OnStates | OnFeatures):  # weights that do not learn stay in memory as they are
            frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
            state = self.model.state_dict()
            state_dict = {name: t.cpu().contiguous().clone() for name, t in state.items() if name not in frozen}
        super()._save(output_dir, state_dict)


class Telling(TrainerCallback):
    """Says how far the training is: after each step on a terminal, after each look at the validation rows in a log."""

    def __init__(self, stage: str, score: str, scale: Scale, *, logged: bool):
        self.stage, self.score, self.scale, self.logged = stage, score, scale, logged
        self.loss = self.validation = ""
        self.begun = (0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where the training begins: a resumed one does so in its middle."""
        self.begun = (state.global_step, time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the loss."""
        loss = kwargs["logs"].get("loss")
        self.loss = self.loss if loss is None else f"loss {loss:.3g}"
        self._mark(state, loss=loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the live line."""
        terminal.at(self._line(state), self._left(state))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the line of an epoch without a look at the validation rows."""
        if self.logged and args.eval_strategy == "no":
            terminal.log(self._line(state))

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the line of a look."""
        value = kwargs["metrics"].get(f"eval_{self.score}")
        self.validation = "" if value is None else f"validation {self.scale.name} {self.scale.value(value)}"
        self._mark(state, score=value)
        if self.logged:
            terminal.log(self._line(state))

    def _mark(self, state: Any, **values: float | None) -> None:
        """Record a mark of the curve."""
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            terminal.record(stage=self.stage, at_step=state.global_step, epoch=round(state.epoch or 0.0, 4), **known)

    def _left(self, state: Any) -> float | None:
        """Return the seconds that are left, None where they cannot be told."""
        step, start = self.begun
        done, left = state.global_step - step, state.max_steps - state.global_step
        return (time.perf_counter() - start) / done * left if done and left else None

    def _line(self, state: Any) -> str:
        """Return "epoch 2/3, loss 0.048, validation accuracy 91.7%, 0:28 left"."""
        left = self._left(state)
        where = f"epoch {min(int(state.epoch or 0) + 1, state.num_train_epochs)}/{state.num_train_epochs}"
        if state.epoch and float(state.epoch).is_integer():
            where = f"epoch {int(state.epoch)}/{state.num_train_epochs}"
        rest = "" if left is None else f"{terminal.clock(left)} left"
        return ", ".join(filter(None, (where, self.loss, self.validation, rest)))


def set_trainable(model: nn.Module, names: Iterable[str]) -> None:
    """Let exactly the parameters called `names` learn. Raises KeyError for a name that the model lacks."""
    wanted = set(names)
    parameters = dict(model.named_parameters())
    missing = wanted - set(parameters)
    if missing:
        raise KeyError(f"no such parameters: {sorted(missing)[:3]}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in wanted)


def pin_frozen(module: nn.Module, plan: Plan, stage: Stage) -> Any:
    """Keep modules that must not move in eval mode while `module` trains; return the hook's handle.

    Those are all batch norms (Trainer calls `model.train()` at every step, which would move their statistics); the
    blocks under the lowest learning one and the stem, so that they put out the same states with a cache and without;
    and with `stage.body_frozen` every module without a learning parameter. Whether the body is frozen cannot be told
    from the modules: a pooler that the checkpoint lacks lies inside the body and learns with the head.

    Batch norms stay pinned when their own weights learn, too. The probe was fitted on features of the pretrained
    statistics; with batch statistics its head meets other features, and on digits the run ended
    at .917 instead of .985 (docs/log.md, 2026-11-23). Those of a head that starts at random, without a probe, learn.
    """
    first = plan.frozen_blocks(stage)  # 0 when the stem learns
    blocks = tuple(plan.path + name for name in plan.layers.modules)
    upper = (*blocks[first:], *(plan.path + name for name in plan.layers.above))
    around = {name.rpartition(".")[0] for name in blocks}
    below = {
        id(m)
        for name, m in plan.model.named_modules()
        if first and name and not is_under(name, upper) and not any(is_under(outer, (name,)) for outer in around)
    }
    head = {name for group in stage.groups if group.name == "head" and not plan.outputs for name in group.parameters}
    fresh = {id(m) for name, m in plan.model.named_modules() if f"{name}.weight" in head}
    pinned = [
        m
        for m in module.modules()
        if (isinstance(m, nn.modules.batchnorm._BatchNorm) and id(m) not in fresh)
        or id(m) in below
        or (stage.body_frozen and not any(p.requires_grad for p in m.parameters()))
    ]

    def hold(_: Any, __: Any, batch: dict[str, Any]) -> None:
        for m in pinned:
            m.training = False
        if (
            fresh and len(next(iter(batch.values()))) == 1
        ):  # one image has no spread where a pyramid pools it to a pixel
            for m in module.modules():
                m.training = m.training and not isinstance(m, nn.modules.batchnorm._BatchNorm)

    return module.register_forward_pre_hook(hold, with_kwargs=True)
