"""The tasks: what is learned and how it is scored. A new one is one new half at most, and one value here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hftl.config import check_task
from hftl.tasks.inputs.image import IMAGE
from hftl.tasks.inputs.pair import PAIR
from hftl.tasks.inputs.pixels import PIXELS
from hftl.tasks.inputs.text import TEXT
from hftl.tasks.inputs.words import WORDS
from hftl.tasks.outputs.classes import CLASSES
from hftl.tasks.outputs.labels import LABELS
from hftl.tasks.outputs.masks import MASKS
from hftl.tasks.outputs.number import NUMBER
from hftl.tasks.outputs.tags import TAGS
from hftl.tasks.task import Inputs, Task


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "text-classification",
            "a class, several labels or a number for a text or a pair of texts",
            TEXT,
            CLASSES,
            auto_model="AutoModelForSequenceClassification",
            default_model="distilbert/distilbert-base-uncased",
            pipeline_options={"truncation": True},
        ),
        Task(
            "image-classification",
            "a class, several labels or a number for an image",
            IMAGE,
            CLASSES,
            auto_model="AutoModelForImageClassification",
            default_model="google/vit-base-patch16-224-in21k",
        ),
        Task(
            "token-classification",
            "a tag for every word: entities in a text",
            WORDS,
            TAGS,
            auto_model="AutoModelForTokenClassification",
            default_model="distilbert/distilbert-base-uncased",
        ),
        Task(
            "image-segmentation",
            "a class for every pixel of an image",
            PIXELS,
            MASKS,
            auto_model="AutoModelForSemanticSegmentation",
            default_model="nvidia/mit-b0",
        ),
    )
}
# What the inputs and the output of a task may be instead; the columns of the data say which.
_INSTEAD: dict[str, tuple[tuple[Inputs, ...], tuple[Any, ...]]] = {
    "text-classification": ((PAIR,), (LABELS, NUMBER)),
    "image-classification": ((), (LABELS, NUMBER)),
}
# In the order of the tasks; of those with inputs of one kind the first one's.
_TWICE = (*TASKS.values(), *reversed(TASKS.values()))
INPUTS: dict[str, Inputs] = {task.inputs.kind: task.inputs for task in _TWICE} | {PAIR.kind: PAIR}


def combinations(name: str) -> list[Task]:
    """Return the task called `name` with each of its inputs and outputs, the usual ones first."""
    task = TASKS[name]
    inputs, outputs = _INSTEAD.get(name, ((), ()))
    return [replace(task, inputs=i, output=o) for o in (task.output, *outputs) for i in (task.inputs, *inputs)]


def get_task(name: str, problem_type: str | None = None, inputs: str | None = None) -> Task:
    """Return the task called `name` (`-` and `_` alike), by default with its usual output and inputs.

    `problem_type` is that of the output, `inputs` the kind of the inputs. Raises `ConfigError` naming the tasks there are.
    """
    task = TASKS[check_task(name)]
    problem, kind = problem_type or task.output.problem_type, inputs or task.inputs.kind
    return next(t for t in combinations(task.name) if (t.output.problem_type, t.inputs.kind) == (problem, kind))


def task_of(report: Mapping[str, Any]) -> Task:
    """Return the task of a report."""
    return get_task(str(report["task"]), report.get("problem_type"), report.get("inputs"))
