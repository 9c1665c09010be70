"""All evidence of a finished run as one part of report.json: row numbers, figures and words, never a row's content."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hftl.evaluation.abstain import abstain_report
from hftl.evaluation.calibration import Temperature, calibration_report, fit_temperature
from hftl.evaluation.row_scores import confusion, worst_rows
from hftl.evaluation.saved_baseline import save_baseline
from hftl.evaluation.slices import by_quantiles, by_values, slice_scores
from hftl.evaluation.suspects import suspect_labels
from hftl.evaluation.verdict import Comparison, accuracy_difference, compare_paired
from hftl.evidence.advice import Facts, advise
from hftl.evidence.before import Base
from hftl.evidence.ladder import Control, Ladder, build_ladder, compare
from hftl.methods.plan import Plan
from hftl.models.heads import fold_temperature
from hftl.prepare import Prepared
from hftl.training.features import predict_logits
from hftl.training.logistic import Probe, cv_rows
from hftl.training.probing import Features
from hftl.training.world import broadcast_from_main


WORST, SUSPECTS = 50, 100  # rows that the report names
FEW_TEST_ROWS = 200  # below which an accuracy is known to 7 points at best: cross-validation on train knows more
FOLDER = "baseline"  # of the run: where the best baseline is saved when the transfer is not shown to be better


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the trained model says, temperature included: logits [n, classes] by split; and how it came about."""

    logits: dict[str, np.ndarray]
    temperature: Temperature
    learning_rate: float | None
    seconds: float  # of features and training

    def raw(self, split: str) -> np.ndarray:
        """Logits before the temperature."""
        return self.logits[split] * self.temperature.value


def calibrate(plan: Plan, ready: Prepared, *, fit: bool) -> tuple[Temperature, np.ndarray]:
    """Fold a temperature into the head of `plan.model`, so that plain `pipeline` has it.

    Returns it with the validation logits [n, classes] before it. Adapters are not merged yet, so that the adapter
    folder gets the same head. Without `fit` the temperature is 1.
    """
    logits = predict_logits(plan.model, ready.validation, ready.collate, use_cpu=ready.use_cpu, title="validation")
    if not fit:
        return Temperature(1.0, False, "not asked for", 0), logits
    temperature = broadcast_from_main(fit_temperature(logits, ready.validation.labels))
    if temperature.value != 1.0:
        for output in plan.outputs:
            fold_temperature(plan.model, output, temperature.value)
    return temperature, logits


