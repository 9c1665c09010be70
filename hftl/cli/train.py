"""`hftl plan`: read the flags of `hftl train`, and show what that run would do."""

import contextlib
import json
import os
import sys

from hftl.errors import ConfigError
from hftl.flags import Flags, is_on
from hftl.progress import quiet_libraries


def plan_verb(positional: list[str], flags: Flags) -> None:
    """Print the plan of a run as tables, or with `--json` as one document."""
    from hftl.cli_config import read_config

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("hftl plan runs in one process: start it without torchrun or accelerate launch.")
    as_json = is_on(flags, "json")
    flags.pop("json", None)
    config = read_config("plan", positional, flags)
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
