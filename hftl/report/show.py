"""What a person sees of a run on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hftl.methods.plan import Plan
from hftl.report import statements
from hftl.report.limits import weak_slices
from hftl.report.statements import score_name, scores_of
from hftl.report.table import print_table
from hftl.report.views import ladder


def show_plan(plan: Plan, learning_rate: float | None) -> None:
    """Print what will train: group, parameters, learning rate, stage."""
    sizes = {name: p.numel() for name, p in plan.model.named_parameters()}
    total = sum(sizes.values())
    rows: list[tuple[str, ...]] = []
    for stage in plan.stages:
        for group in stage.groups:
            count = sum(sizes[n] for n in group.parameters)
            solved = stage.solve is not None or learning_rate is None
            rate = "closed form" if solved else f"{learning_rate * group.rate:.2e}"  # type: ignore[operator]
            rows.append((stage.name, group.name, f"{count:,}", f"{count / total:.2%}", rate))
    print_table("What will train", ("stage", "group", "parameters", "of all", "learning rate"), rows)


def show_result(report: dict[str, Any], run_dir: str) -> None:
    """Print the ladder on the same test rows, the verdict, and where the run is."""
    evidence = report["evidence"] or {}
    rungs = ladder(report, evidence)
    names = [name for name in scores_of(report) if name in rungs[0]]  # mean average precision needs more than answers
    rows = [(r["name"], *("{value:z.3f} [{low:z.3f}, {high:z.3f}]".format(**r[k]) for k in names)) for r in rungs]
    print_table(f"Test, {report['data']['rows']['test']} rows", ("model", *(score_name(k) for k in names)), rows)
    if evidence:
        print_table("Evidence", ("", ""), [*_evidence_rows(report, evidence), *parity_rows(report["parity"], report)])
    race = statements.race(report)
    if race:
        print_table("Race", ("",), [(str(race),)])
    mixture = statements.interpolation(report)
    if mixture:
        head = ("share of the tuned weights", f"validation {mixture['metric']}", "kept of the base")
        print_table(f"Between base and tuned model: {mixture['alpha']} was taken", head, mixture["rows"])
    _show_notes([*(f"{r['name']}: {r['note']}" for r in rungs if r["note"]), *report["warnings"]])
    _show_place(report, run_dir, f" ({report['timing']['total_seconds']:.0f} s)")


def _show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_table("Note", ("",), [(note,)])


def _show_place(report: dict[str, Any], run_dir: str, more: str = "") -> None:
    """Say where the run is, and what loads it when plain `pipeline` does not.

    It has a page unless evidence is off, or the page could not be written.
    """
    page = f"; open {run_dir}/report.html" if (Path(run_dir) / "report.html").is_file() else ""
    lines = [(f"{run_dir}{more}; the model is in {run_dir}/final{page}",)]
    pooling = statements.pooled(report)
    if pooling:
        loads = f'pipeline("{report["task"]}", model="{run_dir}/final", trust_remote_code=True)'
        lines.append((f"{pooling}. Its class is a file of the model: {loads} loads it; --pooling native avoids it",))
    print_table("Run", ("",), lines)


def _evidence_rows(report: dict[str, Any], evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Verdict, advice, forgetting, calibration and what the doctor found, a line each."""
    verdict, forgetting, suspects = evidence["verdict"], evidence.get("forgetting"), evidence.get("suspects")
    kind = f" ({verdict['kind'].lower()})" if verdict["kind"] else ""
    rows = [(f"{verdict['label']} transfer{kind}", str(statements.banner(report, evidence)["sentence"]))]
    steps = (((a["advice"], a["flags"]), a["reason"]) for a in verdict["advice"])
    rows += [("next", f"{' '.join(filter(None, step))}: {reason}") for step, reason in steps]
    if forgetting:
        rows.append(("kept of the base", str(statements.kept_of_base(forgetting))))
    rows += [(name, str(said)) for name, said in statements.certainty_by_name(evidence)]
    rows += [("weak slice", str(slice_words)) for slice_words in weak_slices(report, evidence)]
    if suspects:
        sure = sum(s["confident"] for s in suspects)
        words = f"report.json names {len(suspects)} training rows, {sure} contradicted with confidence"
        rows.append(("labels to look at", words))
    findings = [f for f in evidence["doctor"] if f["level"] in ("WARN", "FAIL")]
    return rows + [(f"doctor: {f['level']}", f"{f['check']} ({f['count']}): {f['fix']}") for f in findings]


def parity_rows(parity: dict[str, Any], report: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """Return a line per artifact that was loaded and compared in a process of its own; `report` names what it answers."""
    same = {"same": statements.output_of(report).words["same"]} if report else {}
    return [(f"parity of {where}", str(statements.compared(where, check, **same))) for where, check in parity.items()]


def show_seeds(report: dict[str, Any], run_dir: str, news: Sequence[str] = ()) -> None:
    """Print mean and standard deviation over the seeds, `news`, and where the one that is kept lies now."""
    seeds, rows = report["seeds"], []
    for split in ("test", "validation"):
        for metric, spread in seeds[split].items():
            mean, values = f"{spread['mean']:.4f} ± {spread['std']:.4f}", (f"{v:.4f}" for v in spread["values"])
            rows.append((split, score_name(metric), mean, " ".join(values)))
    title = f"{len(seeds['seeds'])} seeds; kept: {seeds['kept']}, the best on validation"
    print_table(title, ("split", "metric", "mean ± deviation", "by seed"), rows)
    _show_notes(news)
    _show_place(report, run_dir)
