"""`hftl plan`: read the flags of `hftl train`, and show what that run would do."""

import contextlib
import json
import os
import sys
from pathlib import Path

from hftl.errors import ConfigError
from hftl.flags import Flags
from hftl.progress import quiet_libraries


def plan_verb(positional: list[str], flags: Flags) -> None:
    """Print the plan of a run as tables, or with `--json` as one document."""
    from hftl.config import build_config, read_yaml
    from hftl.names import check_method, check_task

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("hftl plan runs in one process: start it without torchrun or accelerate launch.")
    if len(positional) != 1:
        raise ConfigError(
            "hftl plan needs one TASK or config.yaml, such as: hftl plan text-classification --data t.csv"
        )
    target = positional[0]
    values: Flags = {}
    if target.endswith((".yaml", ".yml")):
        values = read_yaml(Path(target))
        target = str(values.pop("task"))
    as_json = flags.pop("json", False)
    task = check_task(target)
    values.update(flags)
    check_method(values.get("method"))
    config = build_config(task, values)
    from hftl.adapt import complete
    from hftl.planning.plan_report import plan_report
    from hftl.planning.show import show_plan_report

    quiet_libraries()
    with contextlib.redirect_stdout(sys.stderr):
        report = plan_report(complete(config))
    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False, default=str) + "\n")
    else:
        show_plan_report(report)
