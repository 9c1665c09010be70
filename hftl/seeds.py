"""`--seeds n`: the same splits, n trainings, one report with mean and standard deviation."""

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hftl.config import RunConfig, to_yaml
from hftl.report.report import write_report
from hftl.report.show import show_seeds
from hftl.run_folder import check_output
from hftl.training.world import broadcast_from_main, is_main_process, wait_for_all


def seeds_folder(output_dir: Path) -> Path:
    """Where the runs of the single seeds lie until the last one is done."""
    return output_dir.with_name(output_dir.name + ".seeds")


def run_seeds(config: RunConfig, run_one: Callable[[RunConfig], dict[str, Any]]) -> dict[str, Any]:
    """Train with seeds s, s+1, ...; keep the run that is best on validation, and write what all of them reached.

    `run_one` does one run and returns its report. A resumed call takes finished seeds as they are.
    """
    output_dir = config.output_dir
    assert output_dir is not None
    check_output(output_dir, overwrite=config.overwrite, resume=config.resume)
    reports: dict[int, dict[str, Any]] = {}
    for i in range(config.seeds):
        seed = config.train_seed + i
        folder = seeds_folder(output_dir) / f"seed-{seed}"
        finished = broadcast_from_main((folder / "report.json").is_file() if is_main_process() else None)
        if finished and config.resume:
            reports[seed] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            continue
        training = {**config.training, "seed": seed}
        reports[seed] = run_one(
            replace(config, training=training, output_dir=folder, seeds=1, overwrite=not config.resume)
        )
    best = max(reports, key=lambda seed: reports[seed]["metrics"]["validation"]["macro_f1"]["value"])
    report = {**reports[best], "seeds": summary(reports, best)}
    if is_main_process():
        _keep_best(config, seeds_folder(output_dir) / f"seed-{best}", report)
        show_seeds(report["seeds"])
    wait_for_all()
    return report


def summary(reports: dict[int, dict[str, Any]], kept: int) -> dict[str, Any]:
    """Return per split and metric the values by seed, their mean and their (sample) standard deviation."""
    found: dict[str, Any] = {"seeds": list(reports), "kept": kept}
    for split in ("test", "validation"):
        found[split] = {}
        for metric in ("accuracy", "macro_f1", "log_loss"):
            raw = [r["metrics"][split][metric] for r in reports.values()]
            values = [float(v["value"] if isinstance(v, dict) else v) for v in raw]
            found[split][metric] = {
                "values": values,
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            }
    return found


def _keep_best(config: RunConfig, best: Path, report: dict[str, Any]) -> None:
    output_dir = config.output_dir
    assert output_dir is not None
    write_report(best / "report.json", report)
    (best / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    if output_dir.exists():  # --overwrite, checked before
        shutil.rmtree(output_dir)
    best.rename(output_dir)
    shutil.rmtree(seeds_folder(output_dir))
