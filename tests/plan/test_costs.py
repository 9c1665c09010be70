"""What a plan says of memory and time."""

import gc
import weakref

import pytest
import torch
import transformers

from hftl.data.load import load_splits
from hftl.errors import TrainingError
from hftl.planning import costs, plan_report
from hftl.planning.costs import are_cached, saved_bytes
from hftl.prepare import prepare
from hftl.probing import frozen_features
from tests.plan.loading import config, plan
from tests.runs import checkpoint


# Memory


def test_memory_of_full(folder):
    report = plan(folder, "bert", "full")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint("bert", folder), num_labels=3)
    size = sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    memory = report["memory"]
    assert report["model"]["parameters"] == size == report["stages"][-1]["trainable_parameters"]
    assert memory["weights_bytes"] == memory["restart_copy_bytes"] == 4 * size + buffers
    assert memory["gradients_bytes"] == 4 * size
    assert memory["optimizer_bytes"] == 8 * size
    longest = memory["activations_bytes"]["longest"]
    assert longest >= memory["activations_bytes"]["typical"] > 0
    assert memory["total_bytes"] == 2 * memory["weights_bytes"] + 12 * size + longest
    rows = report["data"]["rows"]["train"] + report["data"]["rows"]["validation"]
    assert memory["cache"] == {"features_bytes": rows * 4 * (32 + 32), "states_bytes": 0}  # native and mean
    assert memory["fits"] is True
    assert memory["machine"]["memory_free_bytes"] <= memory["machine"]["memory_total_bytes"]


def test_states_on_disk_are_those_of_a_run(folder, tmp_path, monkeypatch):
    report = plan(folder, "bert", "gradual", cache="on", thaw_to=2)
    splits = load_splits("text", config(folder, "bert", "gradual").data, 42)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint("bert", folder))
    tokens = sum(len(tokenizer(t)["input_ids"]) for t in [*splits.train["text"], *splits.validation["text"]])
    boundaries = 3  # under the head, the top block, the top two
    assert report["memory"]["cache"]["states_bytes"] == boundaries * tokens * 32 * 4
    assert [s["reads"] for s in report["stages"][1:]] == ["states"] * 3
    assert report["time"]["states_seconds"] > 0


def test_a_cache_beyond_the_budget_is_not_planned(folder, monkeypatch):
    monkeypatch.setenv("HFTL_CACHE_BUDGET", "1000")
    report = plan(folder, "bert", "gradual")
    assert {s["reads"] for s in report["stages"][1:]} == {"rows"}
    assert any("HFTL_CACHE_BUDGET" in note for note in report["notes"])
    with pytest.raises(TrainingError, match="--cache on cannot be held"):
        plan(folder, "bert", "gradual", cache="on")


def test_states_of_any_optimizer_are_counted(folder):
    adamw, factored, momentum = (
        plan(folder, "bert", "full", optim=name)["memory"] for name in ("adamw_torch", "adafactor", "adagrad")
    )
    assert 0 < factored["optimizer_bytes"] < momentum["optimizer_bytes"] == adamw["optimizer_bytes"] / 2
    assert factored["fits"] is True


@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_activations_grow_with_the_batch(folder, family):
    sizes = [
        plan(folder, family, "full", per_device_train_batch_size=n)["memory"]["activations_bytes"]["longest"]
        for n in (2, 4, 8)
    ]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] == pytest.approx(4 * sizes[0], rel=0.3)


def test_fewer_learning_blocks_save_fewer_activations(folder):
    whole, top = (plan(folder, "bert", "full", train_top=k, cache="off")["memory"] for k in (None, 1))
    assert top["activations_bytes"]["longest"] < whole["activations_bytes"]["longest"]


def test_saved_bytes_of_one_linear():
    layer, x = torch.nn.Linear(5, 7), torch.randn(11, 5)
    with saved_bytes(layer) as seen:
        y = layer(x).square().sum()
    assert sum(seen.values()) == 4 * (11 * 5 + 11 * 7)  # the input and what is squared; not the weight
    y.backward()


