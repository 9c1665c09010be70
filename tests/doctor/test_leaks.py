"""Features that tell the label, and features that do not."""

import re

import numpy as np
import pytest

from hftl.doctor.leaks import predictability
from tests.doctor.tables import examined, table


def test_leaks():
    data = table(300, 3)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 1000, 300)
    assert examined(data.assign(number=noise, word=noise.astype(str)))["leaky_feature"].level == "PASS"
    code = data["label"].map({"mood 0": "x", "mood 1": "y", "mood 2": "z"})
    path = [f"scan_{c}_{i}" for i, c in enumerate(code)]  # no value twice, but the pattern tells
    score = code.map({"x": 0.0, "y": 5.0, "z": 10.0}) + rng.random(300)
    finding = examined(data.assign(code=code, path=path, score=score, number=noise))["leaky_feature"]
    assert (finding.level, finding.count) == ("WARN", 3)
    assert re.findall(r"column '(\w+)'", finding.fix) == ["code", "path", "score"]
    longer = [
        t + " and more of it" * (label == "mood 1") for t, label in zip(data["text"], data["label"], strict=True)
    ]
    assert "length of the text" in examined(data.assign(text=longer))["leaky_feature"].fix


def test_predictability_is_held_out():
    labels = np.random.default_rng(0).integers(0, 2, 400)
    accuracy, majority = predictability([f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)], labels)
    assert accuracy == majority  # values that never come again tell nothing
    assert predictability(labels.tolist(), labels)[0] == 1.0
    assert majority == pytest.approx(np.bincount(labels).max() / 400, abs=0.01)
