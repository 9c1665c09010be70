"""Every rule of the policy; and that the doctor, `hftl plan` and the advice of a run say the same of one data set."""

from dataclasses import replace
from functools import cache

import pytest

from hftl.evaluation.bootstrap import Interval as Gap
from hftl.evaluation.verdict import Comparison, Verdict
from hftl.evidence import advice
from hftl.methods import METHODS
from hftl.methods.policy import (
    FEW,
    HIGHER_RATE,
    LONGER,
    LOWER_RATE,
    MANY,
    NO_TRANSFER,
    PATIENCE,
    WIDE,
    Course,
    Facts,
    course_of,
    learns_more,
    look_at,
    recommend,
)
from tests.doctor.tables import examined, table
from tests.runs import text_frame, tiny_run


ABOVE, LEVEL, BELOW = Gap(0.05, 0.02, 0.08), Gap(-0.01, -0.03, 0.01), Gap(-0.05, -0.08, -0.02)
MODERATE = Facts(rows_per_class=100, gap=ABOVE, baseline="TF-IDF", full_seconds=60.0, full_fits=True, width=384)


@pytest.mark.parametrize(
    ("changes", "method", "said"),
    [
        ({"gap": None, "rows_per_class": 3}, "probe", "3 rows per class are few"),
        ({"gap": BELOW, "rows_per_class": FEW}, NO_TRANSFER, "Use the baseline"),
        ({"gap": BELOW, "full_seconds": PATIENCE + 1}, NO_TRANSFER, "8.0 h"),
        ({"gap": BELOW, "full_fits": False}, "lora", "do not fit in memory"),
        ({"gap": BELOW}, "full", "every layer has to learn"),
        ({"gap": BELOW, "full_fits": None}, "full", "every layer has to learn"),
        ({"gap": ABOVE, "rows_per_class": FEW}, "probe", "beats TF-IDF"),
        ({"gap": LEVEL, "rows_per_class": 10}, "probe", "is level with TF-IDF"),
        ({"full_seconds": PATIENCE + 1}, "head", "cached features"),
        ({"rows_per_class": 2000, "full_seconds": PATIENCE + 1}, "head", "cached features"),
        ({"rows_per_class": FEW + 1}, "full", "carry all layers"),
        ({"width": WIDE}, "lora", "neither few nor many (32 to 500) for a model 1024 wide"),
        ({"width": WIDE, "rows_per_class": MANY + 1}, "full", "carry all layers"),
        ({"width": None}, "full", "carry all layers"),
        ({"gap": LEVEL}, "full", "is level with"),
        ({"rows_per_class": MANY + 1}, "full", "60 s"),
        ({"rows_per_class": 2000, "full_seconds": 600.0}, "full", "10 min"),
        ({"rows_per_class": 2000, "full_fits": False}, "lora", "do not fit in memory"),
        (
            {"full_seconds": None, "full_fits": None, "gap": None},
            "full",
            "100 rows per class (above 32) carry all layers.",
        ),
    ],
)
def test_rules(changes, method, said):
    found = recommend(replace(MODERATE, **changes))
    assert found.method == method
    assert said in found.reason
    assert found.method in {*METHODS, NO_TRANSFER}


def test_the_reason_gives_the_figures():
    assert "+5.0 points, 95% +2.0 to +8.0" in recommend(MODERATE).reason
    assert "100 rows per class" in recommend(MODERATE).reason


def test_more_is_to_learn_only_above_the_method():
    assert [learns_more(MODERATE, name) is not None for name in ("probe", "head", "gradual", "lora", "full")] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert learns_more(replace(MODERATE, full_seconds=PATIENCE + 1), "probe") is None  # a head is no more
    few = replace(MODERATE, rows_per_class=8)
    assert learns_more(few, "probe") is learns_more(few, "full") is learns_more(MODERATE, "wise") is None


def history(losses, scores, train=1.0):
    looks = [
        {"step": 10.0 * (i + 1), "eval_loss": a, "eval_f1": b}
        for i, (a, b) in enumerate(zip(losses, scores, strict=True))
    ]
    logs = [{"step": look["step"] - 1, "loss": train} for look in looks]
    return [{"steps": 0, "history": []}, {"steps": 10 * len(losses), "history": [*logs, *looks]}]


