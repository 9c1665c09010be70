"""All evidence of a finished run as one part of report.json: row numbers, figures and words, never a row's content."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hftl.evaluation.abstain import abstain_report
from hftl.evaluation.advice import Facts, advise
from hftl.evaluation.calibration import Temperature, calibration_report
from hftl.evaluation.mistakes import confusion, worst_rows
from hftl.evaluation.saved_baseline import save_baseline
from hftl.evaluation.slices import Grouping, by_quantiles, by_values, slice_scores
from hftl.evaluation.suspects import suspect_labels
from hftl.evaluation.verdict import Verdict, accuracy_difference, compare_paired
from hftl.evidence.before import Base
from hftl.evidence.compare import compare
from hftl.evidence.ladder import NEIGHBOURS, PROBE, Control, Ladder, build_ladder
from hftl.prepare import Prepared
from hftl.training.logistic import Probe, cv_rows
from hftl.training.probing import Features


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


def gather(
    ready: Prepared,
    features: Features,
    base: Base,
    probe: Probe,
    control: Control | None,
    outcome: Outcome,
    kept: dict[str, Any] | None,
    work: Path,
) -> dict[str, Any]:
    """Return the evidence, as docs/report.md lists it; save the baseline into `work` when transfer is not better.

    `probe` is the one that the run began with.
    """
    start = time.perf_counter()
    test, references = outcome.logits["test"], base.test.labels
    predictions = test.argmax(-1)
    ladder = build_ladder(ready, features, base, probe, predictions, outcome.seconds, control)
    verdict = compare_paired(predictions, ladder.best.predictions, references)
    if verdict.label != "POSITIVE":
        save_baseline(ladder.best, work / FOLDER, ready.splits.labels)
    found = {
        "ladder": ladder.rungs,
        "verdict": _verdict(verdict, ladder, ready, features, predictions, references, outcome.learning_rate),
        "forgetting": kept,
        **_certainty(ready, base, outcome),
        "slices": [
            {
                "by": s.by, "slice": s.name, "count": s.count, "weak": s.weak,
                "accuracy": {"value": s.accuracy, "low": s.low, "high": s.high},
            }
            for s in slice_scores(_groupings(ready), predictions, references)
        ],
        "confusion": [list(cell) for cell in confusion(predictions, references, len(ready.splits.labels))],
        "worst_rows": _numbered(worst_rows(test, references, WORST), ready.splits.test),
        "suspects": _numbered(_suspects(ready, features), ready.splits.train),
        "doctor": [asdict(finding) for finding in base.findings],
    }  # fmt: skip
    after = float(kept["seconds_after"]) if kept else 0.0
    return {**found, "seconds": round(base.seconds + after + time.perf_counter() - start, 3)}


def _verdict(
    verdict: Verdict,
    ladder: Ladder,
    ready: Prepared,
    features: Features,
    predictions: np.ndarray,
    references: np.ndarray,
    learning_rate: float | None,
) -> dict[str, Any]:
    """The verdict, what cross-validation says where few test rows leave it open, and what to try."""
    compared = None
    if verdict.kind == "UNDECIDED" and len(references) < FEW_TEST_ROWS:
        rows = cv_rows(ready.train.labels, ready.config.train_seed)
        compared = compare(ready, rows, {k: np.asarray(v[rows]) for k, v in features["train"].items()})
    facts = _facts(ready, ladder, predictions, references)
    facts = replace(facts, learning_rate=learning_rate, cross_validated=compared)
    return {
        **asdict(verdict),
        "against": ladder.best.name,
        "cross_validation": asdict(compared) if compared else None,
        "advice": [asdict(a) for a in advise(verdict, facts)],
    }


def _facts(ready: Prepared, ladder: Ladder, predictions: np.ndarray, references: np.ndarray) -> Facts:
    counts = np.bincount(ready.train.labels)
    best = ladder.accuracy(ladder.best.name)
    assert best is not None
    method, probe, baseline, majority = (
        found == references
        for found in (predictions, ladder.probe, ladder.best.predictions, ladder.baselines[0].predictions)
    )
    return Facts(
        method=str(ready.config.method.method),
        rows_per_class=float(np.median(counts[counts > 0])),
        n_test=len(references),
        accuracy=float(ladder.rungs[-1]["accuracy"]["value"]),
        baseline=best,
        baseline_name=ladder.best.name,
        majority=float(ladder.rungs[0]["accuracy"]["value"]),
        baseline_over_majority=accuracy_difference(baseline, majority),
        neighbours=ladder.accuracy(NEIGHBOURS),
        probe=ladder.accuracy(PROBE),
        method_over_probe=accuracy_difference(method, probe),
        probe_over_baseline=accuracy_difference(probe, baseline),
        pretraining=ladder.pretraining,
    )


def _certainty(ready: Prepared, base: Base, outcome: Outcome) -> dict[str, Any]:
    four = (outcome.raw("validation"), ready.validation.labels, outcome.raw("test"), base.test.labels)
    found = calibration_report(*four, outcome.temperature)
    scores = {
        when: {
            "ece": found["test"][when]["ece"]["value"],
            "ece_low": found["test"][when]["ece"]["low"],
            "ece_high": found["test"][when]["ece"]["high"],
            "ece_if_calibrated": found["test"][when]["ece_if_calibrated"],
            "log_loss": found["test"][when]["log_loss"],
            "brier": found["test"][when]["brier"],
        }
        for when in ("before", "after")
    }
    notes = [note for note in (outcome.temperature.reason, found["note"]) if note]
    bins = {f"bins_{when}": found["test"][when]["bins"] for when in scores}
    held = abstain_report(*four, ready.config.target_precision, outcome.temperature.value)
    seen = held["test"] or {}
    return {
        "calibration": {"temperature": outcome.temperature.value, **scores, **bins, "note": " ".join(notes)},
        "abstain": {
            "precision": held["wished"],
            "threshold": held["threshold"],
            "test_precision": seen.get("precision"),
            "coverage": seen.get("coverage"),
            "curve": [[point["coverage"], point["precision"]] for point in held["curve"]],
            "note": held["reason"],
        },
    }


def _groupings(ready: Prepared) -> list[Grouping]:
    """The ways to cut the test rows: text length or image size and mode, and the column that the user named."""
    table = ready.splits.test
    found = [
        by_quantiles(name, values, unit) if unit else by_values(name, values)
        for name, values, unit in ready.task.inputs.groups(table)
    ]
    if "slice" in table.column_names:
        found.append(by_values(str(ready.config.data.slice_column), table["slice"][:]))
    return found


def _suspects(ready: Prepared, features: Features) -> list[Any]:
    """Of texts by the mean of the states: on banking77 a few more flipped labels are found so than by the pooler."""
    arrays = features["train"]
    chosen = np.asarray(arrays.get("mean", arrays["native"]))
    return suspect_labels(chosen, ready.train.labels, len(ready.splits.labels), limit=SUSPECTS)


def _numbered(found: list[Any], table: Any) -> list[dict[str, Any]]:
    """As plain values, with the number that each row has in the source beside that in the split."""
    numbers = table["row"][:]
    return [{**asdict(one), "source_row": int(numbers[one.row])} for one in found]