@dataclass(frozen=True, eq=False)
class Scene:
    """All that a part of the evidence may look at."""

    ready: Prepared
    features: Features
    base: Base
    probe: Probe  # the one that the run began with
    control: Control | None
    outcome: Outcome
    forgetting: dict[str, Any] | None
    work: Path

    @property
    def references(self) -> np.ndarray:
        """True class ids of the test rows, [n]."""
        return np.asarray(self.base.test.labels)

    @property
    def predictions(self) -> np.ndarray:
        """Class ids that the trained model answers for the test rows, [n]."""
        return self.outcome.logits["test"].argmax(-1)

    @property
    def certainty(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Logits before the temperature, and true class ids, of the validation and of the test rows."""
        validation, test = self.outcome.raw("validation"), self.outcome.raw("test")
        return validation, self.ready.validation.labels, test, self.references


def gather(
    ready: Prepared,
    features: Features,
    base: Base,
    probe: Probe,
    control: Control | None,
    outcome: Outcome,
    forgetting: dict[str, Any] | None,
    work: Path,
) -> dict[str, Any]:
    """Return the evidence, as docs/report.md lists it; save the baseline into `work` when transfer is not better.

    `probe` is the one that the run began with.
    """
    start = time.perf_counter()
    scene = Scene(ready, features, base, probe, control, outcome, forgetting, work)
    evidence = _ladder_and_verdict(scene)
    evidence |= {name: PARTS[name](scene) for name in ready.task.output.parts}
    after = float(forgetting["seconds_after"]) if forgetting else 0.0
    return {**evidence, "seconds": round(base.seconds + after + time.perf_counter() - start, 3)}


def _ladder_and_verdict(scene: Scene) -> dict[str, Any]:
    """The ladder, the verdict, what cross-validation says where few test rows leave it open, and what to try."""
    ready, outcome = scene.ready, scene.outcome
    ladder = build_ladder(
        ready, scene.features, scene.base, scene.probe, scene.predictions, outcome.seconds, scene.control
    )
    verdict = compare_paired(ladder.method.predictions, ladder.best.predictions, scene.references)
    if verdict.label != "POSITIVE":
        save_baseline(ladder.best_baseline, scene.work / FOLDER, ready.splits.labels)
    compared = None
    if verdict.kind == "UNDECIDED" and len(scene.references) < FEW_TEST_ROWS:
        rows = cv_rows(ready.train.labels, ready.config.train_seed)
        compared = compare(ready, rows, {k: np.asarray(v[rows]) for k, v in scene.features["train"].items()})
    document = {
        **asdict(verdict),
        "against": ladder.best_baseline.name,
        "cross_validation": asdict(compared) if compared else None,
        "advice": [asdict(advice) for advice in advise(verdict, _facts(scene, ladder, compared))],
    }
    return {"ladder": [rung.report for rung in ladder.rungs], "verdict": document}


def _facts(scene: Scene, ladder: Ladder, compared: Comparison | None) -> Facts:
    counts = np.bincount(scene.ready.train.labels)
    rungs = (ladder.method, ladder.probe, ladder.best, ladder.majority)
    method, probe, baseline, majority = (rung.predictions == scene.references for rung in rungs)
    return Facts(
        method=str(scene.ready.config.method.method),
        rows_per_class=float(np.median(counts[counts > 0])),
        n_test=len(scene.references),
        accuracy=ladder.method.accuracy,
        baseline=ladder.best.accuracy,
        baseline_name=ladder.best_baseline.name,
        majority=ladder.majority.accuracy,
        baseline_over_majority=accuracy_difference(baseline, majority),
        neighbours=ladder.neighbours.accuracy,
        probe=ladder.probe.accuracy,
        method_over_probe=accuracy_difference(method, probe),
        probe_over_baseline=accuracy_difference(probe, baseline),
        pretraining=ladder.pretraining,
        learning_rate=scene.outcome.learning_rate,
        cross_validated=compared,
    )


def _calibration(scene: Scene) -> dict[str, Any]:
    temperature = scene.outcome.temperature
    report = calibration_report(*scene.certainty, temperature)
    document: dict[str, Any] = {"temperature": temperature.value}
    for when, scores in report["test"].items():
        ece = scores["ece"]
        document[when] = {"ece": ece["value"], "ece_low": ece["low"], "ece_high": ece["high"]}
        document[when] |= {name: scores[name] for name in ("ece_if_calibrated", "log_loss", "brier")}
    document |= {f"bins_{when}": scores["bins"] for when, scores in report["test"].items()}
    return {**document, "note": " ".join(note for note in (temperature.reason, report["note"]) if note)}


def _abstain(scene: Scene) -> dict[str, Any]:
    precision, temperature = scene.ready.config.target_precision, scene.outcome.temperature.value
    report = abstain_report(*scene.certainty, precision, temperature)
    test = report["test"] or {}
    return {
        "precision": report["target"],
        "threshold": report["threshold"],
        "test_precision": test.get("precision"),
        "coverage": test.get("coverage"),
        "curve": [[point["coverage"], point["precision"]] for point in report["curve"]],
        "note": report["reason"],
    }


def _slices(scene: Scene) -> list[dict[str, Any]]:
    """By what the inputs offer, such as text length or image size, and by the column that the user named."""
    table = scene.ready.splits.test
    groupings = [
        by_quantiles(name, values, unit) if unit else by_values(name, values)
        for name, values, unit in scene.ready.task.inputs.groups(table)
    ]
    if "slice" in table.column_names:
        groupings.append(by_values(str(scene.ready.config.data.slice_column), table["slice"][:]))
    return [
        {
            "by": s.by,
            "slice": s.name,
            "count": s.count,
            "weak": s.weak,
            "accuracy": {"value": s.accuracy, "low": s.low, "high": s.high},
        }
        for s in slice_scores(groupings, scene.predictions, scene.references)
    ]


def _confusion(scene: Scene) -> list[list[int]]:
    return [list(cell) for cell in confusion(scene.predictions, scene.references, len(scene.ready.splits.labels))]


def _worst_rows(scene: Scene) -> list[dict[str, Any]]:
    return _numbered(worst_rows(scene.outcome.logits["test"], scene.references, WORST), scene.ready.splits.test)


def _suspects(scene: Scene) -> list[dict[str, Any]]:
    """Of texts by the mean of the states: on banking77 a few more flipped labels are found so than by the pooler."""
    ready, arrays = scene.ready, scene.features["train"]
    features = np.asarray(arrays.get("mean", arrays["native"]))
    suspects = suspect_labels(features, ready.train.labels, len(ready.splits.labels), limit=SUSPECTS)
    return _numbered(suspects, ready.splits.train)


def _numbered(rows: list[Any], table: Any) -> list[dict[str, Any]]:
    """As plain values, with the number that each row has in the source beside that in the split."""
    numbers = table["row"][:]
    return [{**asdict(row), "source_row": int(numbers[row.row])} for row in rows]


PARTS: dict[str, Callable[[Scene], Any]] = {
    "forgetting": lambda scene: scene.forgetting,
    "calibration": _calibration,
    "abstain": _abstain,
    "slices": _slices,
    "confusion": _confusion,
    "worst_rows": _worst_rows,
    "suspects": _suspects,
    "doctor": lambda scene: [asdict(finding) for finding in scene.base.findings],
}
