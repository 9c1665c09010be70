from dataclasses import replace

import numpy as np
import pytest

from hftl.evaluation.bootstrap import Difference, Interval
from hftl.evaluation.verdict import Comparison, Verdict, accuracy_difference, kind_of
from hftl.evidence.advice import (
    CLOSER_DOMAIN,
    FINE_TUNE,
    MORE_LABELS,
    MORE_TEST_ROWS,
    NO_TRANSFER,
    Facts,
    Pretraining,
    advise,
    undecided,
)
from hftl.methods.policy import HIGHER_RATE, LONGER, LOWER_RATE, Course, recommend
from hftl.methods.policy import Facts as Choice
from tests.paired import compare_paired


def difference(label, gap, low, high):
    return Difference(label, gap, low, high, 0.01)


def verdict(label, gap, low, high, rows_needed=None):
    found = difference(label, gap, low, high)
    return Verdict(label, gap, low, high, 0.01, found, kind_of(found, 540), rows_needed)


NEGATIVE = verdict("NEGATIVE", -0.06, -0.085, -0.035)
EQUIVALENT = verdict("NEUTRAL", -0.001, -0.012, 0.01)
AHEAD = verdict("NEUTRAL", 0.02, -0.05, 0.09, 1234)
BEHIND = verdict("NEUTRAL", -0.02, -0.09, 0.05)
WORSE, LEVEL = difference("NEGATIVE", -0.06, -0.08, -0.03), difference("NEUTRAL", -0.008, -0.03, 0.02)
FACTS = Facts(
    method="probe", score=0.91, rows_per_class=125, n_test=540, baseline_name="raw pixels + logistic regression",
    baseline=0.97, majority=0.1, baseline_over_majority=difference("POSITIVE", 0.87, 0.8, 0.9), neighbours=0.9,
    probe=0.91, method_over_probe=difference("NEUTRAL", 0.0, -0.01, 0.01), probe_over_baseline=WORSE,
    pretraining=Pretraining(0.9, 0.6, difference("POSITIVE", 0.3, 0.25, 0.35), 400, 400),
)  # fmt: skip


def advice(found, facts):
    return [step.advice for step in advise(found, facts)]


BETTER = verdict("POSITIVE", 0.1, 0.05, 0.15)


def test_what_worked_may_work_better():
    first, *rest = advise(BETTER, FACTS)
    assert not rest
    assert (first.advice, first.flags) == (FINE_TUNE, "--method full")
    assert first.reason == (
        "Frozen features reach 91.0%, above raw pixels + logistic regression (97.0%). 125 rows per class (above 32) carry "
        "all layers."
    )
    assert advice(BETTER, replace(FACTS, rows_per_class=8)) == [MORE_LABELS]
    assert advice(BETTER, replace(FACTS, method="full")) == []
    assert [step.flags for step in advise(BETTER, replace(FACTS, method="lora"))] == ["--method full"]


def test_what_a_race_has_tried_is_not_advised():
    assert FINE_TUNE in advice(NEGATIVE, replace(FACTS, raced=frozenset({"probe", "contrastive"})))
    assert advice(NEGATIVE, replace(FACTS, raced=frozenset({"probe", "full"}))) == [CLOSER_DOMAIN, NO_TRANSFER]


def test_the_course_of_the_training_is_looked_at():
    course = Course((1.0, 0.8, 0.7), (0.5, 0.6, 0.7), 0.9, 30, 2e-4)
    tuned = replace(FACTS, method="full", course=course)
    assert advice(BETTER, tuned) == advice(AHEAD, tuned)[1:3] == [HIGHER_RATE, LONGER]
    behind = replace(tuned, learning_rate=2e-4, method_over_probe=WORSE)
    assert advice(BETTER, behind) == [HIGHER_RATE, LONGER]  # behind its probe, but not spoiled: it still improves
    spoiled = replace(behind, course=replace(course, scores=(0.7, 0.7, 0.6)))
    assert [(step.advice, step.flags) for step in advise(BETTER, spoiled)] == [(LOWER_RATE, "--learning_rate 6.7e-05")]


def test_frozen_features_far_from_the_data():
    assert advice(NEGATIVE, FACTS) == [FINE_TUNE, CLOSER_DOMAIN, NO_TRANSFER]


def test_frozen_features_that_are_level():
    assert advice(EQUIVALENT, replace(FACTS, probe_over_baseline=LEVEL)) == [FINE_TUNE, NO_TRANSFER]


def test_few_rows_ask_for_labels_and_not_for_fine_tuning():
    assert advice(NEGATIVE, replace(FACTS, rows_per_class=8)) == [CLOSER_DOMAIN, MORE_LABELS, NO_TRANSFER]


def test_undecided_asks_for_test_rows_and_never_for_the_baseline():
    for found, side in ((AHEAD, "Ahead by 2.0 points"), (BEHIND, "Behind by 2.0 points")):
        first = advise(found, FACTS)[0]
        assert first.advice == MORE_TEST_ROWS
        assert first.reason.startswith(f"{side}, but 540 test rows cannot prove it: ")
        assert NO_TRANSFER not in advice(found, FACTS)
    assert "about 1,300 test rows would" in advise(AHEAD, FACTS)[0].reason
    assert "more than 100,000 test rows would" in advise(BEHIND, FACTS)[0].reason
    assert MORE_TEST_ROWS not in advice(EQUIVALENT, FACTS)
    assert undecided(0.0002, 1, None).startswith("Level with the baseline, but 1 test row cannot")


