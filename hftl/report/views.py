"""What each section of the page shows, taken from the report: a dict with every key the template asks for, or None."""

import shlex
from pathlib import Path
from typing import Any

from hftl.evaluation.calibration import merged_bins
from hftl.report import statements
from hftl.report.statements import KINDS, METHODS, duration, interval, number, percent, points, rate, retention


MAX_CLASSES = 2_000  # rows of the table of classes
MAX_SLICES, MAX_FINDINGS, MAX_WORST, MAX_SUSPECTS = 40, 100, 30, 50
_LEVELS = {"FAIL": 0, "WARN": 1, "INFO": 2, "PASS": 3}
_RUNG_KINDS = {"majority class": "majority"}


def ladder(report: dict[str, Any], evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rungs, the run's own last; without the ladder, the baselines that the report holds."""
    rungs = evidence.get("ladder")
    if not rungs:
        rungs = [{**b, "kind": _RUNG_KINDS.get(b["name"], "no-pretraining")} for b in report["baselines"]]
        own = {k: report["metrics"]["test"][k] for k in ("accuracy", "macro_f1")}
        rungs.append({"name": str(report["method"]), "kind": "method", **own, "seconds": None})
    return [{**r, "kind_words": KINDS.get(r["kind"], r["kind"]), "note": r.get("note")} for r in rungs]


def cards(report: dict[str, Any], evidence: dict[str, Any]) -> list[dict[str, str]]:
    """Return the headline figures: name, value, what stands below it."""
    test = report["metrics"]["test"]
    entries = [
        {"name": name, "value": percent(test[key]["value"]), "below": f"95%: {interval(test[key])}"}
        for name, key in (("Accuracy", "accuracy"), ("Macro F1", "macro_f1"))
    ]
    forgetting = evidence.get("forgetting")
    if forgetting and forgetting.get("unchanged"):
        entries.append({"name": "Kept of the base", "value": "All", "below": "its body did not change"})
    elif forgetting and forgetting.get("kept") is not None:
        entries.append(
            {
                "name": "Kept of the base",
                "value": percent(forgetting["kept"]),
                "below": f"of its features, measured {retention(forgetting)}",
            }
        )
    calibration = evidence.get("calibration")
    if calibration:
        after, before = calibration["after"]["ece"], calibration["before"]["ece"]
        entries.append(
            {"name": "Calibration error", "value": percent(after), "below": f"{percent(before)} before correction"}
        )
    seconds = report["timing"]["total_seconds"]
    below = f"{report['data']['rows']['train']:,} training rows"
    return [*entries, {"name": "Time", "value": duration(seconds), "below": below}]


def statements_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a Space, which has no hftl, shows in words: the verdict and the headline figures, as plain text."""
    evidence = report.get("evidence") or {}
    banner = statements.banner(report, evidence)
    return {
        "verdict": {"look": banner["look"], "title": banner["title"], "sentence": str(banner["sentence"])},
        "cards": [card for card in cards(report, evidence) if card["name"] != "Time"],
    }


def forgetting(evidence: dict[str, Any]) -> dict[str, Any] | None:
    """Return the headline, its definition, and before and after of each measure."""
    measured = evidence.get("forgetting")
    if not measured:
        return None
    unchanged = bool(measured.get("unchanged"))
    if unchanged:  # no figure of it was measured, so none is shown as if it were
        measured = {**dict.fromkeys(("definition", "retention", "rows")), "kept": 1.0, "note": measured.get("note")}
    rows = []
    probe = measured.get("probe")
    if probe:
        low, high = probe.get("low"), probe.get("high")
        after = percent(probe["after"])
        if low is not None and high is not None:  # of the change, not of the value
            change = points(probe["after"] - probe["before"])
            after += f", a change of {change} points (95% {points(low)} to {points(high)})"
        rows.append(("Accuracy of a probe on its features", percent(probe["before"]), after))
    if measured.get("knn_agreement") is not None:
        chance = measured.get("knn_chance")
        name = "Nearest neighbours that stayed the same"
        name += f" (by chance: {percent(chance)})" if chance is not None else ""
        rows.append((name, "100.0%", percent(measured["knn_agreement"])))
    head = measured.get("original_head")
    if head:
        name = f"Loss of its original head ({head['kind']})"
        rows.append((name, number(head["loss_before"]), number(head["loss_after"])))
    bounds = (
        f"95%: {interval(measured)}" if measured.get("low") is not None and measured.get("high") is not None else ""
    )
    return {
        "headline": statements.kept_headline({**measured, "unchanged": unchanged}),
        "unchanged": unchanged,
        "bounds": bounds,
        "definition": measured.get("definition") or "",
        "measured_on": retention(measured),
        "retention_rows": measured.get("rows"),
        "note": measured.get("note"),
        "rows": rows,
        "cka": [b for b in measured.get("cka") or [] if b.get("value") is not None],
    }


def stages(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line per stage, its learning rates as their range and one by one."""
    rows = []
    for stage in report["stages"]:
        rates = list(stage["learning_rates"].items())
        values = [value for _, value in rates]
        same = not values or rate(min(values)) == rate(max(values))
        span = (
            (rate(values[0]) if same else f"{rate(min(values))} to {rate(max(values))}") if values else "closed form"
        )
        rows.append(
            {
                **{k: stage[k] for k in ("name", "trainable_parameters", "steps", "epochs", "seconds")},
                "reads": stage.get("reads") or "\u2013",
                "span": span,
                "rates": [(name, rate(value)) for name, value in rates] if len(rates) > 1 else [],
            }
        )
    return rows


def classes(report: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the classes, the lowest F1 first, and how many were left out."""
    rows = sorted(report["per_class"], key=lambda c: (c["support"] == 0, c["f1"], -c["support"]))
    return rows[:MAX_CLASSES], max(0, len(rows) - MAX_CLASSES)


def calibration(evidence: dict[str, Any]) -> dict[str, Any] | None:
    """Return the temperature, the scores before and after it, and the bins."""
    measured = evidence.get("calibration")
    if not measured:
        return None
    names = (("Calibration error (ECE)", "ece"), ("Log loss", "log_loss"), ("Brier score", "brier"))
    return {
        "temperature": number(measured.get("temperature"), 2),
        "rows": [(name, _bounded(measured["before"], key), _bounded(measured["after"], key)) for name, key in names],
        "floor": number(measured["after"].get("ece_if_calibrated")),
        "before": merged_bins(measured.get("bins_before") or []),
        "after": merged_bins(measured.get("bins_after") or []),
        "note": measured.get("note"),
    }


def _bounded(scores: dict[str, Any], key: str) -> tuple[str, str]:
    """Return a score, and its interval where there is one."""
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    return number(scores.get(key)), f"{number(low)} to {number(high)}" if low is not None and high is not None else ""


def abstain(evidence: dict[str, Any]) -> dict[str, Any] | None:
    """Return what answering only when sure would bring."""
    held = evidence.get("abstain")
    if not held:
        return None
    return {
        "sentence": statements.abstain(held),
        "target": held["precision"],
        "curve": held.get("curve") or [],
        "note": held.get("note"),
    }


def slices(evidence: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the groups of slices in their order, each {by, rows}, and how many slices were left out."""
    entries = evidence.get("slices") or []
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in entries[:MAX_SLICES]:
        groups.setdefault(str(one["by"]), []).append(one)
    return [{"by": by, "rows": rows} for by, rows in groups.items()], max(0, len(entries) - MAX_SLICES)


def findings(evidence: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the doctor's findings, the gravest first; None when it did not run."""
    results = evidence.get("doctor")
    if results is None:
        return None
    ordered = sorted(results, key=lambda f: _LEVELS.get(f["level"], 1))[:MAX_FINDINGS]
    return [
        {
            **{k: f.get(k) for k in ("check", "level", "count")},
            "fix": f.get("fix", f.get("mend")),  # its name in reports written before 2026-12
            "rows": _first_rows(f.get("rows")),
        }
        for f in ordered
    ]


def _first_rows(rows: dict[str, list[int]] | None, limit: int = 8) -> str:
    """Return the first rows of a finding in one line, by split."""
    parts = []
    for split, positions in (rows or {}).items():
        more = ", \u2026" if len(positions) > limit else ""
        parts += [f"{split} {', '.join(f'{row:,}' for row in positions[:limit])}{more}"] if positions else []
    return "; ".join(parts)


def reproduction(report: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return the command that repeats the run, and what it ran on."""
    model, environment = report["model"], report["environment"]
    rows, origins = report["data"]["rows"], report["data"]["origins"]
    return {
        "command": f"hftl train {shlex.quote(str(run_dir / 'config.yaml'))}",
        "facts": [
            ("Data", report["data"]["name"]),
            *(
                (f"{split.capitalize()} rows", f"{count:,}: {origins.get(split, '')}".rstrip(": "))
                for split, count in rows.items()
            ),
            ("Base model", f"{model['name']} ({model['architecture']}, {model['parameters']:,} parameters)"),
            ("Weights", " ".join(str(v) for v in (model["source"], model["revision"]) if v)),
            ("Method", f"{report['method']}: {METHODS.get(str(report['method']), '')}".rstrip(": ")),
            ("Seed", str(report["seed"])),
            (
                "Machine",
                f"{environment['device']}, {_count(environment['processes'], 'process', 'processes')}, "
                f"{_count(environment['threads'], 'thread', 'threads')}",
            ),
            ("Versions", ", ".join(f"{k} {v}" for k, v in environment["versions"].items())),
        ],
        "times": [(k.removesuffix("_seconds"), duration(v)) for k, v in report["timing"].items()],
    }


def _count(number_of: int, one: str, many: str) -> str:
    return f"{number_of} {one if number_of == 1 else many}"
