"""The tasks: what is learned and how it is scored. A new one is one new half at most, and one value here."""

from hftl.config import check_task
from hftl.tasks.inputs.image import IMAGE
from hftl.tasks.inputs.text import TEXT
from hftl.tasks.outputs.classes import CLASSES
from hftl.tasks.task import Inputs, Task


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "text-classification",
            "one label for one text",
            TEXT,
            CLASSES,
            auto_model="AutoModelForSequenceClassification",
            default_model="distilbert/distilbert-base-uncased",
            default_method="lora",
            pipeline_options={"truncation": True},
        ),
        Task(
            "image-classification",
            "one label for one image",
            IMAGE,
            CLASSES,
            auto_model="AutoModelForImageClassification",
            default_model="google/vit-base-patch16-224-in21k",
            default_method="full",
        ),
    )
}
INPUTS: dict[str, Inputs] = {task.inputs.kind: task.inputs for task in TASKS.values()}


def get_task(name: str) -> Task:
    """Return the task called `name` (`-` and `_` alike). Raises `ConfigError` naming the ones there are."""
    return TASKS[check_task(name)]
