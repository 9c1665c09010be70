"""Scores are those that any machine computes from the weights, also where the user's process has TF32 on."""

import numpy as np
import pytest
import torch

from tests.gpu.answers import by_hftl, by_pipeline, rows_of
from tests.runs import tiny_run


@pytest.fixture
def tf32():
    """TF32 wherever CUDA has it, by the switches of torch 2.9 and later."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32"
    yield
    for place, value in zip(places, before, strict=True):
        place.fp32_precision = value


@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_scores_under_tf32_are_those_of_fp32_on_the_cpu(family, folder, gpu, tf32):
    run = tiny_run(family, "probe", folder, f"{family}-tf32", use_cpu=not gpu, pooling="native").run_dir
    rows = rows_of(family, folder)
    ours, model = by_hftl(run, rows)
    assert (next(model.parameters()).device.type == "cuda") is gpu
    exact = by_pipeline(run, family, rows, "cpu")
    np.testing.assert_allclose(ours, exact, atol=1e-5)
    if gpu:  # else the guard would guard nothing
        rounded = by_pipeline(run, family, rows, "cuda")
        assert np.abs(rounded - exact).max() > np.abs(ours - exact).max()
