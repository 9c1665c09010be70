"""What a person sees of a run on the terminal."""

from typing import Any

from hftl.methods.plan import Plan
from hftl.report.table import print_table


def show_plan(plan: Plan, learning_rate: float | None) -> None:
    """Print what will train: group, parameters, learning rate, stage."""
    sizes = {name: p.numel() for name, p in plan.model.named_parameters()}
    total = sum(sizes.values())
    rows: list[tuple[str, ...]] = []
    for stage in plan.stages:
        for group in stage.groups:
            count = sum(sizes[n] for n in group.parameters)
            rate = (
                "closed form" if stage.share is None or learning_rate is None else f"{learning_rate * group.rate:.2e}"
            )
            rows.append((stage.name, group.name, f"{count:,}", f"{count / total:.2%}", rate))
    print_table("What will train", ("stage", "group", "parameters", "of all", "learning rate"), rows)


def show_result(report: dict[str, Any], run_dir: str) -> None:
    """Print the method beside the baselines on the same test rows, and where the run is."""
    rows = [(b["name"], *_cells(b)) for b in report["baselines"]]
    rows.append((f"{report['method']} ({report['model']['name']})", *_cells(report["metrics"]["test"])))
    print_table(f"Test, {report['data']['rows']['test']} rows", ("model", "accuracy", "macro F1"), rows)
    for warning in report["warnings"]:
        print_table("Note", ("",), [(warning,)])
    seconds = report["timing"]["total_seconds"]
    print_table("Run", ("",), [(f"{run_dir} ({seconds:.0f} s); the model is in {run_dir}/final",)])


def _cells(scores: dict[str, Any]) -> tuple[str, str]:
    return tuple(
        f"{scores[k]['value']:.3f} [{scores[k]['low']:.3f}, {scores[k]['high']:.3f}]" for k in ("accuracy", "macro_f1")
    )  # type: ignore[return-value]


def show_seeds(seeds: dict[str, Any]) -> None:
    """Print mean and standard deviation over the seeds."""
    rows = [
        (split, metric, f"{found['mean']:.4f} ± {found['std']:.4f}", " ".join(f"{v:.4f}" for v in found["values"]))
        for split in ("test", "validation")
        for metric, found in seeds[split].items()
    ]
    title = f"{len(seeds['seeds'])} seeds; kept: {seeds['kept']}, the best on validation"
    print_table(title, ("split", "metric", "mean ± deviation", "by seed"), rows)
