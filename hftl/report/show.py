"""What a person sees of a run on the terminal."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hftl import terminal
from hftl.methods.plan import Plan
from hftl.report import statements
from hftl.report.limits import weak_slices
from hftl.report.statements import counted, score_name, scores_of
from hftl.report.table import print_table
from hftl.report.views import command_of, ladder
from hftl.report.visible import one_line
from hftl.tasks import task_of


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
    """Print the score, the verdict, at most three facts and what to do next; with `--verbose` the tables before."""
    if terminal.verbose:
        _show_tables(report)
    evidence = report["evidence"] or {}
    verdict, scale = statements.banner(report, evidence), statements.output_of(report).written()
    test, score = report["data"]["rows"]["test"], report["metrics"]["test"][statements.headline_of(report)]
    head = f"{scale.value(score['value'])} {scale.name}"
    on = f"on {counted(test, 'test row', 'test rows')} (95% interval {scale.bounds(score['low'], score['high'])})"
    title = f"{report['method']}, {one_line(report['model']['name'], 60)}, {one_line(report['data']['name'], 40)}"
    said = f"{verdict['title']}. {verdict['sentence']}" if evidence else ""
    show_box(title, (head, on), (verdict["look"], said), _facts(report, evidence), _following(report, run_dir))


def _following(report: dict[str, Any], run_dir: str) -> list[str]:
    """What to type next. A run has a page unless evidence is off, or the page could not be written."""
    example, run = task_of(report).inputs.example, shlex.quote(run_dir)
    one, *pair = example.values() if isinstance(example, dict) else [example]
    words = [shlex.quote(one), *(f"--text_pair {shlex.quote(second)}" for second in pair)]
    page = [f"open {run}/report.html"] if (Path(run_dir) / "report.html").is_file() else []
    advice = ((report.get("evidence") or {}).get("verdict") or {}).get("advice") or []
    better = [command_of(step, run_dir) for step in advice[:1]]
    return [f"hftl predict {run} {' '.join(words)}", f"hftl demo {run}", *filter(None, better), *page]


def _facts(report: dict[str, Any], evidence: dict[str, Any]) -> list[str]:
    """At most three, the most important first: how it loads, what the race found, what was forgotten, what to try."""
    pooling, race, forgetting = statements.pooled(report), statements.race(report), evidence.get("forgetting")
    check, advice = report["parity"].get("final"), (evidence.get("verdict") or {}).get("advice") or []
    facts = [warning for warning in report["warnings"] if warning.startswith("There is no report.html")]
    if pooling:
        facts.append(
            "Loads with trust_remote_code=True, since its head reads the mean of the tokens (--pooling native avoids it)."
        )
    elif check and check["labels_equal"]:
        facts.append(f"Plain transformers loads it and answers {check['rows']} test rows alike.")
    if race:
        facts.append(str(race))
    if forgetting and not forgetting.get("unchanged"):
        facts.append(str(statements.kept_of_base(forgetting)))
    if advice:
        facts.append(f"To improve it: {advice[0]['advice']}.")
    notes = len(report["warnings"])
    if notes:
        facts.append(f"{counted(notes, 'note', 'notes')} in the report.")
    return facts[:3]


def show_box(
    title: str, head: tuple[str, str], verdict: tuple[str, str], facts: Sequence[str], following: Sequence[str]
) -> None:
    """Print a result: in a box and in colour on a terminal, in plain lines otherwise."""
    look, said = verdict
    if not sys.stderr.isatty():
        lines = [f"{title}: {' '.join(head)}", *filter(None, [said]), *facts]
        terminal.say("\n".join(["", *lines]))
        show_next(following)
        return
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    colour = {"good": "green", "bad": "red", "neutral": "blue"}.get(look, "default")
    body = [Text.assemble((head[0], "bold"), " ", head[1])]
    body += [Text(said, style=colour)] if said else []
    body += [Text(f"\u2022 {fact}") for fact in facts]
    console = Console(file=sys.stderr)
    console.print(Panel(Group(*body), title=Text(title), title_align="left", border_style=colour, expand=False))
    show_next(following)


def show_next(lines: Sequence[str]) -> None:
    """Print commands to copy, never broken into lines."""
    terminal.say("\n".join(["Next:", *(f"  {line}" for line in lines)]))


def _show_tables(report: dict[str, Any]) -> None:
    """Print the ladder on the same test rows and all of the evidence."""
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


def _show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_table("Note", ("",), [(note,)])


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
    findings = [f for f in evidence.get("doctor", ()) if f["level"] in ("WARN", "FAIL")]
    return rows + [(f"doctor: {f['level']}", f"{f['check']} ({f['count']}): {f['fix']}") for f in findings]


def parity_rows(parity: dict[str, Any], report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line per artifact that was loaded and compared in a process of its own; `report` says what it answers."""
    same = statements.output_of(report).words["same"]
    return [(f"parity of {where}", str(statements.compared(where, check, same))) for where, check in parity.items()]


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
    show_next(_following(report, run_dir))
