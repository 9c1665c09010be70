"""What a person sees of `hftl pick`: pick.html, and the same table on the terminal."""

from typing import Any

from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.scale import Scale
from hftl.report.figures import pareto
from hftl.report.statements import Statement, number
from hftl.selection.page import Section, write_selection
from hftl.tasks.task import Task


_READ = (
    "Probe and neighbours answer to training rows that they had not learned from, in three folds; no weight of a model was "
    "changed, and no test row was looked at. A rank has its 95% interval over rows. LogME is the log evidence per row of a "
    "linear model. What was published is a percentage on the benchmark that pick.json names. Large marks are large models; "
    "diamonds are worth training."
)


def write_pick(document: dict[str, Any], task: Task) -> None:
    """Write pick.json and pick.html in the folder that the document names, and print the table."""
    scale = task.output.written()
    lede = Statement(f"{document['rows']:,} training rows of {{}}", (document["data"],))
    write_selection("pick", f"Models for {task.name}", lede, document, [_models(document, scale)])


def _models(document: dict[str, Any], scale: Scale) -> Section:
    chosen = {one["name"] for one in document["finalists"]}
    rows, points = [], []
    for one in document["models"]:
        low, high = one["probe_low"], one["probe_high"]
        rank = " to ".join(map(str, sorted({one["rank_low"], one["rank_high"]})))
        scores = [(scale.value(one["probe"]), scale.bounds(low, high)), scale.value(one["knn"]), number(one["logme"])]
        times = (number(one["latency_ms"], 1), f"{number(one['latency_ms_32'], 1)} for 32")
        weights = (number(one["parameters"] / 1e6, 1), one["licence"] or "licence not known")
        rows.append((one["name"], rank, *scores, number(one["prior"], 1), times, weights))
        kind = "method" if one["name"] in chosen else "features"
        point = {
            "name": one["name"].rpartition("/")[2],
            "kind": kind,
            "cost": one["latency_ms"],
            "size": one["parameters"],
        }
        points.append({**point, "value": one["probe"], "low": low, "high": high})
    heads = ("Model", ">Rank", ">Probe", ">Neighbours", ">LogME", ">Published", ">ms for a row", ">Million weights")
    chart = pareto(points, "milliseconds for one row", lambda ms: f"{ms:.1f} ms", scale)
    shown: dict[str, Any] = {
        "heads": heads,
        "rows": rows,
        "notes": _notes(document, scale),
        "command": document["command"] or "",
    }
    return Section("models", "Which model reads these rows best?", _READ, chart, **shown)


def _notes(document: dict[str, Any], scale: Scale) -> list[str]:
    """Say what the rows cannot separate, what is worth training, what won, and what was left out."""
    best, *others = document["models"]
    alike = [one["name"] for one in others if one["behind"]["low"] <= 0]
    notes = []
    if alike:
        notes.append(f"These rows cannot separate {best['name']} from {' or '.join(alike)}.")
    elif others:
        gap = scale.gap(Interval(**others[0]["behind"]))
        notes.append(f"{best['name']} is ahead of {others[0]['name']} ({gap}).")
    worth = [f"{one['name']} ({one['reason']})" for one in document["finalists"]]
    notes.append(f"Worth training: {', '.join(worth)}.")
    for one in document["race"]:
        if one["score"] is None:
            notes.append(f"{one['name']} could not be trained: {one['reason']}")
        else:
            score = f"{scale.value(one['score'])} ({scale.bounds(one['low'], one['high'])})"
            notes.append(f"{one['name']}, trained: {score} on the validation rows; {one['run_dir']}.")
    if document["winner"]:
        notes.append(f"{document['winner']} is the best of those that were trained.")
    left: dict[str, list[str]] = {}
    for one in document["left_out"]:
        left.setdefault(one["reason"], []).append(one["name"])
    return notes + [f"Left out ({reason.rstrip('.')}): {', '.join(names)}." for reason, names in left.items()]
