"""The loss that every stage uses, and the guard that stops a run whose loss is no number or explodes."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from hftl.errors import TrainingError
from hftl.evaluation import RARE
from hftl.tasks import CLASSES
from hftl.tasks.task import NOT_ASKED
from hftl.training.order import draws_from
from hftl.training.world import from_every_process, largest, on_the_cpu


EXPLODED = 100.0  # times the loss of a guess (`Output.chance`; ln K among K classes)
PENDING = 32  # losses that may wait on a GPU before one look at all of them stalls it


def class_weights(rule: str, labels: np.ndarray, num_labels: int) -> tuple[np.ndarray | None, list[str]]:
    """Return one weight per class (or None) and what the report says about them.

    Balanced weights are n / (K n_k), scikit-learn's "balanced" (King & Zeng 2001): their mean over the training rows
    is 1, so that dividing by the number of rows stays exact under accumulation and on several processes.
    """
    counts = np.bincount(labels, minlength=num_labels)
    present = counts[counts > 0]
    ratio = present.max() / present.min()
    if rule == "none":
        return None, []
    note = f"--class_weights {rule}: the largest class has {ratio:.1f} times the training rows of the smallest"
    if rule == "auto":
        rule = "balanced" if ratio > RARE else "none"
        note += f", so weights are {rule} (balanced above {RARE:g} times)"
    if rule == "none":
        return None, [f"{note}."]
    return np.where(counts > 0, len(labels) / (len(present) * np.maximum(counts, 1)), 1.0), [f"{note}."]


class LossGuard(TrainerCallback):
    """Stops training at the step whose loss is no number or has exploded, before anything of it is saved.

    `collate` and `loss` are the stage's own, watched: the k-th collated training batch is the k-th whose loss is taken.
    """

    def __init__(self, collate: Callable, loss: Callable, chance: float):
        self._collate, self._loss = collate, loss
        self.limit = EXPLODED * chance
        self._batches: deque[tuple[int, list[int]]] = deque(maxlen=1024)
        self._made = self._taken = 0
        self._pending: list[tuple[int, torch.Tensor]] = []
        self._group: Any = None

    def collate(self, items: list[dict[str, Any]]) -> Any:
        """Collate, and remember the rows of a training batch, whose augmentation follows from them."""
        rows = [item.pop("row") for item in items if "row" in item]
        if not rows:
            return self._collate(items)
        self._batches.append((self._made, rows))
        self._made += 1
        with draws_from(*(item.pop("draw", 0) for item in items)):
            return self._collate(items)

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss, kept until the end of the step."""
        value = self._loss(outputs, labels, num_items_in_batch)
        if value.requires_grad:
            count = (labels != NOT_ASKED).sum().clamp(min=1)  # of none the loss is 0
            share = count / _at_least_one(count if num_items_in_batch is None else num_items_in_batch)
            self._pending.append((self._taken, value.detach() / share))
            self._taken += 1
        return value

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make the group in which the processes tell each other of a loss that is no number."""
        self._group = on_the_cpu()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise `TrainingError` for NaN, infinity, or a loss beyond any use: on all processes, whichever met it."""
        due = control.should_log or control.should_save or control.should_evaluate or len(self._pending) >= PENDING
        if not self._pending or (self._pending[0][1].is_cuda and not due):
            return
        values = torch.stack([value for _, value in self._pending]).tolist()
        numbers = [number for number, _ in self._pending]
        self._pending.clear()
        wrong = [(n, value) for n, value in zip(numbers, values, strict=True) if not value <= self.limit]  # NaN is not
        if not largest(bool(wrong), self._group):
            return
        message = self._message(*wrong[0], state.global_step, args.learning_rate) if wrong else None
        raise TrainingError(next(text for text in from_every_process(message, self._group) if text is not None))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Raise `TrainingError` when the validation loss is no number."""
        value = (logs or {}).get("eval_loss")
        if value is not None and not math.isfinite(value):
            raise TrainingError(
                f"The validation loss is {value} at step {state.global_step}. Nothing was saved. Lower "
                f"--learning_rate (it is {args.learning_rate:g}), or set --bf16 false."
            )

    def _message(self, number: int, value: float, step: int, rate: float) -> str:
        rows = next((rows for n, rows in self._batches if n == number), None)
        where = f" Its batch holds the training rows {', '.join(map(str, rows))} (counted from 0)." if rows else ""
        what = f"has exploded to {value:.3g}" if math.isfinite(value) else f"is {value:g}"
        return (
            f"The loss {what} at step {step}: training has diverged. Nothing was saved.{where} "
            f"Lower --learning_rate (it is {rate:g}), set --bf16 false, or look at those rows."
        )


def make_loss(
    label_smoothing: float,
    weights: np.ndarray | None = None,
    row_loss: Callable[..., Any] = CLASSES.loss,
    counts: np.ndarray | None = None,
) -> Any:
    """Return a `compute_loss_func`: `row_loss`, summed, over the number of rows of the whole global batch.

    The stock BERT and DistilBERT losses multiply the gradient by the accumulation steps (transformers issue 47688);
    this one is exact under accumulation and on several processes. `weights` is one factor per class [K], with mean 1
    over the training rows. With `counts` of the classes [K], their logarithms are added to the logits: the loss whose
    best answers are those for equally frequent classes (Menon et al. 2021, equation 10, tau 1). Validation losses are
    neither weighted, smoothed nor adjusted.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
        training = logits.requires_grad
        weight = (
            None if weights is None or not training else torch.tensor(weights, dtype=torch.float32).to(logits.device)
        )
        if counts is not None and training:
            logits = logits + torch.tensor(counts).log().to(logits)
        summed, count = row_loss(logits, labels, weight, label_smoothing if training else 0.0)
        return summed / _at_least_one(count if num_items_in_batch is None else num_items_in_batch)

    return loss


def _at_least_one(count: Any) -> Any:
    """Return the number of what is asked, 1 for 0: a batch of masks without a pixel that counts has the loss 0."""
    return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(1, count)
