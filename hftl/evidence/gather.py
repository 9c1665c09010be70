"""All evidence of a finished run as one part of report.json: row numbers, figures and words, never a row's content."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from hftl.evaluation.abstain import abstain_report
from hftl.evaluation.bootstrap import Difference
from hftl.evaluation.calibration import Temperature, calibration_report, fit_temperature
from hftl.evaluation.logistic import cv_rows
from hftl.evaluation.number_scores import coverage
from hftl.evaluation.row_scores import confusion
from hftl.evaluation.saved_baseline import save_baseline
from hftl.evaluation.slices import Grouping, Slice, by_quantiles, by_values, right_slices, score_slices
from hftl.evaluation.suspects import suspect_labels
from hftl.evaluation.verdict import Comparison
from hftl.evidence.advice import Facts, advise
from hftl.evidence.ladder import Ladder, Rung, build_ladder, compare
from hftl.evidence.scene import Final, Scene
from hftl.methods import policy
from hftl.models.heads import fold_temperature
from hftl.prepare import Prepared
from hftl.probing import Seen, by_probe
from hftl.tasks.ragged import in_memory
from hftl.tasks.scores import compare as compare_answers
from hftl.tasks.scores import gap, worst_rows
from hftl.tasks.task import Inputs
from hftl.training.features import predict_logits
from hftl.training.world import broadcast_from_main


WORST, SUSPECTS = 50, 100  # rows that the report names
FEW_TEST_ROWS = 200  # below which an accuracy is known to 7 points at best: cross-validation on train knows more
SLOW = ("suspects",)  # parts that `--evidence quick` leaves out
FOLDER = "baseline"  # of the run: where the best baseline is saved when the transfer is not shown to be better


def calibrate(ready: Prepared, seen: Seen) -> Final:
    """Fold a temperature into the head of the plan's model, so that plain `pipeline` has it.

    Adapters are not merged yet, so that the adapter folder gets the same head. Without evidence the temperature is 1.
    """
    plan, logits = seen.plan, by_probe(ready, seen, seen.features.get("validation", {}))
    if logits is None:
        logits = predict_logits(plan.model, ready.validation, ready.collate, use_cpu=ready.use_cpu, title="validation")
    if not ready.config.proves or "calibration" not in ready.task.output.parts:
        return Final(plan.model, Temperature(1.0, False, "not asked for", 0), logits)
    units = ready.task.output.units(logits, ready.validation.targets)  # type: ignore[misc]
    temperature = broadcast_from_main(fit_temperature(*units))
    if temperature.value != 1.0:
        for output in plan.outputs:
            fold_temperature(plan.model, output, temperature.value)
    return Final(plan.model, temperature, logits)


def gather(scene: Scene) -> dict[str, Any]:
    """Return the evidence, as docs/report.md lists it; save the baseline of a transfer that is not better."""
    start = time.perf_counter()
    evidence = _ladder_and_verdict(scene)
    quick = scene.run.config.evidence == "quick"
    for name in scene.ready.task.output.parts:
        evidence[name] = None if quick and name in SLOW else PARTS[name](scene)
    after = float(scene.forgetting["seconds_after"]) if scene.forgetting else 0.0
    before = scene.before.seconds - scene.outcome.shared  # without evidence the test rows would pass all the same
    return {**evidence, "seconds": round(before + after + time.perf_counter() - start, 3)}


def _ladder_and_verdict(scene: Scene) -> dict[str, Any]:
    """The ladder, the verdict, what cross-validation says where few test rows leave it open, and what to try."""
    ready = scene.ready
    ladder = build_ladder(scene)
    verdict = compare_answers(ready.task.output, ladder.method.answers, ladder.best.answers, *scene.truth)
    if verdict.label != "POSITIVE" or (scene.selection or {}).get("baseline"):
        save_baseline(ladder.best_baseline, scene.run.work / FOLDER, ready.splits.labels)
    compared = None
    if scene.seen.features and verdict.kind == "UNDECIDED" and len(scene.targets) < FEW_TEST_ROWS:
        rows = cv_rows(ready.strata[0], scene.run.config.train_seed)
        compared = compare(ready, rows, {k: in_memory(v[rows]) for k, v in scene.seen.features["train"].items()})
    document = {
        **verdict.document(),
        "against": ladder.best_baseline.name,
        "cross_validation": asdict(compared) if compared else None,
        "advice": [asdict(advice) for advice in advise(verdict, _facts(scene, ladder, compared))],
    }
    return {"ladder": [rung.report for rung in ladder.rungs], "verdict": document}


def _facts(scene: Scene, ladder: Ladder, compared: Comparison | None) -> Facts:
    ready = scene.ready
    output, one_pass = ready.task.output, scene.outcome.row_seconds * len(ready.train)

    def over(rung: Rung, other: Rung) -> Difference:
        return gap(output, rung.answers, other.answers, *scene.truth)

    return Facts(
        method=str(scene.run.config.method.method),
        rows_per_class=ready.rows_per_name,
        n_test=len(scene.targets),
        score=ladder.method.score,
        baseline=ladder.best.score,
        baseline_name=ladder.best_baseline.name,
        majority=ladder.majority.score,
        baseline_over_majority=over(ladder.best, ladder.majority),
        neighbours=ladder.neighbours.score if ladder.neighbours else None,
        probe=ladder.probe.score,
        method_over_probe=over(ladder.method, ladder.probe),
        probe_over_baseline=over(ladder.probe, ladder.best),
        pretraining=ladder.pretraining,
        learning_rate=scene.learning_rate,
        cross_validated=compared,
        course=_course(scene),
        full_seconds=policy.full_seconds(ready.loaded, scene.run.config, len(ready.train), one_pass),
        width=policy.width_of(ready.loaded),
        scale=output.written(),
        raced=frozenset(t["method"] for t in (scene.selection or {}).get("trials", ()) if t["score"] is not None),
        turned=scene.ready.turned,
        **{name: output.words[name] for name in ("per", "guess", "given")},
    )


def _course(scene: Scene) -> policy.Course | None:
    """How the training went; its own loss says nothing where it was weighted or smoothed."""
    output, run = scene.ready.task.output, scene.run
    course = policy.course_of([asdict(s) for s in scene.fitted.stages], output.best, scene.learning_rate)
    plain = scene.ready.weights is None and not run.config.training.get("label_smoothing_factor")
    return course if plain or course is None else replace(course, train_loss=None)


def _calibration(scene: Scene) -> dict[str, Any]:
    return calibration_report(*scene.certainty[2:], scene.outcome.final.temperature)


def _abstain(scene: Scene) -> dict[str, Any]:
    return abstain_report(*scene.certainty, scene.run.config.target_precision, scene.outcome.final.temperature.value)


def groupings_of(table: Any, inputs: Inputs, column: str | None) -> list[Grouping]:
    """Cut rows by what the inputs offer, such as text length or image size, and by the column that the user named."""
    groupings = [
        by_quantiles(name, values, unit) if unit else by_values(name, values)
        for name, values, unit in inputs.groups(table)
    ]
    if "slice" in table.column_names:
        groupings.append(by_values(str(column), table["slice"][:]))
    return groupings


def _slices(scene: Scene) -> list[dict[str, Any]]:
    output = scene.ready.task.output
    groupings = groupings_of(scene.test, scene.ready.task.inputs, scene.run.config.data.slice_column)
    return [
        {
            "by": s.by,
            "slice": s.name,
            "count": s.count,
            "weak": s.weak,
            output.headline: {"value": s.value, "low": s.low, "high": s.high},
        }
        for s in _scored(groupings, scene)
    ]


def _scored(groupings: list[Grouping], scene: Scene) -> list[Slice]:
    """Score every slice: exactly where the headline score is a share of right rows, else by resampling."""
    output = scene.ready.task.output
    if output.headline in output.right:
        return right_slices(groupings, output.right[output.headline](scene.answers, scene.targets))
    statistics = output.statistics(scene.answers, *scene.truth)
    score = output.scores[output.headline]
    return score_slices(groupings, statistics, score, smaller=output.headline in output.smaller)


def _confusion(scene: Scene) -> list[list[int]]:
    output = scene.ready.task.output
    if output.units is None:  # a row has no class of its own
        return [list(cell) for cell in output.mistaken(scene.answers, *scene.truth)[1]]  # type: ignore[misc]
    return [list(cell) for cell in confusion(scene.answers, scene.targets, len(scene.ready.splits.labels))]


def _type_confusion(scene: Scene) -> dict[str, Any]:
    """Which types of entities are taken for which; the last name stands for no entity at all."""
    names, cells = scene.ready.task.output.mistaken(scene.answers, *scene.truth)  # type: ignore[misc]
    return {"names": list(names), "cells": [list(cell) for cell in cells]}


def _worst_rows(scene: Scene) -> list[dict[str, Any]]:
    return _numbered(
        worst_rows(scene.ready.task.output, scene.outcome.logits["test"], scene.targets, WORST), scene.test
    )


def _suspects(scene: Scene) -> list[dict[str, Any]]:
    """Of texts by the mean of the states: on banking77 a few more flipped labels are found so than by the pooler."""
    ready, arrays = scene.ready, scene.seen.features["train"]
    features = np.asarray(arrays.get("mean", arrays["native"]))
    suspects = suspect_labels(features, ready.train.targets, len(ready.splits.labels), limit=SUSPECTS)
    return _numbered([asdict(suspect) for suspect in suspects], ready.splits.train)


def _numbered(rows: list[dict[str, Any]], table: Any) -> list[dict[str, Any]]:
    """Return the rows with the number that each has in the source beside that in the split."""
    numbers = table["row"][:]
    return [{**row, "source_row": int(numbers[row["row"]])} for row in rows]


def _conformal(scene: Scene) -> dict[str, Any] | None:
    """Half the width of the interval of a single answer, and how many test rows it holds."""
    width = getattr(scene.outcome.final.model.config, "conformal_width", None)
    if width is None:
        return None
    share = coverage(scene.answers, scene.targets, width)
    return {"level": scene.outcome.final.model.config.conformal_level, "width": width, "test_coverage": asdict(share)}


PARTS: dict[str, Callable[[Scene], Any]] = {
    "forgetting": lambda scene: scene.forgetting,
    "calibration": _calibration,
    "abstain": _abstain,
    "conformal": _conformal,
    "slices": _slices,
    "confusion": _confusion,
    "type_confusion": _type_confusion,
    "worst_rows": _worst_rows,
    "suspects": _suspects,
    "doctor": lambda scene: [asdict(finding) for finding in scene.before.findings],
}
