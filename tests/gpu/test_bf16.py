"""Two methods a task in bf16: the weights stay fp32, learn nearly what fp32 learns, and answer alike anywhere."""

import numpy as np
import pytest
import torch

from tests.gpu.answers import by_hftl, by_pipeline, rows_of
from tests.runs import tiny_run, weights


@pytest.fixture(params=[("bert", "lora"), ("bert", "full"), ("vit", "full"), ("resnet", "gradual")], ids="-".join)
def runs(request, folder, gpu):
    """(family, the run in bf16, the run in fp32); the head starts alike in both: the probe would not."""
    family, method = request.param
    flags = {"use_cpu": not gpu, "max_steps": 8, "learning_rate": 1e-3, "init_head": "random"}
    done = [
        tiny_run(family, method, folder, f"{family}-{method}-{bf16}", bf16=bf16, **flags) for bf16 in (True, False)
    ]
    return family, *done


def test_bf16(runs, folder, gpu):
    family, half, full = runs
    ours, theirs = (
        {k: v for k, v in weights(run.run_dir, family).items() if v.is_floating_point()} for run in (half, full)
    )
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in ours.values())
    assert any(not torch.equal(t, ours[name]) for name, t in theirs.items()), "bf16 was not on"
    for name, t in theirs.items():
        torch.testing.assert_close(ours[name], t, rtol=0.1, atol=0.02, msg=lambda text, name=name: f"{name}: {text}")
    losses = [
        [entry["eval_loss"] for entry in run.report["stages"][-1]["history"] if "eval_loss" in entry]
        for run in (half, full)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)

    rows = rows_of(family, folder)
    answers, model = by_hftl(half.run_dir, rows)
    assert (next(model.parameters()).device.type == "cuda") is gpu
    assert (half.report["environment"]["device"] == torch.cuda.get_device_name()) if gpu else True
    np.testing.assert_allclose(answers, by_pipeline(half.run_dir, family, rows, "cpu"), atol=1e-4)
