"""The names of tasks and methods, without the heavy imports of the things themselves: help and typos answer at once.

A test holds them against `TASKS` and `METHODS`.
"""

from hftl.errors import ConfigError, did_you_mean


TASK_NAMES = {
    "text-classification": "one label for one text",
    "image-classification": "one label for one image",
}
METHOD_NAMES = {
    "probe": "logistic regression on frozen features: seconds, no epochs, the first thing to try",
    "head": "a new head trained by gradient on a frozen body",
    "lora": "probe, then low-rank adapters on every layer: few parameters, a small adapter file",
    "full": "probe, then every layer at low rates, lower towards the input",
    "gradual": "probe, head, then the blocks thawed from the top, one stage after another (ULMFiT)",
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


def check_method(name: object) -> None:
    """Raise `ConfigError` for a method that there is not. None is the task's own default."""
    if name is not None and str(name) not in METHOD_NAMES:
        raise ConfigError(
            f"There is no method {name!r}; there are {', '.join(METHOD_NAMES)}.{did_you_mean(str(name), METHOD_NAMES)}"
        )
