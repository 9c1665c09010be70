"""What each section of the page shows, taken from the report: a dict with every key the template asks for, or None."""

import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hftl.evaluation.scale import Scale
from hftl.evidence.advice import VERBS
from hftl.report import statements
from hftl.report.statements import counted, duration, percent, score_name, scores_of


MAX_CLASSES = 2_000  # rows of the table of classes
MAX_SLICES, MAX_FINDINGS, MAX_WORST, MAX_SUSPECTS = 40, 100, 30, 50
MAX_MISTAKEN = 12  # kinds of mistakes between types of entities
_LEVELS = {"FAIL": 0, "WARN": 1, "INFO": 2, "PASS": 3}


def ladder(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rungs, the run's own last; without the ladder, that one alone."""
    own = {k: report["metrics"]["test"][k] for k in scores_of(report)}
    rungs = evidence.get("ladder") or [{"name": str(report["method"]), "kind": "method", **own, "seconds": None}]
    return [{**r, "kind_words": statements.rung_words(report, r["kind"]), "note": r.get("note")} for r in rungs]


def head(report: Mapping[str, Any]) -> dict[str, str]:
    """Return what the run is called, by default after its model and data, and `made`: when and by whom, "" if unknown."""
    data, model = (str(report[part]["name"]) for part in ("data", "model"))
    default = f"{Path(model).name} on {Path(data.removeprefix('sample:')).name}"
    day = datetime.fromisoformat(report["date"]) if report.get("date") else None
    made = [f"{day.day} {day:%B %Y}" if day else "", f"by {report['author']}" if report.get("author") else ""]
    return {"title": report.get("name") or default, "made": " ".join(filter(None, made))}


def hero(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headline score in words, and the few rungs it is compared with at a glance, this run's last."""
    name = statements.headline_of(report)
    scale, score = statements.scales_of(report)[name], report["metrics"]["test"][name]
    against, rungs = (evidence.get("verdict") or {}).get("against"), ladder(report, evidence)
    kinds = ["majority", "features", "method"]
    few = {r["kind"]: r for r in rungs if r["kind"] in kinds or r["name"] == against}
    if report["method"] == "probe":  # it is not compared with itself
        few.pop("features", None)
    most = max(1.0 if scale.share else 0.0, *(r[name]["value"] for r in few.values())) or 1.0
    lines = [
        {
            "name": r["name"],
            "value": scale.value(r[name]["value"]),
            "share": max(0.0, r[name]["value"] / most),
            "kind": kind,
        }
        for kind, r in few.items()
    ]
    return {
        "value": scale.value(score["value"]),
        "name": f"{scale.heading} on {counted(report['data']['rows']['test'], 'test row', 'test rows')}",
        "bounds": f"95% interval {scale.bounds(score['low'], score['high'])}",
        "rungs": lines if len(lines) > 1 else [],
    }


def cards(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the headline figures: name, value, what stands below it."""
    test = report["metrics"]["test"]
    entries = []
    for k, scale in statements.scales_of(report).items():
        below = f"95%: {scale.bounds(test[k]['low'], test[k]['high'])}"
        entries.append((score_name(k, heads=True), scale.value(test[k]["value"]), below))
    forgetting, calibration = evidence.get("forgetting") or {}, evidence.get("calibration")
    if forgetting.get("unchanged"):
        entries.append(("Kept of the base", "All", "its body did not change"))
    elif forgetting.get("kept") is not None:
        below = f"of its features, measured {statements.retention(forgetting)}"
        entries.append(("Kept of the base", percent(forgetting["kept"]), below))
    if calibration:
        before, after = (percent(calibration[when]["ece"]) for when in ("before", "after"))
        entries.append(("Calibration error", after, f"{before} before correction"))
    if evidence.get("conformal"):
        width, level = Scale(share=False).value(evidence["conformal"]["width"]), evidence["conformal"]["level"]
        entries.append(("A single answer", f"± {width}", f"holds the truth in {percent(level, 0)}"))
    seconds, rows = report["timing"]["total_seconds"], report["data"]["rows"]["train"]
    entries.append(("Time", duration(seconds), f"{rows:,} training rows"))
    return [dict(zip(("name", "value", "below"), entry, strict=True)) for entry in entries]


def statements_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a Space, which has no hftl, shows in words: the verdict and the headline figures, as plain text."""
    evidence = report.get("evidence") or {}
    banner = statements.banner(report, evidence)
    return {
        "verdict": {"look": banner["look"], "title": banner["title"], "sentence": str(banner["sentence"])},
        "cards": [card for card in cards(report, evidence) if card["name"] != "Time"],
        "ladder": _ladder_in_words(report, evidence),
        **{key: statements.output_of(report).words[key] for key in ("name", "units")},
    }


def _ladder_in_words(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the headline score of each rung as text."""
    headline = statements.headline_of(report)
    scale, rungs = statements.scales_of(report)[headline], evidence.get("ladder") or []
    scores = [r[headline] for r in rungs]
    values = [(scale.value(score["value"]), scale.bounds(score["low"], score["high"])) for score in scores]
    rows = [[r["name"], *value] for r, value in zip(rungs, values, strict=True)]
    return {"score": score_name(headline, heads=True), "rows": rows}


def stages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line per stage, its learning rates as their range and one by one."""
    return [{**stage, "reads": stage.get("reads") or "\u2013", **_rates(stage)} for stage in report["stages"]]


def _rates(stage: Mapping[str, Any]) -> dict[str, Any]:
    rates = {name: f"{rate:.2g}" for name, rate in stage["learning_rates"].items()}
    ends = dict.fromkeys(sorted(rates.values(), key=float)[:: max(1, len(rates) - 1)])
    return {"span": " to ".join(ends) or "closed form", "rates": list(rates.items()) if len(rates) > 1 else []}


def classes(report: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the classes, the lowest F1 first, and how many were left out."""
    rows = sorted(report["per_class"], key=lambda c: (c["support"] == 0, c["f1"], -c["support"]))
    return rows[:MAX_CLASSES], max(0, len(rows) - MAX_CLASSES)


def slices(evidence: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the groups of slices in their order, each {by, rows}, and how many slices were left out."""
    entries = evidence.get("slices") or []
    names = dict.fromkeys(str(one["by"]) for one in entries[:MAX_SLICES])
    groups = [{"by": name, "rows": [s for s in entries[:MAX_SLICES] if str(s["by"]) == name]} for name in names]
    return groups, max(0, len(entries) - MAX_SLICES)


def mistaken(evidence: Mapping[str, Any]) -> list[tuple[str, str, int]] | None:
    """Return which types of entities are taken for which, and how often, the most frequent first; None without types."""
    found = evidence.get("type_confusion")
    if found is None:
        return None
    wrong = sorted((cell for cell in found["cells"] if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return [(found["names"][true], found["names"][given], count) for true, given, count in wrong[:MAX_MISTAKEN]]


def findings(evidence: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the doctor's findings, the gravest first; None when it did not run."""
    if evidence.get("doctor") is None:
        return None
    ordered = sorted(evidence["doctor"], key=lambda f: _LEVELS.get(f["level"], 1))[:MAX_FINDINGS]
    fixes = [f.get("fix", f.get("mend")) for f in ordered]  # older reports call it "mend"
    return [{**f, "fix": fixes[i], "rows": _first_rows(f.get("rows") or {})} for i, f in enumerate(ordered)]


def _first_rows(rows: Mapping[str, list[int]], limit: int = 8) -> str:
    """Return the first rows of a finding in one line, by split."""
    known = [(split, numbers) for split, numbers in rows.items() if numbers]
    firsts = ((split, [f"{row:,}" for row in numbers[:limit]], len(numbers)) for split, numbers in known)
    return "; ".join(f"{split} {', '.join(first)}{', …' if size > limit else ''}" for split, first, size in firsts)


def command_of(step: Mapping[str, Any], run_dir: str | Path) -> str:
    """Return what to type for a piece of advice, "" where nothing needs doing."""
    flags = step.get("flags") or ""
    verb = VERBS.get(step["advice"], "train" if flags else "")
    return " ".join(filter(None, ("hftl", verb, shlex.quote(f"{run_dir}/config.yaml"), flags))) if verb else ""


def reproduction(report: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return the command that repeats the run, and what it ran on."""
    model, environment = report["model"], report["environment"]
    rows, origins = report["data"]["rows"], report["data"]["origins"]
    times = ", ".join(f"{k.removesuffix('_seconds')} {duration(v)}" for k, v in report["timing"].items())
    evidence = (report.get("evidence") or {}).get("seconds")
    processes = counted(environment["processes"], "process", "processes")
    threads = counted(environment["threads"], "thread", "threads")
    return {
        "command": f"hftl train {shlex.quote(str(run_dir / 'config.yaml'))}",
        "facts": [
            ("Data", report["data"]["name"]),
            *((f"{k.capitalize()} rows", f"{n:,}: {origins.get(k, '')}".rstrip(": ")) for k, n in rows.items()),
            ("Base model", f"{model['name']} ({model['architecture']}, {model['parameters']:,} parameters)"),
            ("Weights", " ".join(str(v) for v in (model["source"], model["revision"]) if v)),
            ("Method", f"{report['method']}: {statements.METHODS.get(str(report['method']), '')}".rstrip(": ")),
            ("Seed", str(report["seed"])),
            ("Machine", f"{environment['device']}, {processes}, {threads}"),
            ("Versions", ", ".join(f"{k} {v}" for k, v in environment["versions"].items())),
            ("Time", f"{times}, of which evidence {duration(evidence)}" if evidence else times),
        ],
    }


def trials(report: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return the trials of a race: name, score, its interval, time, and what became of it."""
    selection, rows = report.get("selection") or {"trials": []}, []
    for trial in selection["trials"]:
        scale = statements.race_scale(selection)
        end = f"dropped at rung {trial['dropped_at']}: {trial['reason']}" if trial["dropped_at"] else trial["reason"]
        end = "won" if trial["name"] == selection["winner"] else end or "raced to the end"
        scores = [trial[key] for key in ("score", "low", "high")]
        value, low, high = ("",) * 3 if None in scores else scale.values(*scores)
        rows.append(
            (trial["name"], value, f"{low} to {high}" if value else "", statements.duration(trial["seconds"]), end)
        )
    return rows
