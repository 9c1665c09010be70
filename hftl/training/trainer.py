"""The one subclass of Trainer: our parameter groups, and checkpoints that come back whole."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, Trainer
from transformers.utils import SAFE_WEIGHTS_NAME

from hftl.methods.plan import Group
from hftl.training.inputs import OnFeatures
from hftl.training.replay import OnStates


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
