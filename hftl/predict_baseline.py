"""A saved baseline (RUN/baseline) as something that predicts like any other classifier."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import transformers
from datasets import Dataset

from hftl.errors import ModelError
from hftl.evaluation.baselines import LinearModel
from hftl.evaluation.saved_baseline import load_baseline
from hftl.paths import typed_path
from hftl.predict import Predictor, read_report
from hftl.tasks import TASKS
from hftl.tasks.task import Task


@dataclass(frozen=True)
class BaselinePredictor(Predictor):
    """A loaded baseline: `model` is a `LinearModel`; `processor` is None where it reads no images."""

    def logits(self, table: Dataset) -> np.ndarray:
        """Return the logarithm of the probabilities [n, classes] in fp32, for a table with the task's input column."""
        if len(table) == 0:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        raw = self.task.inputs.raw
        if raw is not None and self.processor is not None:
            encoded = self.task.encode(table.select_columns(list(self.task.inputs.columns)), self.processor)
            probabilities = self.model.predict_proba(raw(encoded))
        else:
            probabilities = self.model.predict_proba(table[self.task.input_column][:])
        # A label that no training row had has no probability at all; its logarithm must be a number all the same.
        return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32)


def load_baseline_predictor(folder: str | Path) -> BaselinePredictor:
    """Load a folder that `save_baseline` wrote, with the image size of the run around it.

    Raises `ModelError` when it is damaged, or when a baseline of images has lost the run's final/ beside it.
    """
    path = typed_path(folder)
    baseline = load_baseline(path)
    task = _task(baseline, path)
    processor = None
    if task.inputs.raw is not None and baseline.kind != "majority":
        final = path.resolve().parent / "final"
        try:
            processor = getattr(transformers, task.inputs.processor).from_pretrained(final, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder} reads images as {final.parent.name}/final does, which cannot be read "
                f"({' '.join(str(error).split())[:200]}): keep the two folders side by side."
            ) from None
    return BaselinePredictor(baseline, processor, task, baseline.labels)


def _task(baseline: LinearModel, path: Path) -> Task:
    """The task by what the baseline reads; the majority class reads nothing, so the run has to say."""
    kinds = {kind: task.name for task in reversed(TASKS.values()) for kind in task.inputs.features}
    report = read_report(path.resolve().parent) if baseline.kind == "majority" else None
    return TASKS[kinds.get(baseline.kind, str(report["task"]) if report else "text-classification")]
