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
    """Print the ladder on the same test rows, the verdict, and where the run is."""
    evidence = report["evidence"]
    rows = [(r["name"], *_cells(r)) for r in (evidence["ladder"] if evidence else [])]
    if not rows:
        rows = [(f"{report['method']} ({report['model']['name']})", *_cells(report["metrics"]["test"]))]
    print_table(f"Test, {report['data']['rows']['test']} rows", ("model", "accuracy", "macro F1"), rows)
    if evidence:
        print_table("Evidence", ("", ""), [*_evidence_rows(evidence), *parity_rows(report["parity"])])
    for warning in report["warnings"]:
        print_table("Note", ("",), [(warning,)])
    seconds = report["timing"]["total_seconds"]
    page = f"; open {run_dir}/report.html" if evidence else ""
    print_table("Run", ("",), [(f"{run_dir} ({seconds:.0f} s); the model is in {run_dir}/final{page}",)])


def _evidence_rows(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Verdict, advice, forgetting, calibration and what the doctor found, a line each."""
    verdict, kept = evidence["verdict"], evidence["forgetting"]
    bounds = f"95% {100 * verdict['low']:+.1f} to {100 * verdict['high']:+.1f}; McNemar p {verdict['p']:.2g}"
    rows = [
        (f"{verdict['label']} transfer", f"{100 * verdict['gap']:+.1f} points against {verdict['against']} ({bounds})")
    ]
    rows += [("advice", f"{a['advice']}: {a['reason']}") for a in verdict["advice"]]
    if kept and kept["kept"] is not None:
        rows.append(("kept of the base", f"{kept['kept']:.1%} of what a linear model could read from its features"))
    calibration = evidence["calibration"]
    ece = [calibration[when]["ece"] for when in ("before", "after")]
    rows.append(("calibration error", f"{ece[0]:.3f}, with temperature {calibration['temperature']:.2f} {ece[1]:.3f}"))
    rows += [
        (f"doctor: {f['level']}", f"{f['check']} ({f['count']}): {f['mend']}")
        for f in evidence["doctor"]
        if f["level"] != "PASS"
    ]
    return rows


def parity_rows(parity: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line per artifact that was loaded and compared in a process of its own."""
    return [
        (
            f"parity of {where}",
            found["note"]
            or f"{found['rows']} rows ({found['origin']}), the same labels without hftl; probabilities differ by at "
            f"most {found['max_difference']:.1g}",
        )
        for where, found in parity.items()
    ]


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