@pytest.mark.parametrize(
    ("losses", "scores", "train", "steps"),
    [
        ((1.0, 0.8, 0.7), (0.5, 0.6, 0.7), 0.9, [(HIGHER_RATE, "--learning_rate 0.0006"), (LONGER, "--max_steps 60")]),
        ((1.0, 0.8, 0.7), (0.5, 0.6, 0.7), 0.3, [(HIGHER_RATE, "--learning_rate 0.0006"), (LONGER, "--max_steps 60")]),
        ((1.0, 0.8, 0.75), (0.5, 0.7, 0.7), 0.3, [(LONGER, "--max_steps 60")]),  # it slowed
        ((1.0, 0.8), (0.5, 0.7), 0.3, [(LONGER, "--max_steps 40")]),
        ((1.0, 0.8, 0.79), (0.5, 0.6, 0.7), 0.9, []),  # no more than 2% at the end
        ((1.0, 0.8, 0.7), (0.5, 0.8, 0.7), 0.9, []),  # the score fell
        ((0.5, 0.6, 0.7), (0.8, 0.7, 0.7), 0.1, [(LOWER_RATE, "--learning_rate 6.7e-05")]),
        ((0.5, 0.6, 0.7), (0.7, 0.7, 0.8), 0.1, []),  # surer of its errors, and yet better
        ((0.5, 0.52, 0.53), (0.8, 0.7, 0.7), 0.1, []),
        ((0.5, 0.7), (0.8, 0.7), 0.1, []),  # two looks are few
    ],
)
def test_what_a_course_asks_for(losses, scores, train, steps):
    course = course_of(history(losses, scores, train), "f1", 2e-4)
    assert [(advice, flags) for advice, _, flags in look_at(course)] == steps


def test_a_course_without_looks_or_its_own_loss():
    stages = history((1.0, 0.8, 0.7), (0.5, 0.6, 0.7), 0.9)
    assert course_of(stages, "f1", None) is course_of(history((1.0,), (0.5,)), "f1", 1e-3) is None
    assert course_of([{"steps": 0, "history": []}], "f1", 1e-3) is None
    weighted = replace(course_of(stages, "f1", 2e-4), losses=(1.0, 0.8, 0.75), train_loss=None)
    assert [step[0] for step in look_at(weighted)] == [LONGER]
    assert course_of(stages, "f1", 2e-4) == Course((1.0, 0.8, 0.7), (0.5, 0.6, 0.7), 0.9, 30, 2e-4)


POSITIVE = Verdict("POSITIVE", 0.1, 0.05, 0.15, 0.001)
NEGATIVE = Verdict("NEGATIVE", -0.1, -0.15, -0.05, 0.001)


@cache
def doctors(rows):
    return examined(table(3 * rows, 3), method="full")["too_few_rows"]


@pytest.mark.parametrize("rows", [4, 20, 32, 33, 100])
@pytest.mark.parametrize("gap", [ABOVE, LEVEL, BELOW])
@pytest.mark.parametrize("width", [384, 1024])
def test_doctor_plan_and_advice_agree(rows, gap, width):
    plan = recommend(Facts(rows, gap, "TF-IDF", 60.0, True, width))
    finding = doctors(rows)
    # What the doctor warns of, `hftl plan` does not recommend, and the other way round.
    assert (finding.level == "WARN") == (plan.method in ("probe", NO_TRANSFER))
    assert finding.level != "WARN" or "use --method probe" in finding.fix
    compared = Comparison(3 * rows, "TF-IDF", 0.8, 0.7, gap)
    facts = advice.Facts("probe", 0.8, rows, 500, "TF-IDF", 0.7, cross_validated=compared, width=width)
    verdict = NEGATIVE if gap is BELOW else POSITIVE
    steps = {step.advice: step for step in advice.advise(verdict, facts)}
    fine_tune = steps.get(advice.FINE_TUNE)
    assert (fine_tune is None) == (plan.method in ("probe", NO_TRANSFER))
    assert fine_tune is None or fine_tune.flags == f"--method {plan.method}"
    assert (advice.MORE_LABELS in steps) == (finding.level == "WARN")
    if plan.method == NO_TRANSFER:
        assert advice.NO_TRANSFER in steps


def test_the_course_of_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    options = {"max_steps": -1, "num_train_epochs": 3, "learning_rate": 1e-4, "data": text_frame(60)}
    report = tiny_run("bert", "full", tmp_path, **options).report
    (stage,) = [stage for stage in report["stages"] if stage["steps"]]
    course = course_of(report["stages"], "macro_f1", 1e-4)
    assert (len(course.losses), len(course.scores), course.steps) == (3, 3, stage["steps"])
    logged = [entry["loss"] for entry in stage["history"] if "loss" in entry]
    assert min(logged) <= course.train_loss <= max(logged)
    assert course.losses[-1] == next(e["eval_loss"] for e in reversed(stage["history"]) if "eval_loss" in e)
