"""Forward passes outside Trainer, sharded over the processes: frozen features, and the logits of a finished model."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from hftl.errors import DataError
from hftl.models.heads import counted_tokens, pick_features
from hftl.tasks.task import NOT_ASKED
from hftl.tasks.task import Encoded as Encoded
from hftl.terminal import progress
from hftl.training.checkpoints import end_if_asked
from hftl.training.precision import autocast, exact_fp32
from hftl.training.windows import in_windows


Batch = dict[str, torch.Tensor]
Beside = Callable[[Encoded], AbstractContextManager[Any]]  # what else is done with the batches of a pass
BATCH_TOKENS = 4096  # tokens of a forward batch, so that long texts come in smaller batches
BATCH_ROWS = 32
# Rows of a forward batch that puts out a map for each: those of 80 classes at 640 pixels fill half a gigabyte.
MAPS = 4


def batches_by_length(lengths: np.ndarray, most: int = BATCH_ROWS) -> list[list[int]]:
    """Cut the rows, longest first, into batches of similar length, so that little is padded.

    The cut does not depend on the number of processes, so that the features do not either.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        size = int(np.clip(BATCH_TOKENS // max(1, lengths[order[start]]), 1, most))
        batches.append([int(i) for i in order[start : start + size]])
        start += size
    return batches


def _answered(model: Any, batch: Batch) -> Any:
    """Call the model. BART, T5 and their like read the state of the end mark, and cannot when a text itself holds one."""
    try:
        return model(**batch)
    except ValueError as error:
        if "<eos>" not in str(error):
            raise
        raise DataError(
            "A text holds the model's own end mark (</s>), so that the model cannot tell where the text ends. "
            "Remove the mark from the texts."
        ) from error


@contextmanager
def head_watched(model: Any, outputs: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Collect, in each forward pass, what the Linears named `outputs` read, by name, and the body's last "states"."""
    seen: dict[str, Any] = {}
    with ExitStack() as hooks:
        hooks.enter_context(model.base_model.register_forward_hook(lambda _, __, out: seen.update(states=out[0])))
        for name in outputs:
            linear = model.get_submodule(name)
            note = linear.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
            hooks.enter_context(note)
        yield seen


def read_by_head(model: Any, outputs: tuple[str, ...], seen: dict[str, Any], batch: Batch) -> torch.Tensor:
    """Return what the head read of each row, side by side, [n, d], from what `head_watched` collected."""
    by_token = any(seen[name].dim() == 3 for name in outputs)
    counts = counted_tokens(model, batch) if by_token else None
    return torch.cat([pick_features(seen[name], counts) for name in outputs], dim=1)


@dataclass(frozen=True)
class Passer:
    """How rows pass through a model without gradient: their collator, the device, the number format."""

    collate: Callable
    use_cpu: bool
    bf16: bool = False
    alone: bool = False  # does this process answer all rows, without the others?

    def run(
        self,
        model: Any,
        encoded: Encoded,
        use: Callable[[list[int], Any, Batch], None],
        title: str,
        shard: tuple[int, int] | None = None,
    ) -> int:
        """Run every row through `model` in eval mode, in batches of similar length; return the number of processes.

        `use(rows, output, batch)` gets the row numbers, what the model put out, and the batch with its labels.
        Batches are shared out over the processes, or as `shard` (index, count) says.
        """
        # An Accelerator must not outlive this function: TrainingArguments resets the state it stands on.
        accelerator = Accelerator(cpu=self.use_cpu)
        alone = (0, 1) if self.alone else (accelerator.process_index, accelerator.num_processes)
        index, count = shard or alone
        most = BATCH_ROWS if encoded.keep is None else MAPS if encoded.window is None else 1
        mine = batches_by_length(encoded.lengths, most)[index::count]
        # A generator of its own: else a run that finds its features in the cache would start LoRA from other numbers.
        loader = DataLoader(encoded, batch_sampler=mine, collate_fn=self.collate, generator=torch.Generator())
        model = model.to(accelerator.device).eval()
        read = model if encoded.window is None else partial(in_windows, model, encoded.window)
        with torch.inference_mode(), autocast(accelerator.device, self.bf16):
            for rows, batch in zip(mine, progress(loader, title, "batch"), strict=True):
                batch = {k: v.to(accelerator.device) for k, v in batch.items()}
                inputs = {k: v for k, v in batch.items() if k != "labels"}
                use(rows, _answered(read, inputs), batch)
                end_if_asked()
        return 1 if self.alone else int(accelerator.num_processes)

    def outputs(
        self,
        model: Any,
        encoded: Encoded,
        read: Callable[[Any, Batch], Batch],
        title: str,
        also: Callable[[list[int], Batch], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run every row through `model` and return what `read(output, batch)` picks, as [n, ...] arrays in fp32.

        Where units are answered, the arrays are [units, ...]: 0 for a unit without a place. Rows are shared out over the processes and come back complete and in order on every one of them.
        `also(rows, batch)` is called after every batch of this process.
        """
        out: dict[str, np.ndarray] = {}  # written in place: the logits of many rows and classes are gigabytes
        mine: list[int] = []

        def put(rows: list[int], values: dict[str, np.ndarray]) -> None:
            for key, value in values.items():
                if key not in out:
                    make = np.empty if encoded.units is None else np.zeros
                    out[key] = make((encoded.count, *value.shape[1:]), dtype=np.float32)
                out[key][encoded.places(rows)] = value

        def use(rows: list[int], output: Any, batch: Batch) -> None:
            put(rows, {k: v.float().cpu().numpy() for k, v in read(output, batch).items()})
            mine.extend(rows)
            if also is not None:
                also(rows, batch)

        if self.run(model, encoded, use, title) > 1:
            places = encoded.places(mine)
            for rows, values in gather_object([(mine, {key: array[places] for key, array in out.items()})]):
                put(rows, values)
        return out

    def features(
        self,
        model: Any,
        outputs: tuple[str, ...],
        encoded: Encoded,
        title: str,
        *,
        mean: bool = False,
        beside: Beside | None = None,
    ) -> dict[str, np.ndarray]:
        """Return {"native": [n, d]} and, when `mean`, {"mean": [n, hidden]} for every row, or unit, in order.

        `native` is the input of the Linears named `outputs`, side by side; `mean` the average of the body's last
        states over the tokens that are not padding. `beside` is `StateMaker.beside`.
        """

        def read(_: Any, batch: Batch) -> Batch:
            mask = batch.get("attention_mask")
            if encoded.units is None:
                picked = {"native": read_by_head(model, outputs, seen, batch)}
            else:
                picked = {"native": torch.cat([asked(seen[name], batch) for name in outputs], dim=1)}
            if mean and mask is not None:
                weights = mask.unsqueeze(-1).float()
                picked["mean"] = (seen["states"].float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return picked

        with head_watched(model, outputs) as seen, beside(encoded) if beside else nullcontext() as also:
            return self.outputs(model, encoded, read, title, also)

    def logits(self, model: Any, encoded: Encoded, title: str) -> Any:
        """Return the logits [n, labels]; of units, by row."""

        if encoded.keep is not None:
            return self._kept(model, encoded, title)

        def read(out: Any, batch: Batch) -> Batch:
            return {"logits": out.logits if encoded.units is None else asked(out.logits, batch)}

        return encoded.by_row(self.outputs(model, encoded, read, title)["logits"])

    def _kept(self, model: Any, encoded: Encoded, title: str) -> np.ndarray:
        """Return what `Encoded.keep` makes of every row's map, [n, k] or objects [n], and let the maps go."""
        by_row: dict[int, Any] = {}
        encoded = encoded.once()

        def use(rows: list[int], output: Any, _: Batch) -> None:
            for row, logits in zip(rows, output.logits, strict=True):
                by_row[row] = encoded.keep(logits, encoded.targets[row])  # type: ignore[misc]

        if self.run(model, encoded, use, title) > 1:
            for others in gather_object([by_row]):
                by_row.update(others)
        rows = [by_row[row] for row in range(len(encoded))]
        if rows and isinstance(rows[0], np.ndarray):
            return np.stack(rows)
        objects = np.empty(len(rows), dtype=object)
        objects[:] = rows
        return objects


def asked(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return those of [b, places, ...] that stand at places which are answered, in order."""
    return values[batch["labels"] != NOT_ASKED]


def predict_logits(
    model: Any, encoded: Encoded, collate: Callable, *, use_cpu: bool, title: str = "evaluate", alone: bool = False
) -> Any:
    """Return the logits [n, labels], of units by row, in fp32: what plain `pipeline` will compute from the saved weights.

    `alone` says that no other process calls this.
    """
    with exact_fp32():
        return Passer(collate, use_cpu, alone=alone).logits(model, encoded, title)
