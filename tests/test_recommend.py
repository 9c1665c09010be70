"""Every branch of the rules that recommend a method."""

from dataclasses import replace

import pytest

from hftl.evaluation.bootstrap import Interval as Gap
from hftl.methods import METHODS
from hftl.planning.recommend import FEW_PER_CLASS, MANY_PER_CLASS, NO_TRANSFER, PATIENCE, Facts, recommend


ABOVE, LEVEL, BELOW = Gap(0.05, 0.02, 0.08), Gap(-0.01, -0.03, 0.01), Gap(-0.05, -0.08, -0.02)
MODERATE = Facts(rows_per_class=100, gap=ABOVE, baseline="TF-IDF", full_seconds=60.0, full_fits=True, convnet=False)


@pytest.mark.parametrize(
    ("changes", "method", "said"),
    [
        ({"gap": None, "rows_per_class": 3}, "probe", "too few to cross-validate"),
        ({"gap": BELOW, "rows_per_class": FEW_PER_CLASS}, NO_TRANSFER, "Use the baseline"),
        ({"gap": BELOW, "full_seconds": PATIENCE + 1}, NO_TRANSFER, "8.0 h"),
        ({"gap": BELOW, "full_fits": False}, "lora", "do not fit in memory"),
        ({"gap": BELOW}, "full", "every layer has to learn"),
        ({"gap": BELOW, "full_fits": None}, "full", "every layer has to learn"),
        ({"gap": ABOVE, "rows_per_class": FEW_PER_CLASS}, "probe", "beats TF-IDF"),
        ({"gap": LEVEL, "rows_per_class": 10}, "probe", "is level with TF-IDF"),
        ({"full_seconds": PATIENCE + 1}, "head", "cached features"),
        ({"rows_per_class": 2000, "full_seconds": PATIENCE + 1}, "head", "cached features"),
        ({"rows_per_class": FEW_PER_CLASS + 1}, "lora", "neither few nor many"),
        ({"rows_per_class": MANY_PER_CLASS}, "lora", "neither few nor many"),
        ({"gap": LEVEL}, "lora", "is level with"),
        ({"convnet": True}, "gradual", "from the top"),
        ({"rows_per_class": MANY_PER_CLASS + 1}, "full", "60 s"),
        ({"rows_per_class": 2000, "full_seconds": 600.0}, "full", "10 min"),
        ({"rows_per_class": 2000, "full_fits": False}, "lora", "does not fit in memory"),
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
