"""Real weights: what is untouched is kept whole, and the figure falls as the rate, the steps or the noise grow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hftl.adapt import adapt
from hftl.config import build_config
from hftl.errors import DataError
from hftl.forgetting import retention
from hftl.forgetting.measure import forgetting, look_at_base
from hftl.models.packaged import LITE0, MINILM, is_installed
from hftl.prepare import prepare
from tests.forgetting.setups import shake, write_texts


pytestmark = pytest.mark.skipif(
    not (is_installed(LITE0.name) and is_installed(MINILM.name)), reason='needs pip install "hftl[offline]"'
)
TEXT = {"data": "sample:wikipedia-topics", "model": "all-MiniLM-L6-v2", "max_seq_length": 32}
IMAGE = {"data": "sample:digits", "model": "efficientnet-lite0", "image_size": 64, "no_flip": True}
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def values_of(task, **flags):
    data = TEXT if task.startswith("text") else IMAGE
    return {**data, "method": "full", "max_train_samples": 96, "max_eval_samples": 40, "use_cpu": True, **flags}


def ready_run(task, **flags):
    return prepare(build_config(task, values_of(task, **flags)))


@pytest.mark.parametrize("task", ["text-classification", "image-classification"])
def test_noise(task, monkeypatch):
    monkeypatch.setattr(retention, "ROWS", 150)
    ready = ready_run(task, bf16=False)
    before = look_at_base(ready)
    model = ready.loaded.model
    found = [forgetting(before, model, ready)]
    start = {k: v.clone() for k, v in model.state_dict().items()}
    for strength in (0.01, 0.1, 1.0):
        model.load_state_dict(start)
        shake(model, strength)
        found.append(forgetting(before, model, ready))
    kept = [entry["kept"] for entry in found]
    assert kept[0] == 1.0
    assert kept == sorted(kept, reverse=True)
    assert kept[1] > 0.7
    assert kept[3] < 0.1
    assert [e["knn_agreement"] for e in found] == sorted((e["knn_agreement"] for e in found), reverse=True)
    assert found[3]["probe"]["high"] < 0 < found[3]["probe"]["before"] - 0.5
    assert found[1]["rows"] == 150
    assert "own data" in found[1]["note"]
    if task == "text-classification":
        assert found[1]["original_head"] is None  # the packaged MiniLM is a bare body
        assert len(found[1]["cka"]) == 7
    else:
        losses = [entry["original_head"]["loss_after"] for entry in found[1:]]
        assert found[1]["original_head"]["kind"] == "classification"
        assert losses[0] > found[1]["original_head"]["loss_before"]
        assert losses[1] > losses[0]
        assert len(found[1]["cka"]) == 17


@pytest.mark.slow
def test_rounding_to_bf16_alone_keeps_nearly_all():
    ready = ready_run("text-classification", bf16=True)
    before = look_at_base(ready)
    shake(ready.loaded.model, 1e-6)
    assert forgetting(before, ready.loaded.model, ready)["kept"] > 0.995


def fine_tuned(ready, rate, steps):
    """Plain AdamW on the run's rows, all weights, from where the model is."""
    model, rows = ready.loaded.model, ready.train
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(rows)), 4))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.Dropout):
            module.eval()
    for step in range(steps):
        batch = ready.collate([rows[i] for i in order[8 * step : 8 * step + 8]])
        torch.nn.functional.cross_entropy(model(**batch).logits, batch["labels"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.slow  # 30 s
@pytest.mark.parametrize("task", ["text-classification", "image-classification"])
def test_falls_with_the_rate_and_the_steps(task):
    ready = ready_run(task, bf16=False)
    before = look_at_base(ready)
    start = {k: v.clone() for k, v in ready.loaded.model.state_dict().items()}
    kept = {}
    for rate, steps in ((2e-5, 4), (2e-5, 12), (2e-4, 12), (1e-3, 4), (1e-3, 12)):
        ready.loaded.model.load_state_dict(start)
        kept[rate, steps] = forgetting(before, fine_tuned(ready, rate, steps), ready)["kept"]
    assert kept[2e-5, 12] > kept[2e-4, 12] > kept[1e-3, 12]
    assert kept[2e-5, 4] > kept[2e-5, 12]
    assert kept[1e-3, 4] > kept[1e-3, 12]
    assert kept[2e-5, 12] > (0.9 if task == "text-classification" else 0.6)
    assert kept[2e-5, 12] - kept[1e-3, 12] > 0.3


@pytest.mark.slow
def test_full_of_hftl_keeps_clearly_less_at_a_high_rate(tmp_path):
    ready = ready_run("text-classification")
    before = look_at_base(ready)
    kept, probes = [], []
    for rate in (2e-5, 1e-3):
        flags = values_of("text-classification", learning_rate=rate, max_steps=6, evidence=False)
        run = adapt("text-classification", output_dir=tmp_path / f"{rate}", **flags)
        found = forgetting(before, AutoModelForSequenceClassification.from_pretrained(run.run_dir / "final"), ready)
        kept.append(found["kept"])
        probes.append(found["probe"])
    assert kept[0] > 0.95
    assert kept[0] - kept[1] > 0.3
    assert all(probe["before"] == probes[0]["before"] for probe in probes)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data sets")
def test_other_data_to_remember(tmp_path):
    """A run on Wikipedia that is asked what it keeps on bank customers' questions."""
    table = SHARED / "banking77" / "test.parquet"
    ready = ready_run("text-classification", retain=str(table))
    before = look_at_base(ready)
    shake(ready.loaded.model, 0.1)
    found = forgetting(before, ready.loaded.model, ready)
    assert found["retention"] == "test.parquet"
    assert found["rows"] == 400
    assert found["left_out"] == 0
    assert "own data" not in found["note"]
    assert 0.7 < found["kept"] < 0.99
    assert found["probe"]["before"] > 0.6


def test_a_file_of_few_texts_is_refused(tmp_path):
    ready = ready_run("text-classification", retain=str(write_texts(tmp_path / "r.csv", ["one text", "another"])))
    with pytest.raises(DataError, match="at least 30"):
        look_at_base(ready)
