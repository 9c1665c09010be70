"""The one subclass of Trainer: our parameter groups, checkpoints that come back complete; and what must not move."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, Trainer
from transformers.utils import SAFE_WEIGHTS_NAME

from hftl.methods.plan import Group, Plan, Stage
from hftl.models.layers import is_under
from hftl.training.replay import OnFeatures, OnStates


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
                members = [parameters[n] for n in group.parameters if (n in decayed) is decay]
                if members:
                    rate = self.args.learning_rate * group.rate
                    weight_decay = self.args.weight_decay if decay else 0.0
                    groups.append({"params": members, "lr": rate, "weight_decay": weight_decay})
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
        if isinstance(self.model, OnStates | OnFeatures):
            self._save_learning(self.model, output_dir or str(self.args.output_dir))
        elif not isinstance(self.model, PreTrainedModel):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = output_dir or str(self.args.output_dir)
            self.model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)

    def _save_learning(self, model: torch.nn.Module, folder: str) -> None:
        """Of a model that runs on stored states, only what learns changes; the rest stays in memory as it is."""
        if self.args.should_save:
            Path(folder).mkdir(parents=True, exist_ok=True)
            learning = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}
            save_file(learning, Path(folder) / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})


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
    at .917 instead of .985 (docs/log.md, 2026-11-23).
    """
    below = {id(m) for m in _below(plan, plan.frozen_blocks(stage))}
    pinned = [
        m
        for m in module.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
        or id(m) in below
        or (stage.body_frozen and not any(p.requires_grad for p in m.parameters()))
    ]

    def hold(*_: Any) -> None:
        for m in pinned:
            m.training = False

    return module.register_forward_pre_hook(hold)


def _below(plan: Plan, first: int) -> list[nn.Module]:
    """Modules of the stem and of the blocks under block `first`; none when the stem learns."""
    if first == 0:
        return []
    blocks = tuple(plan.path + name for name in plan.layers.modules)
    upper = (*blocks[first:], *(plan.path + name for name in plan.layers.above))
    return [
        m
        for name, m in plan.model.named_modules()
        if not is_under(name, upper)
        and not any(is_under(block, (name,)) and block != name for block in blocks)
        and name
    ]
