"""The tasks: what is learned and how it is scored. To add one, write its file and put its value in `TASKS`."""

from hftl.names import check_task
from hftl.tasks.image_classification import IMAGE_CLASSIFICATION
from hftl.tasks.task import Task
from hftl.tasks.text_classification import TEXT_CLASSIFICATION


TASKS: dict[str, Task] = {task.name: task for task in (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)}


def get_task(name: str) -> Task:
    """Return the task called `name` (`-` and `_` alike). Raises `ConfigError` naming the ones there are."""
    return TASKS[check_task(name)]
