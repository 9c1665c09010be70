"""The loss that every stage uses, and the guard that stops a run whose loss is no number."""

from typing import Any

import torch
import torch.nn.functional as F
from transformers import TrainerCallback

from hftl.errors import TrainingError


def make_loss(label_smoothing: float) -> Any:
    """Return a `compute_loss_func`: summed cross entropy over the number of rows of the whole global batch.

    The stock BERT and DistilBERT losses multiply the gradient by the accumulation steps (transformers issue 47688);
    this one is exact under accumulation and on several processes.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
        summed = F.cross_entropy(
            logits.float(), labels, reduction="sum", label_smoothing=label_smoothing if logits.requires_grad else 0.0
        )
        return summed / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


class LossGuard(TrainerCallback):
    """Stops training at the first logged loss or gradient norm that is not a number."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Raise `TrainingError` for NaN or infinity."""
        for key in ("loss", "eval_loss"):
            value = (logs or {}).get(key)
            if value is not None and not torch.isfinite(torch.tensor(float(value))):
                raise TrainingError(
                    f"The {key} is {value} at step {state.global_step}: training has diverged. Nothing was saved. "
                    f"Lower --learning_rate (it is {args.learning_rate:g}), or set --bf16 false."
                )
