"""What a model answers to some test rows, for the proof that it was saved whole and for the page: maps are not kept."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hftl.tasks.task import Answer, Task
from hftl.training.features import predict_logits


Answered = Callable[[Sequence[int] | np.ndarray], list[Answer]]  # numbers of test rows -> what is answered to them


def answered(model: Any, processor: Any, task: Task, splits: Any, outputs: Any, use_cpu: bool) -> Answered:
    """Return a function of test rows: it reads their answers from the `outputs` of all, or where these hold none answers
    them again, in this process alone.
    """

    def answer(rows: Sequence[int] | np.ndarray) -> list[Answer]:
        numbers = np.asarray(rows, dtype=np.int64)
        if task.output.keep is None:
            return list(task.output.answers(outputs[numbers], splits.labels))
        table = splits.test.select(numbers).select_columns(list(task.inputs.columns))
        encoded, collate = task.encode(table, processor), task.collator(processor)
        maps = predict_logits(model, encoded, collate, use_cpu=use_cpu, title="masks", alone=True)
        return list(task.output.answers(maps, splits.labels))

    return answer
