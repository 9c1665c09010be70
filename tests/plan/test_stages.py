"""What a plan says of data and stages."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import transformers

from hftl.adapt import complete
from hftl.config import build_config
from hftl.data.load import load_splits
from hftl.methods import METHODS
from hftl.planning import plan_report
from hftl.planning.plan_report import learns
from hftl.prepare import prepare
from hftl.tasks.inputs.text import describe_tokens, encode
from tests.plan.loading import CPU, TASKS, config, plan
from tests.runs import checkpoint, text_frame, tiny_data, tiny_run
from tests.tiny import MAX_LENGTH


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
    tokenizer.model_max_length = min(tokenizer.model_max_length, MAX_LENGTH)
    cut = [encode(part, tokenizer)["input_ids"].lengths for part in (long.train, long.validation)]
    found = describe_tokens(long, tokenizer, cut, len(long.train))
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
