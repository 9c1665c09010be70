"""Which charts a report gives, by the section that they stand in."""

from typing import Any

from hftl.report import views
from hftl.report.charts import Chart, Series, intervals, lines, reliability, similarity
from hftl.report.curves import learning_curves
from hftl.report.statements import percent
from hftl.report.visible import isolated


def figures(report: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Chart]:
    """Return the charts by name; a part of the report that is missing gives none."""
    charts = {"ladder": _ladder(report, evidence)}
    forgetting = views.forgetting(evidence)
    if forgetting and len(forgetting["cka"]) > 1:
        low = min(forgetting["cka"], key=lambda b: b["value"])
        summary = f"Similarity to the base model per block; the lowest is {low['value']:.2f}."
        charts["similarity"] = similarity(forgetting["cka"], summary)
    charts |= _learning(report)
    calibration = views.calibration(evidence)
    if calibration and (calibration["before"] or calibration["after"]):
        pair = (("before", "var(--base)", calibration["before"]), ("after", "var(--accent)", calibration["after"]))
        charts["calibration"] = reliability(pair, "How often answers were right against how sure the model was.")
    abstain = views.abstain(evidence)
    if abstain and len(abstain["curve"]) > 1:
        charts["abstain"] = _abstain(abstain)
    groups, _ = views.slices(evidence)
    for i, group in enumerate(groups):
        charts[f"slices-{i}"] = _slices(group, report["metrics"]["test"]["accuracy"]["value"])
    return charts


def _ladder(report: dict[str, Any], evidence: dict[str, Any]) -> Chart:
    rungs = views.ladder(report, evidence)
    rows = [{"name": r["name"], "kind": r["kind"], **r["accuracy"]} for r in rungs]
    verdict = evidence.get("verdict") or {}
    against = next((r["value"] for r in rows if r["name"] == verdict.get("against")), None)
    said = "; ".join(f"{isolated(r['name'])} {percent(r['value'])}" for r in rows)
    return intervals(rows, against, f"Accuracy on the test rows with 95% intervals: {said}.")


def _learning(report: dict[str, Any]) -> dict[str, Chart]:
    found = learning_curves(report["stages"])
    if found is None:
        return {}
    charts = {}
    loss = [
        Series("training", found.train_loss, "var(--muted)", dashed=True, dots=len(found.train_loss) == 1),
        Series("validation", found.validation_loss, "var(--accent)"),
    ]
    scores = [
        Series("accuracy", found.accuracy, "var(--accent)"),
        Series("macro F1", found.macro_f1, "var(--cool)", dashed=True),
    ]
    for name, series, title in (("loss", loss, "loss"), ("scores", scores, "validation score")):
        kept = [s for s in series if s.points]
        if any(len(s.points) > 1 for s in kept):  # one point is no curve; the page states the last scores in words
            last = ", ".join(f"{s.name} ends at {s.points[-1][1]:.3g}" for s in kept)
            charts[name] = lines(
                kept,
                ("step", title),
                f"{title.capitalize()} by step: {last}.",
                share=name == "scores",
                marks=found.ends,
                end=found.steps,
            )
    return charts


def _abstain(abstain: dict[str, Any]) -> Chart:
    points = [
        (float(c), float(a), f"answering {percent(c)} of the rows: {percent(a)} right") for c, a in abstain["curve"]
    ]
    step = max(1, len(points) // 200)
    thinned = points[::step] if points[-1] in points[::step] else [*points[::step], points[-1]]
    return lines(
        [Series("accuracy", thinned, "var(--accent)", dots=False)],
        ("share of rows answered", "right among these"),
        "Accuracy of the answers against the share of rows that is answered.",
        share=True,
        share_x=True,
        level=abstain["target"],
    )


def _slices(group: dict[str, Any], overall: float) -> Chart:
    rows = [
        {"name": f"{s['slice']} ({s['count']:,})", "kind": "weak" if s["weak"] else "slice", **s["accuracy"]}
        for s in group["rows"]
    ]
    return intervals(rows, overall, "Accuracy per slice with 95% intervals; the dashed line is that of all rows.")
