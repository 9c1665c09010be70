"""`--seeds n`: the same splits, n trainings, one report with mean and standard deviation."""

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hftl.atomic import put_in_place
from hftl.config import RunConfig, same_flags, to_yaml
from hftl.errors import RunError
from hftl.evidence.page import write_page_again
from hftl.publishing.save import write_card
from hftl.report.report import write_report
from hftl.report.show import show_seeds
from hftl.run_folder import check_output
from hftl.selection.race_plan import stored_race
from hftl.tasks import task_of
from hftl.training.world import broadcast_from_main, is_main_process, wait_for_all


def seeds_folder(output_dir: Path) -> Path:
    """Where the runs of the single seeds lie until the last one is done."""
    return output_dir.with_name(output_dir.name + ".seeds")


def run_seeds(config: RunConfig, run_one: Callable[[RunConfig], dict[str, Any]]) -> dict[str, Any]:
    """Train with seeds s, s+1, ...; keep the run that is best on validation, and write what all of them reached.

    `run_one` does one run and returns its report. A resumed call takes finished seeds as they are. Raises `RunError`
    when they were made with other flags, or would be lost.
    """
    output_dir = config.output_dir
    assert output_dir is not None
    check_output(output_dir, overwrite=config.overwrite, resume=config.resume)
    if broadcast_from_main(seeds_folder(output_dir).exists()) and not config.resume and not config.overwrite:
        raise RunError(
            f"{seeds_folder(output_dir)} holds seeds of a run that was cut off. Add --resume to go on with it, or "
            "--overwrite to start anew."
        )
    reports: dict[int, dict[str, Any]] = {}
    configs: dict[int, RunConfig] = {}
    for i in range(config.seeds):
        seed = config.train_seed + i
        folder = seeds_folder(output_dir) / f"seed-{seed}"
        training = {**config.training, "seed": seed}
        one = stored_race(replace(config, training=training, output_dir=folder, seeds=1, overwrite=not config.resume))
        configs[seed] = one
        finished = broadcast_from_main(_finished(folder, (one, config)) if is_main_process() else None)
        if isinstance(finished, RunError):
            raise finished
        reports[seed] = finished or run_one(one)
    output = task_of(next(iter(reports.values()))).output
    best = max(reports, key=lambda seed: value_of(reports[seed]["metrics"]["validation"][output.best]))
    report = {**reports[best], "seeds": summary(reports, best)}
    folder = seeds_folder(output_dir) / f"seed-{best}"
    if report["evidence"]:  # its page was written before the other seeds were known, and names the folder of now
        report = write_page_again(folder, configs[best], report, output_dir)
    if is_main_process():
        _keep_best(config, folder, report)
        news = [w for w in report["warnings"] if w not in reports[best]["warnings"]]
        show_seeds(report, str(output_dir), news)
    wait_for_all()
    return broadcast_from_main(report)


def value_of(figure: Any) -> float:
    """Return a figure of a report: that with an interval is a table."""
    return float(figure["value"] if isinstance(figure, dict) else figure)


def summary(reports: dict[int, dict[str, Any]], best: int) -> dict[str, Any]:
    """Return per split and metric the values by seed, their mean and their (sample) standard deviation."""
    metrics = (*task_of(reports[best]).output.compared, "log_loss")
    result: dict[str, Any] = {"seeds": list(reports), "kept": best}
    for split in ("test", "validation"):
        result[split] = {}
        for metric in (name for name in reports[best]["metrics"][split] if name in metrics):
            values = [value_of(r["metrics"][split][metric]) for r in reports.values()]
            result[split][metric] = {
                "values": values,
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            }
    return result


def _finished(folder: Path, configs: tuple[RunConfig, RunConfig]) -> dict[str, Any] | RunError | None:
    """The report of the run in `folder`, which `--resume` takes; an error when none of `configs` made it."""
    if not configs[0].resume or not (folder / "report.json").is_file():
        return None
    stored = (folder / "config.yaml").read_text(encoding="utf-8")
    if not any(same_flags(stored, to_yaml(config)) for config in configs):
        return RunError(f"{folder} was made with other flags. Use the same ones, or --overwrite to start anew.")
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _keep_best(config: RunConfig, best: Path, report: dict[str, Any]) -> None:
    output_dir = config.output_dir
    assert output_dir is not None
    write_report(best / "report.json", report)
    (best / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    write_card(best / "final", report)  # the card too shows what all seeds reached
    put_in_place(best, output_dir)  # with --overwrite in place of another run, checked before
    shutil.rmtree(seeds_folder(output_dir))
