"""What a model answers to some test rows, for the proof that it was saved whole and for the page: maps are not kept."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hftl.tasks.task import Answer, Task
from hftl.training.features import predict_logits


# numbers of test rows, or rows as `predict` takes them -> what is answered to them
Answered = Callable[[Sequence[Any] | np.ndarray], list[Answer]]


def answered(model: Any, processor: Any, task: Task, splits: Any, outputs: Any, use_cpu: bool) -> Answered:
    """Return a function of test rows: it reads their answers from the `outputs` of all, or where these hold none answers
    them again, in this process alone.
    """

    def answer(rows: Sequence[Any] | np.ndarray) -> list[Answer]:
        if task.output.keep is None:
            return list(task.output.answers(outputs[np.asarray(rows, dtype=np.int64)], splits.labels))
        if not len(rows):
            return []
        numbered = isinstance(rows[0], int | np.integer)
        table = splits.test.select(rows) if numbered else task.inputs.table(list(rows))
        table = table.select_columns(list(task.inputs.columns))
        encoded, collate = task.encode(table, processor), task.collator(processor)
        maps = predict_logits(model, encoded, collate, use_cpu=use_cpu, title="masks", alone=True)
        return list(task.output.answers(maps, splits.labels))

    return answer
