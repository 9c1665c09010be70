from dataclasses import replace

import pytest

from hftl.evaluation.advice import CLOSER_DOMAIN, FINE_TUNE, LOWER_RATE, MORE_LABELS, NO_TRANSFER, Facts, advise
from hftl.evaluation.verdict import Difference, Verdict


def verdict(label, gap, low, high):
    return Verdict(label, gap, low, high, 0.01, Difference(label, gap, low, high, 0.01))


NEGATIVE = verdict("NEGATIVE", -0.06, -0.085, -0.035)
NEUTRAL = verdict("NEUTRAL", -0.001, -0.012, 0.01)
WIDE = verdict("NEUTRAL", 0.02, -0.05, 0.09)
FACTS = Facts(
    method="probe", accuracy=0.91, rows_per_class=125, n_test=540, baseline_name="raw pixels + logistic regression",
    baseline=0.97, majority=0.1, neighbours=0.9, probe=0.91, random_probe=0.7,
)  # fmt: skip


def advice(found, facts):
    return [step.advice for step in advise(found, facts)]


def test_positive_needs_none():
    assert advise(verdict("POSITIVE", 0.1, 0.05, 0.15), FACTS) == []


def test_frozen_features_far_from_the_data():
    assert advice(NEGATIVE, FACTS) == [FINE_TUNE, CLOSER_DOMAIN, NO_TRANSFER]


def test_frozen_features_that_are_level():
    assert advice(NEUTRAL, FACTS) == [FINE_TUNE, NO_TRANSFER]


def test_few_rows_ask_for_labels_and_not_for_fine_tuning():
    assert advice(NEGATIVE, replace(FACTS, rows_per_class=8)) == [CLOSER_DOMAIN, MORE_LABELS, NO_TRANSFER]


def test_a_wide_interval_asks_for_labels():
    assert MORE_LABELS in advice(WIDE, FACTS)
    assert MORE_LABELS not in advice(NEUTRAL, FACTS)


def test_fine_tuning_below_its_probe_asks_for_lower_rates():
    facts = replace(FACTS, method="full", accuracy=0.85, learning_rate=1e-3)
    steps = advise(NEGATIVE, facts)
    assert steps[0].advice == LOWER_RATE
    assert "0.001" in steps[0].reason
    assert "85.0%" in steps[0].reason
    assert "91.0%" in steps[0].reason
    assert FINE_TUNE not in [step.advice for step in steps]
    assert LOWER_RATE not in advice(NEGATIVE, replace(facts, accuracy=0.93))


def test_pretraining_that_does_nothing_asks_for_a_closer_domain():
    assert CLOSER_DOMAIN in advice(NEUTRAL, replace(FACTS, random_probe=0.905))


@pytest.mark.parametrize("found", [NEGATIVE, NEUTRAL, WIDE])
@pytest.mark.parametrize("method", ["probe", "full"])
def test_rungs_that_were_not_measured_are_no_obstacle(found, method):
    facts = replace(FACTS, method=method, majority=None, neighbours=None, probe=None, random_probe=None)
    steps = advise(found, facts)
    assert steps[-1].advice == NO_TRANSFER
    assert not any("None" in step.reason or "nan" in step.reason for step in steps)


def test_reasons_are_sentences_with_the_figures():
    for step in advise(NEGATIVE, FACTS):
        assert step.reason[-1] in ".?"
        assert any(char.isdigit() for char in step.reason)
    last = advise(NEGATIVE, FACTS)[-1].reason
    assert "better by 6.0 points" in last
    assert "3.5 to 8.5" in last


def test_a_baseline_that_learned_nothing_is_named():
    assert "10.0%" in advise(NEGATIVE, replace(FACTS, baseline=0.105))[-1].reason
