"""What a person sees of a run on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hftl.methods.plan import Plan
from hftl.report.statements import interpolation, pooled, retention
from hftl.report.table import print_table
from hftl.report.visible import one_line


_NAMED = 3  # weak slices that the terminal names


def show_plan(plan: Plan, learning_rate: float | None) -> None:
    """Print what will train: group, parameters, learning rate, stage."""
    sizes = {name: p.numel() for name, p in plan.model.named_parameters()}
    total = sum(sizes.values())
    rows: list[tuple[str, ...]] = []
    for stage in plan.stages:
        for group in stage.groups:
            count = sum(sizes[n] for n in group.parameters)
            rate = (
                "closed form"
                if stage.solve is not None or learning_rate is None
                else f"{learning_rate * group.rate:.2e}"
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
    for rung in evidence["ladder"] if evidence else []:
        if rung.get("note"):
            print_table("Note", ("",), [(f"{rung['name']}: {rung['note']}",)])
    if evidence:
        print_table("Evidence", ("", ""), [*_evidence_rows(evidence), *parity_rows(report["parity"])])
    mixture = interpolation(report)
    if mixture:
        head = ("share of the tuned weights", f"validation {mixture['metric']}", "kept of the base")
        print_table(f"Between base and tuned model: {mixture['alpha']} was taken", head, mixture["rows"])
    for warning in report["warnings"]:
        print_table("Note", ("",), [(warning,)])
    _show_place(report, run_dir, f" ({report['timing']['total_seconds']:.0f} s)")


def _show_place(report: dict[str, Any], run_dir: str, more: str = "") -> None:
    """Say where the run is, and what loads it when plain `pipeline` does not.

    It has a page unless evidence is off, or the page could not be written.
    """
    page = f"; open {run_dir}/report.html" if (Path(run_dir) / "report.html").is_file() else ""
    lines = [(f"{run_dir}{more}; the model is in {run_dir}/final{page}",)]
    pooling = pooled(report)
    if pooling:
        loads = f'pipeline("{report["task"]}", model="{run_dir}/final", trust_remote_code=True)'
        lines.append((f"{pooling}. Its class is a file of the model: {loads} loads it; --pooling native avoids it",))
    print_table("Run", ("",), lines)


def _evidence_rows(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Verdict, advice, forgetting, calibration and what the doctor found, a line each."""
    verdict, forgetting = evidence["verdict"], evidence["forgetting"]
    bounds = f"95% {100 * verdict['low']:+.1f} to {100 * verdict['high']:+.1f}; McNemar p {verdict['p']:.2g}"
    kind = f" ({verdict['kind'].lower()})" if verdict["kind"] else ""
    rows = [
        (
            f"{verdict['label']} transfer{kind}",
            f"{100 * verdict['gap']:+.1f} points against {verdict['against']} ({bounds})",
        )
    ]
    rows += [("advice", f"{a['advice']}: {a['reason']}") for a in verdict["advice"]]
    if forgetting and forgetting["unchanged"]:
        rows.append(("kept of the base", "all: its body did not change, so nothing was measured"))
    elif forgetting and forgetting["kept"] is not None:
        rows.append(
            (
                "kept of the base",
                f"{forgetting['kept']:.1%} of its features can still be read ({retention(forgetting)})",
            )
        )
    calibration = evidence["calibration"]
    ece = [calibration[when]["ece"] for when in ("before", "after")]
    rows.append(("calibration error", f"{ece[0]:.3f}, with temperature {calibration['temperature']:.2f} {ece[1]:.3f}"))
    rows += [
        *_abstain_rows(evidence["abstain"]),
        *_slice_rows(evidence["slices"]),
        *_suspect_rows(evidence["suspects"]),
    ]
    rows += [
        (f"doctor: {f['level']}", f"{f['check']} ({f['count']}): {f['fix']}")
        for f in evidence["doctor"]
        if f["level"] in ("WARN", "FAIL")
    ]
    return rows


def _abstain_rows(abstain: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what answering only when sure would bring; nothing where no threshold was found or none is needed."""
    right = abstain["test_precision"]
    if not abstain["threshold"] or right is None:
        return []
    return [
        (
            "abstain",
            f"if it only answers when at least {abstain['threshold']:.1%} confident: {right['value']:.1%} right "
            f"(95% {100 * right['low']:.1f} to {100 * right['high']:.1f}; target {abstain['precision']:.0%}), "
            f"{abstain['coverage']:.1%} of the rows answered",
        )
    ]


def _slice_rows(slices: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the slices that are worse than the rest by more than chance, the worst first."""
    weak = sorted((s for s in slices if s["weak"]), key=lambda s: s["accuracy"]["value"])
    if not weak:
        return []
    named = [
        f"{one_line(str(s['by']))} {one_line(str(s['slice']))} {s['accuracy']['value']:.1%} ({s['count']} rows)"
        for s in weak[:_NAMED]
    ]
    more = f", and {len(weak) - _NAMED} more" if len(weak) > _NAMED else ""
    return [("weak slices", f"{', '.join(named)}{more}")]


def _suspect_rows(suspects: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return how many training labels a probe that has not seen the row contradicts."""
    if not suspects:
        return []
    sure = sum(s["confident"] for s in suspects)
    return [
        ("labels to look at", f"report.json names {len(suspects)} training rows, {sure} contradicted with confidence")
    ]


def parity_rows(parity: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line per artifact that was loaded and compared in a process of its own."""
    return [
        (
            f"parity of {where}",
            checked["note"]
            or f"{checked['rows']} rows ({checked['origin']}), the same labels without hftl; probabilities differ by at "
            f"most {checked['max_difference']:.1g}",
        )
        for where, checked in parity.items()
    ]


def _cells(scores: dict[str, Any]) -> tuple[str, str]:
    return tuple(
        f"{scores[k]['value']:.3f} [{scores[k]['low']:.3f}, {scores[k]['high']:.3f}]" for k in ("accuracy", "macro_f1")
    )  # type: ignore[return-value]


def show_seeds(report: dict[str, Any], run_dir: str, news: Sequence[str] = ()) -> None:
    """Print mean and standard deviation over the seeds, `news`, and where the one that is kept lies now."""
    seeds = report["seeds"]
    rows = [
        (split, metric, f"{spread['mean']:.4f} ± {spread['std']:.4f}", " ".join(f"{v:.4f}" for v in spread["values"]))
        for split in ("test", "validation")
        for metric, spread in seeds[split].items()
    ]
    title = f"{len(seeds['seeds'])} seeds; kept: {seeds['kept']}, the best on validation"
    print_table(title, ("split", "metric", "mean ± deviation", "by seed"), rows)
    for warning in news:
        print_table("Note", ("",), [(warning,)])
    _show_place(report, run_dir)
