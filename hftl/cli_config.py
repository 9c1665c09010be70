"""From the words of `hftl train` and `hftl plan` to the config of a run."""

from pathlib import Path

from hftl.config import RunConfig, build_config, read_yaml
from hftl.errors import ConfigError
from hftl.flags import Flags
from hftl.methods import check_name
from hftl.names import check_task


def read_config(verb: str, positional: list[str], flags: Flags) -> RunConfig:
    """Return the run that a TASK or config.yaml and the flags ask for. Raises `ConfigError`."""
    if len(positional) != 1:
        raise ConfigError(
            f"hftl {verb} needs one TASK or config.yaml, such as: hftl {verb} text-classification --data t.csv"
        )
    target = positional[0]
    values: Flags = {}
    if target.endswith((".yaml", ".yml")):
        values = read_yaml(Path(target))
        target = str(values.pop("task"))
    task = check_task(target)
    values.update(flags)
    check_name(values.get("method"))
    return build_config(task, values)
