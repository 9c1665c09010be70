"""`hftl compare`: methods on the same data, model and test rows: what each reaches, what it costs, who wins where."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from hftl.adapt import config_of
from hftl.atomic import write_new
from hftl.config import RunConfig
from hftl.data.load import load_task
from hftl.errors import ConfigError
from hftl.evaluation.scale import MINUS, Scale, chance
from hftl.evaluation.slices import Grouping
from hftl.evidence.gather import groupings_of
from hftl.objects import for_python
from hftl.report.charts import intervals, pareto
from hftl.report.statements import duration, number, percent
from hftl.selection.page import Cell, Section, model_on, write_selection
from hftl.selection.trials import answers_of, in_folder, named_methods, report_of, trial
from hftl.tasks.scores import gap, measure
from hftl.tasks.task import Output


if TYPE_CHECKING:
    from hftl.flags import RunFlags


@for_python
def compare(
    task: str | None = None, methods: Sequence[str] | str = ("probe", "lora", "full"), **values: "Unpack[RunFlags]"
) -> dict[str, Any]:
    """Adapt a model by each of `methods` and return what they reach and cost, as docs/compare.md lists it.

    `values` are the arguments of `adapt`. A run that the same flags made in `output_dir` is taken as it is. Raises an
    `HftlError` as `adapt` does, and for fewer than two methods.
    """
    names = named_methods(methods)
    if len(names) < 2:
        raise ConfigError("A comparison needs two methods or more, such as --methods probe,full.")
    config = config_of(task, {**values})
    config = in_folder(config, "compare")
    trials = {name: trial(config, name, name, names) for name in names}
    reports = {name: report_of(one) for name, one in trials.items()}
    learned, splits = load_task(config.task, config.data, config.train_seed)
    answers = {name: answers_of(one, reports[name], splits) for name, one in trials.items()}
    output, truth = learned.output, (learned.output.gather(splits.test["label"][:]), splits.labels)
    rows = sorted((_row(trials[k], reports[k], output.headline) for k in names), key=lambda row: -row["value"])
    best = rows[0]["method"]
    # Every method rests on the frozen features, whichever run computed them.
    features = max(report["timing"]["features_seconds"] for report in reports.values())
    for row in rows:
        row["seconds"] = round(features + row["seconds"], 1)
        against = None if row["method"] == best else gap(output, answers[row["method"]], answers[best], *truth)
        row |= {f"{k}_against_best": getattr(against, k, None) for k in ("gap", "low", "high", "p")}
    groupings = groupings_of(splits.test, learned.inputs, config.data.slice_column)
    document = {
        **{"data": splits.name, "model": reports[best]["model"]["name"], "folder": str(config.output_dir)},
        **{"score": output.headline, "test_rows": len(splits.test), "best": best, "methods": rows},
        "slices": _slices(output, {row["method"]: answers[row["method"]] for row in rows}, truth, groupings),
    }
    _write(document, output.written())
    return document


def _row(config: RunConfig, report: dict[str, Any], headline: str) -> dict[str, Any]:
    """Return what the report of one method says; None for what it does not."""
    evidence, model, seeds = report["evidence"] or {}, report["model"], report.get("seeds")
    spread = seeds["test"][headline] if seeds else {}
    files = [path for path in (Path(str(config.output_dir)) / "final").rglob("*") if path.is_file()]
    return {
        "method": config.method.method,
        **report["metrics"]["test"][headline],
        **{"mean": spread.get("mean"), "sd": spread.get("std"), "seconds": report["timing"]["train_seconds"]},
        "peak_mb": report["environment"].get("peak_mb"),
        "trained_share": max(stage["trainable_parameters"] for stage in report["stages"]) / model["parameters"],
        "disk_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "kept": (evidence.get("forgetting") or {}).get("kept"),
        "ece": ((evidence.get("calibration") or {}).get("after") or {}).get("ece"),
    }


def _slices(
    output: Output, answers: dict[str, Any], truth: tuple[Any, Any], groupings: Sequence[Grouping]
) -> list[dict[str, Any]]:
    """Return per slice the score of every method, the best overall first, and the winner, None for several.

    `p` is that of the winner against the best overall, None where they are the same.
    """
    (best, *_), (targets, names), slices = answers, truth, []
    for grouping in groupings:
        for code, name in enumerate(grouping.names if len(grouping.names) > 1 else ()):
            rows = np.flatnonzero(grouping.codes == code)
            part = {k: v[rows] for k, v in answers.items()}
            values = {k: measure(output, v, targets[rows], names)[output.headline] for k, v in part.items()}
            winners = [k for k, value in values.items() if value == max(values.values())]
            one = {"by": grouping.by, "slice": name, "rows": len(rows), "values": values, "winner": None, "p": None}
            if len(winners) == 1:
                one["winner"] = winners[0]
            if one["winner"] not in (None, best):
                one["p"] = gap(output, part[winners[0]], part[best], targets[rows], names).p
            slices.append(one)
    return slices


def _columns(rows: Sequence[dict[str, Any]], scale: Scale) -> dict[str, Callable[[dict[str, Any]], Cell]]:
    """Return the columns of the table after the method: what heads each, and what it says of a row."""

    def against(row: dict[str, Any]) -> Cell:
        if row["gap_against_best"] is None:
            return "best"
        gaps = scale.gaps(*(row[f"{k}_against_best"] for k in ("gap", "low", "high")))
        value, low, high = (one.replace("-", MINUS) for one in gaps)
        return f"{value}, {chance(row['p_against_best'])}", f"{low} to {high}"

    seeds: dict[str, Callable[[dict[str, Any]], Cell]] = {}
    if rows[0]["sd"] is not None:
        seeds[">Mean of seeds"] = lambda row: (scale.value(row["mean"]), f"± {scale.value(row['sd'])}")
    return {
        f">{scale.heading}, 95%": lambda row: (scale.value(row["value"]), scale.bounds(row["low"], row["high"])),
        **seeds,
        ">Against the best": against,
        ">Time": lambda row: duration(row["seconds"]),
        ">Peak MB": lambda row: number(row["peak_mb"], 0),
        ">Trained": lambda row: percent(row["trained_share"], 2),
        ">MB": lambda row: number(row["disk_mb"], 0),
        ">Kept": lambda row: percent(row["kept"]),
        ">ECE": lambda row: number(row["ece"]),
    }


def _write(document: dict[str, Any], scale: Scale) -> None:
    """Write the CSV, the JSON and the page of a comparison."""
    folder, rows, best, slices = (document[k] for k in ("folder", "methods", "best", "slices"))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_new(Path(folder, "compare.csv"), table.getvalue())
    marks = [{**r, "name": r["method"], "kind": "method", "cost": max(r["seconds"], 0.1)} for r in rows]
    columns, names, rare = _columns(rows, scale), [row["method"] for row in rows], 0.05 / max(1, len(slices))
    scores = Section(
        "methods",
        "Which method is best here?",
        f"All answered the same {document['test_rows']:,} test rows. p: a paired test against the best; of 20 equal methods "
        "one differs so by chance, and these rows flatter the best one a little. Time: frozen features and training. Peak MB: "
        "the most memory that the process held in it. Trained: of the parameters. MB: of the saved model. Kept: how much of "
        "the base can still be read. ECE: calibration error.",
        intervals(marks, None, f"{scale.heading} of every method with its 95% interval.", scale),
        heads=["Method", *columns],
        rows=[(row["method"], *(say(row) for say in columns.values())) for row in rows],
        notes=[f"The model of {best} is in {folder}/{best}/final."],
    )
    picture = pareto(marks, "seconds of features and training", duration, scale)
    cost = Section(
        "cost", "What does the score cost?", "No method on the dashed line is beaten in less time.", picture
    )
    where = Section(
        "slices",
        "Who wins where?",
        f"The same rows in groups. p: a paired test of the winner against {best}; a star marks one below {rare:.2g}, which "
        "is more than chance among so many groups (Bonferroni).",
        heads=["Rows", ">Count", *(f">{name}" for name in names), "Winner"],
        rows=[
            (f"{s['by']}: {s['slice']}", f"{s['rows']:,}", *(scale.value(s["values"][name]) for name in names),
             (s["winner"] or "several", f"{chance(s['p'])}{' *' if s['p'] < rare else ''}" if s["p"] is not None else ""))
            for s in slices
        ],
    )  # fmt: skip
    write_selection(
        "compare", "Methods compared", model_on(document), document, [scores, cost, *([where] if slices else [])]
    )
