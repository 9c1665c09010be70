"""Plans of tiny checkpoints."""

from pathlib import Path
from typing import Any

from hftl.adapt import complete
from hftl.config import build_config
from hftl.planning import plan_report
from tests.runs import checkpoint


TASKS = {"bert": "text-classification", "distilbert": "text-classification"}
CPU = {"use_cpu": True, "bf16": False}


def plan(folder: Path, family: str, method: str, **flags: Any) -> dict[str, Any]:
    return plan_report.plan_report(config(folder, family, method, **flags))


def config(folder: Path, family: str, method: str, **flags: Any) -> Any:
    task = TASKS.get(family, "image-classification")
    data = folder / ("t.csv" if family in TASKS else "images")
    values = {"data": str(data), "model": str(checkpoint(family, folder)), "method": method, **CPU, **flags}
    return complete(build_config(task, values))