def test_a_baseline_that_is_behind_is_never_preferred():
    assert NO_TRANSFER in advice(EQUIVALENT, FACTS)
    assert NO_TRANSFER not in advice(verdict("NEUTRAL", 0.001, -0.01, 0.012), FACTS)


def test_fine_tuning_below_its_probe_asks_for_lower_rates():
    facts = replace(FACTS, method="full", score=0.85, learning_rate=1e-3, method_over_probe=WORSE)
    steps = advise(NEGATIVE, facts)
    assert steps[0].advice == LOWER_RATE
    assert "0.001" in steps[0].reason
    assert "85.0%" in steps[0].reason
    assert "91.0%" in steps[0].reason
    assert FINE_TUNE not in [step.advice for step in steps]


def test_one_row_of_120_spoils_no_features():
    probe = np.arange(120) >= 6
    method = np.arange(120) >= 7
    facts = replace(
        FACTS, method="lora", score=113 / 120, probe=114 / 120, method_over_probe=accuracy_difference(method, probe)
    )
    assert LOWER_RATE not in advice(NEGATIVE, facts)
    assert LOWER_RATE in advice(NEGATIVE, replace(facts, method_over_probe=accuracy_difference(probe & False, probe)))


def test_pretraining_that_does_nothing_asks_for_a_closer_domain():
    near = replace(FACTS, probe_over_baseline=LEVEL)
    useless = replace(near, pretraining=Pretraining(0.9, 0.9, LEVEL, 400, 300))
    reason = next(step.reason for step in advise(EQUIVALENT, useless) if step.advice == CLOSER_DOMAIN)
    assert "the same 400 rows" in reason
    assert "the same 300" in reason
    unsure = replace(near, pretraining=Pretraining(0.6, 0.58, difference("NEUTRAL", 0.02, -0.2, 0.25), 90, 24))
    assert CLOSER_DOMAIN not in advice(AHEAD, unsure)  # 24 rows show nothing either way
    assert CLOSER_DOMAIN not in advice(EQUIVALENT, near)


@pytest.mark.parametrize("found", [NEGATIVE, EQUIVALENT, AHEAD])
@pytest.mark.parametrize("method", ["probe", "full"])
def test_rungs_that_were_not_measured_are_no_obstacle(found, method):
    nothing = dict.fromkeys(
        (
            "majority", "baseline_over_majority", "neighbours", "probe", "method_over_probe", "probe_over_baseline",
            "pretraining",
        )
    )  # fmt: skip
    steps = advise(found, replace(FACTS, method=method, **nothing))
    assert (steps[-1].advice == NO_TRANSFER) == (found is not AHEAD)
    assert not any("None" in step.reason or "nan" in step.reason for step in steps)


def test_reasons_are_sentences_with_the_figures():
    for step in advise(NEGATIVE, FACTS):
        assert step.reason[-1] in ".?"
        assert any(char.isdigit() for char in step.reason)
    last = advise(NEGATIVE, FACTS)[-1].reason
    assert "better by 6.0 points" in last
    assert "3.5 to 8.5" in last


def test_a_baseline_that_learned_nothing_is_named():
    lucky = replace(FACTS, baseline=0.13, baseline_over_majority=difference("NEUTRAL", 0.03, -0.01, 0.07))
    assert "most frequent class (10.0%)" in advise(NEGATIVE, lucky)[-1].reason
    assert "most frequent class" not in advise(NEGATIVE, FACTS)[-1].reason


def test_plan_and_train_agree_on_120_images():
    """70.8% against 50.0% on 24 test rows, and a probe that beats the baseline on the 96 training rows."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 24)
    method, baseline = (truth + 1) % 3, (truth + 1) % 3
    method[:17], baseline[10:22] = truth[:17], truth[10:22]
    found = compare_paired(method, baseline, truth)
    assert (found.label, found.kind, round(100 * found.gap, 1)) == ("NEUTRAL", "UNDECIDED", 20.8)
    assert 24 < found.rows_needed < 500
    probe = rng.random(96) < 0.75
    gap = accuracy_difference(probe, probe & (rng.random(96) < 0.67))
    rivals = Comparison(96, "colour histogram", 0.75, 0.5, Interval(gap.gap, gap.low, gap.high))
    plan = recommend(Choice(32, rivals.gap, rivals.baseline, 10.0, True))
    facts = replace(FACTS, n_test=24, rows_per_class=32, probe_over_baseline=LEVEL, cross_validated=rivals)
    steps = advise(found, facts)
    assert plan.method == "probe"
    assert steps[0].advice == MORE_TEST_ROWS
    assert steps[0].reason.startswith("Ahead by 20.8 points, but 24 test rows cannot prove it: about ")
    assert plan.reason.split(" points")[0] in steps[0].reason  # the same comparison, in the same words
    assert NO_TRANSFER not in [step.advice for step in steps]
