"""The names of tasks, without the heavy imports of the things themselves: help and typos answer at once.

A test holds them against `TASKS`.
"""

from hftl.errors import ConfigError, did_you_mean


TASK_NAMES = {
    "text-classification": "one label for one text",
    "image-classification": "one label for one image",
}


def check_task(name: object) -> str:
    """Return the task's name (`-` and `_` alike). Raises `ConfigError` naming the ones there are."""
    if not isinstance(name, str):
        raise ConfigError(f"A task is named by one of {', '.join(TASK_NAMES)}, not by {name!r:.60}.")
    key = name.replace("_", "-")
    if key not in TASK_NAMES:
        raise ConfigError(
            f"There is no task {name!r}; there are {', '.join(TASK_NAMES)}.{did_you_mean(key, TASK_NAMES)}"
        )
    return key
