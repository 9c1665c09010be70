"""The whole figure: exactly 1 for what did not change, less for what did, and a reason where it cannot be told."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from hftl.errors import DataError, TrainingError
from hftl.forgetting import measure
from hftl.forgetting.measure import PROBE_C, compare_states, forgetting, look_at_base, probe_accuracy
from hftl.models.heads import pool_mean
from tests.forgetting.setups import ready_run, retention_data, shake, write_texts
from tests.runs import checkpoint, stock_model, subprocess_env, tiny_data, tiny_run
from tests.thin import thin
from tests.tiny import IMAGE_FAMILIES, TEXT_FAMILIES, build, tiny_text_rows


ROOT = Path(__file__).resolve().parents[2]
FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES
KEYS = {
    "kept", "unchanged", "low", "high", "definition", "rows", "left_out", "retention", "retention_kind", "note", "probe", "knn_agreement",
    "knn_chance", "cka", "original_head", "seconds", "seconds_after",
}  # fmt: skip


def figure(folder, family, strength, **flags):
    ready = ready_run(folder, family, **flags)
    before = look_at_base(ready)
    if strength:
        shake(ready.loaded.model, strength)
    return forgetting(before, ready.loaded.model, ready)


@pytest.mark.parametrize("family", FAMILIES)
def test_untouched_is_one_and_noise_is_less(family, folder):
    same = figure(folder, family, 0)
    assert (same["kept"], same["low"], same["high"], same["knn_agreement"]) == (1.0, 1.0, 1.0, 1.0)
    assert [entry["value"] for entry in same["cka"]] == [1.0] * len(same["cka"])
    found = [figure(folder, family, strength) for strength in (0.02, 0.2, 1.0)]
    kept = [entry["kept"] for entry in found]
    assert kept == sorted(kept, reverse=True)
    # Random tiny transformers hand the few things in which tiny images differ on, whatever their weights.
    assert 1 > kept[0] > 0.9
    assert kept[-1] < (0.99 if family in ("vit", "dinov2") else 0.7)
    assert found[0]["cka"][-1]["value"] > found[-1]["cka"][-1]["value"]
    assert found[0]["knn_agreement"] > found[-1]["knn_agreement"]
    for entry in (same, *found):
        assert set(entry) == KEYS
        assert json.loads(json.dumps(entry)) == entry
        assert entry["low"] <= entry["kept"] <= entry["high"]
        assert [c["block"] for c in entry["cka"]] == [c["block"] for c in same["cka"]]
        assert entry["rows"] == 60
    assert [c["block"] for c in same["cka"]][-1] == "final"
    assert (found[0]["original_head"] is not None) == (family in TEXT_FAMILIES)


@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_equal_weights_measured_in_full_are_one_too(family, folder, monkeypatch):
    monkeypatch.setattr(measure, "_same_body", lambda *_: False)
    found = figure(folder, family, 0)
    assert (found["kept"], found["low"], found["high"], found["knn_agreement"]) == (1.0, 1.0, 1.0, 1.0)
    assert [entry["value"] for entry in found["cka"]] == [1.0] * len(found["cka"])
    assert found["probe"]["before"] == found["probe"]["after"]
    assert (found["probe"]["low"], found["probe"]["high"]) == (0.0, 0.0)
    head = found["original_head"]
    assert head is None or head["loss_before"] == head["loss_after"]


def test_one_changed_number_is_noticed(folder):
    ready = ready_run(folder, "resnet")
    before = look_at_base(ready)
    with torch.no_grad():  # a buffer: batch statistics are a part of the body
        next(b for n, b in ready.loaded.model.named_buffers() if n.endswith("running_mean"))[0] += 0.5
    assert "No weight" not in forgetting(before, ready.loaded.model, ready)["note"]


def test_base_comes_from_the_cache_the_second_time(folder, monkeypatch):
    first = look_at_base(ready_run(folder, "vit"))
    monkeypatch.setattr(measure, "block_states", lambda *_, **__: pytest.fail("computed again"))
    other_seed = look_at_base(ready_run(folder, "vit", seed=7, retain=str(retention_data(folder, "vit"))))
    assert first.states is not None
    assert other_seed.states is not None
    assert all(np.array_equal(first.states[k], other_seed.states[k]) for k in first.states)


def test_frozen_methods_run_nothing(folder, monkeypatch):
    monkeypatch.setattr(measure, "block_states", lambda *_, **__: pytest.fail("a pass for nothing"))
    ready = ready_run(folder, "bert", method="probe")
    before = look_at_base(ready)
    for model in (ready.loaded.model, pool_mean(ready.loaded.model, ready.splits.labels)):
        found = forgetting(before, model, ready)
        assert (found["kept"], found["knn_agreement"]) == (1.0, 1.0)
        assert found["unchanged"] is True
        assert len(found["cka"]) == 4
        assert "nothing was measured" in found["note"]
    shake(ready.loaded.model, 0.1)
    with pytest.raises(TrainingError, match="bug"):
        forgetting(before, ready.loaded.model, ready)


@pytest.mark.parametrize(
    ("family", "method"),
    thin(product(("bert", "efficientnet"), ("full", "lora", "head")), [("bert", "lora"), ("efficientnet", "full")]),
)
def test_models_of_real_runs(family, method, folder, tmp_path):
    pooling = {"pooling": "native"} if family == "bert" else {}
    checkpoint(family, tmp_path)
    ready = ready_run(folder, family, method, model=tmp_path / f"base-{family}")
    before = look_at_base(ready)
    run = tiny_run(
        family, method, tmp_path, learning_rate=1e-2, max_steps=6, data=tiny_data(family, tmp_path), **pooling
    )
    model, _ = stock_model(family, run.run_dir / "final")
    found = forgetting(before, model, ready)
    if method == "head":
        assert found["kept"] == 1.0
    else:
        assert 0 <= found["kept"] < 0.99
        assert found["cka"][0]["value"] >= found["cka"][-1]["value"] - 0.05


def test_default_that_cannot_be_had(folder, monkeypatch):
    monkeypatch.setattr("hftl.data.samples.package_files", lambda _: None)
    found = figure(folder, "bert", 0.3, retain=None)
    assert found["kept"] is None
    assert found["rows"] == 0
    assert "no retention set" in found["note"]
    assert "pip install" in found["note"]
    assert figure(folder, "bert", 0, retain=None)["kept"] == 1.0


def test_bad_set_is_refused_before_training(folder):
    with pytest.raises(DataError, match="--retain"):
        look_at_base(ready_run(folder, "bert", retain="nowhere.csv"))


@pytest.mark.parametrize("labels", [None, ["one class"] * 40, [f"class {i}" for i in range(40)]])
def test_sets_without_classes_to_probe(folder, tmp_path, labels):
    texts = [text for text, _ in tiny_text_rows(40, 2, 5)]
    path = write_texts(tmp_path / "r.csv", texts, **({} if labels is None else {"label": labels}))
    found = figure(folder, "bert", 0.3, retain=str(path))
    assert found["probe"] is None
    assert 0 < found["kept"] < 1
    assert found["retention"] == "r.csv"


def test_broken_weights_give_a_reason(folder):
    ready = ready_run(folder, "bert")
    before = look_at_base(ready)
    with torch.no_grad():
        next(ready.loaded.model.parameters()).fill_(float("nan"))
    found = forgetting(before, ready.loaded.model, ready)
    assert found["kept"] is None
    assert "not numbers" in found["note"]


def test_a_checkpoint_that_is_gone_costs_one_figure(folder, tmp_path):
    base = build("bert", tmp_path / "gone")
    ready = ready_run(folder, "bert", model=base)
    before = look_at_base(ready)
    shake(ready.loaded.model, 0.1)
    (base / "config.json").unlink()
    found = forgetting(before, ready.loaded.model, ready)
    assert found["original_head"] is None
    assert "original head was not measured" in found["note"]
    assert 0 < found["kept"] < 1


def test_no_random_number_is_drawn(folder):
    draws = []
    for _ in range(2):
        ready = ready_run(folder, "bert", retain=str(retention_data(folder, "bert", seed=len(draws) + 30)))
        torch.manual_seed(5)
        np.random.seed(5)
        if draws:
            before = look_at_base(ready)
            shake(ready.loaded.model, 0.1)
            forgetting(before, ready.loaded.model, ready)
        draws.append((float(torch.rand(1)), np.random.rand()))
    assert draws[0] == draws[1]


# ---------------------------------------------------------------------------------------------- the probe


def clusters(rows, classes, spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return 2 * np.eye(classes, 10)[labels] + spread * rng.normal(size=(rows, 10)), labels


def test_probe_equals_a_loop_over_scikit_learn():
    base, labels = clusters(120, 4, 1.0)
    tuned, _ = clusters(120, 4, 2.0, 1)
    found = probe_accuracy(base, tuned, labels)
    right = {}
    for name, features in (("before", base), ("after", tuned)):
        hits = np.zeros(120)
        for train, held in StratifiedKFold(5, shuffle=True, random_state=0).split(features, labels):
            scaler = StandardScaler().fit(features[train])
            model = LogisticRegression(C=PROBE_C, max_iter=1000).fit(scaler.transform(features[train]), labels[train])
            hits[held] = model.predict(scaler.transform(features[held])) == labels[held]
        right[name] = hits
        assert found[name] == pytest.approx(hits.mean(), abs=0.01)
    change = right["after"] - right["before"]
    rng = np.random.default_rng(1)
    means = [change[rng.integers(0, 120, 120)].mean() for _ in range(4000)]
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.02)
    assert found["high"] < 0


def test_rows_without_a_label_and_rare_classes_are_left_out():
    base, labels = clusters(80, 4, 0.1)
    labels = np.where(labels == 3, -1, labels)
    labels[:2] = 9  # a class of two rows
    noise = base.copy()
    noise[(labels == -1) | (labels == 9)] = 1e6  # would upset any fit
    assert probe_accuracy(base, noise, labels) == probe_accuracy(base, base, labels)
    assert probe_accuracy(base, base, labels)["before"] == 1.0
    assert probe_accuracy(base, base, np.zeros(80, dtype=int)) is None
    assert probe_accuracy(base, base, np.full(80, -1)) is None
    assert probe_accuracy(base, base, np.arange(80)) is None


def test_blocks_come_from_bottom_to_top():
    states = {f"block {i}": clusters(40, 2, 1.0, i)[0] for i in (1, 10, 2, 11)} | {"final": clusters(40, 2, 1.0)[0]}
    found = compare_states(states, states, np.arange(40) % 2)
    assert [e["block"] for e in found["cka"]] == ["block 1", "block 2", "block 10", "block 11", "final"]


# ---------------------------------------------------------------------------------------------- processes

WORKER = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from accelerate import Accelerator
from hftl.forgetting.measure import forgetting, look_at_base
from tests.forgetting.setups import ready_run, shake
Accelerator(cpu=True)
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
ready = ready_run(folder, "bert", retain=str(folder / "retain-60-9.csv"))
before = look_at_base(ready)
shake(ready.loaded.model, 0.2)
found = forgetting(before, ready.loaded.model, ready)
dist.barrier()
(out / f"{dist.get_rank()}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


@pytest.mark.slow  # 15 s, nearly all of it imports
def test_two_processes_find_what_one_finds(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "one"))
    alone = figure(folder, "bert", 0.2)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script),
        str(folder), str(tmp_path),
    ]  # fmt: skip
    env = subprocess_env(PYTHONPATH=str(ROOT), HFTL_CACHE=str(tmp_path / "two"))
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    two = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert two[0] == two[1]
    for key in ("kept", "low", "high", "knn_agreement"):
        assert two[0][key] == pytest.approx(alone[key], abs=1e-4)
    for key in ("loss_before", "loss_after"):
        assert two[0]["original_head"][key] == pytest.approx(alone["original_head"][key], rel=1e-5)