def test_what_was_measured_is_freed():
    layers = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Softmax(-1))  # the second saves what it gives
    with saved_bytes(layers):
        answer = layers(torch.ones(3, 8))
    there = weakref.ref(answer)
    del answer
    gc.collect()
    assert there() is None


def test_closed_form_alone_needs_no_activations(folder):
    report = plan(folder, "bert", "probe")
    assert report["memory"]["activations_bytes"] == {"typical": 0, "longest": 0}
    assert report["memory"]["gradients_bytes"] == 0
    assert report["stages"][0]["learns"] == "the head"
    assert report["time"]["stages"][0]["train_seconds"] == 0


# What will not fit


def test_a_batch_that_will_not_fit_is_measured_smaller_with_advice(folder, monkeypatch):
    real = plan(folder, "bert", "full", per_device_train_batch_size=16)
    memory = real["memory"]
    fixed = memory["total_bytes"] - memory["activations_bytes"]["longest"]
    free = fixed + memory["activations_bytes"]["longest"] // 3
    look, left = plan_report.look_at_machine, free - 2 * memory["weights_bytes"]
    monkeypatch.setattr(costs, "look_at_machine", lambda cpu: {**look(cpu), "memory_free_bytes": left})
    monkeypatch.setattr(plan_report, "look_at_machine", lambda cpu: {**look(cpu), "memory_free_bytes": free})
    small = plan(folder, "bert", "full", per_device_train_batch_size=16)
    assert small["memory"]["measured_rows"] in (1, 2, 4)
    assert small["memory"]["fits"] is False
    assert small["memory"]["activations_bytes"]["longest"] == pytest.approx(
        memory["activations_bytes"]["longest"], rel=0.3
    )
    assert "--per_device_train_batch_size 4 --gradient_accumulation_steps 4" in small["memory"]["fix"]
    assert small["time"]["total_seconds"] is not None


def test_weights_that_will_not_fit_are_not_run(folder, monkeypatch):
    look = plan_report.look_at_machine
    for module in (costs, plan_report):
        monkeypatch.setattr(module, "look_at_machine", lambda cpu: {**look(cpu), "memory_free_bytes": 1000})
    report = plan(folder, "bert", "full")
    assert report["memory"]["activations_bytes"] is None
    assert report["memory"]["fits"] is False
    assert "--method lora" in report["memory"]["fix"]
    assert report["time"]["total_seconds"] is None
    assert report["recommendation"]["full_fits"] is False


# Time


def test_time_adds_up(folder):
    report = plan(folder, "bert", "gradual", seeds=2)
    times = report["time"]
    assert [s["name"] for s in times["stages"]] == [s["name"] for s in report["stages"]]
    parts = times["regression_seconds"] + times["states_seconds"] + times["prediction_seconds"]
    for stage, described in zip(times["stages"], report["stages"], strict=True):
        assert stage["steps"] == described["steps"]
        assert stage["train_seconds"] == pytest.approx(stage["steps"] * stage["seconds_per_step"])
        assert (stage["train_seconds"] > 0) is (stage["steps"] > 0)
        parts += stage["train_seconds"] + stage["evaluation_seconds"]
    assert times["total_seconds"] == pytest.approx(times["features_seconds"] + 2 * parts)
    assert "Estimate" in times["note"]


def test_features_are_found_where_the_run_keeps_them(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path))
    ready = prepare(config(folder, "bert", "probe"))
    assert are_cached(ready) == {"train": False, "validation": False}
    first = plan(folder, "bert", "probe")
    # The plan kept those of train: it needed them for the comparison.
    assert first["time"]["features"] == {"train": "cached", "validation": "to compute"}
    assert first["time"]["features_seconds"] > 0
    frozen_features(ready, {"validation": ready.validation})
    again = plan(folder, "bert", "probe")
    assert again["time"]["features"] == {"train": "cached", "validation": "cached"}
    assert again["time"]["features_seconds"] == 0
