"""Runs of token classification: figures against seqeval, answers against plain transformers, every method."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn

import hftl
from hftl.adapt import adapt
from hftl.config import ModelConfig, build_config
from hftl.models.load import load_model
from hftl.prepare import prepare
from hftl.probing import frozen_features
from hftl.tasks import get_task
from hftl.training.losses import make_loss
from tests.architectures.text_models import build_text
from tests.faults.commands import assert_goes_on_after_a_kill
from tests.runs import SMALL, subprocess_env
from tests.tags.sentences import sentences, split_folder
from tests.thin import thin


TASK = "token-classification"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tags")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def base(folder: Path, family: str, **overrides) -> Path:
    path = folder / f"base-{family}"
    return path if path.is_dir() else build_text(family, path, **overrides)


def run(folder, family, method, data=None, name=None, **flags):
    data = Dataset.from_list(sentences(40, long=3)) if data is None else data
    options = {**SMALL, "max_steps": 4, "warmup_steps": 0, **flags}
    target = folder / (name or f"{family}-{method}")
    return adapt(TASK, data=data, model=str(base(folder, family)), method=method, output_dir=target, **options)


FAMILIES = ("bert", "roberta", "distilbert", "deberta-v2", "electra", "modernbert", "gpt2", "llama", "xlnet", "t5")
METHODS = ("probe", "head", "lora", "full", "gradual", "wise")
KEPT = [("bert", "gradual"), ("roberta", "lora"), ("distilbert", "head"), ("deberta-v2", "full"), ("electra", "probe"),
        ("modernbert", "wise"), ("gpt2", "full")]  # fmt: skip


@pytest.mark.parametrize(("family", "method"), thin([(f, m) for f in FAMILIES for m in METHODS], KEPT))
def test_plain_pipeline_answers_alike(family, method, folder):
    result = run(folder, family, method)
    model = hftl.load(result.run_dir)
    pipe = transformers.pipeline(TASK, str(result.run_dir / "final"), device="cpu")
    output = model.task.output
    rows = [row["tokens"] for row in sentences(6, seed=5)] + [["a"], ["sunny", "xq", "!"]]
    assert pipe.model.config.problem_type is None
    for row, answer in zip(rows, model.predict(rows), strict=True):
        theirs = output.flatten(pipe(row, **output.ask(model.labels)), model.labels, row)
        assert np.abs(theirs - output.flat(answer, model.labels)).max() < 1e-4


def test_figures_are_those_of_seqeval(folder):
    metrics = pytest.importorskip("seqeval.metrics")
    scheme = pytest.importorskip("seqeval.scheme")
    data = Dataset.from_list(sentences(60, long=3))
    result = run(folder, "modernbert", "probe", data=data, name="seqeval")
    _, splits = hftl.data.load.load_task(TASK, build_config(TASK, {"data": data}).data)
    true = [[splits.labels[i] for i in row] for row in splits.test["label"][:]]
    given = [answer.tags for answer in result.predict(splits.test["words"][:])]
    test = result.metrics
    assert test["f1"]["value"] == pytest.approx(metrics.f1_score(true, given))
    assert test["macro_f1"]["value"] == pytest.approx(metrics.f1_score(true, given, average="macro"))
    strict = metrics.f1_score(true, given, mode="strict", scheme=scheme.IOB2)
    assert test["strict_f1"]["value"] == pytest.approx(strict)
    for name in ("precision", "recall"):
        value = test[name]["value"] if isinstance(test[name], dict) else test[name]
        assert value == pytest.approx(getattr(metrics, f"{name}_score")(true, given))
    assert 0 < test["f1"]["value"] < 1
    assert test["f1"]["low"] < test["f1"]["value"] < test["f1"]["high"]
    assert [row["label"] for row in result.report["per_class"]] == ["T0", "T1", "T2"]


def test_features_are_what_the_head_reads_of_first_pieces(folder):
    config = build_config(
        TASK,
        {"data": Dataset.from_list(sentences(30)), "model": str(base(folder, "bert")), "method": "probe", **SMALL},
    )
    ready = prepare(config)
    found = frozen_features(ready, {"train": ready.train})[0]["train"]["native"]
    model, tokenizer = ready.loaded.model.eval(), ready.loaded.processor
    for row in range(4):
        words = ready.splits.train[row]["words"]
        plain = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            states = model.bert(**plain)[0][0]
        firsts = [plain.word_ids(0).index(i) for i in range(len(words))]
        assert np.abs(found[row] - states[firsts].numpy()).max() < 1e-5


def test_loss_of_words_is_exact_under_accumulation():
    """Stock token heads take the mean of every batch (FACTS.md, trap 16): words of short rows would count more."""
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 5, 3, requires_grad=True), torch.randint(0, 3, (8, 5))
    labels[torch.rand(8, 5) < 0.4] = -100
    count = (labels != -100).sum()
    loss = make_loss(0.0, None, get_task(TASK).output.loss)
    whole = loss(SimpleNamespace(logits=logits), labels, count)
    parts = [loss({"logits": logits[i : i + 2]}, labels[i : i + 2], count) for i in range(0, 8, 2)]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(whole, nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))


def exact(folder, name, rows, accumulate, method="full", launch=(), **more):
    flags = {
        "data": folder / "exact-data", "model": folder / "exact-base", "method": method, "use_cpu": True, "bf16": False,
        "evidence": False, "max_steps": 6, "per_device_train_batch_size": rows, "learning_rate": 0.02, "optim": "sgd", "warmup_steps": 0,
        "gradient_accumulation_steps": accumulate, "train_sampling_strategy": "random", "output_dir": folder / name, **more,
    }  # fmt: skip
    if not launch:
        return adapt(TASK, **{k: str(v) if isinstance(v, Path) else v for k, v in flags.items()}).report
    words = [w for k, v in flags.items() for w in (f"--{k}", str(v).lower() if isinstance(v, bool) else str(v))]
    done = subprocess.run(
        [*launch, "-m", "hftl", "train", TASK, *words], capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2], env=subprocess_env(HFTL_CACHE=str(folder / f"cache-{name}")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / name / "report.json").read_text())


@pytest.fixture(scope="module")
def whole(folder):
    split_folder(folder / "exact-data", 29, 13)  # 32 windows, that two processes share evenly
    build_text("bert", folder / "exact-base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return exact(folder, "whole", 8, 1)


def distance(folder, a, b):
    one, two = (load_file(folder / name / "final" / "model.safetensors") for name in (a, b))
    gaps = {k: float((one[k] - two[k]).abs().max() / two[k].abs().max().clamp(min=1)) for k in one}
    return max(gap for k, gap in gaps.items() if not k.endswith("key.bias"))


def test_accumulation_is_exact(folder, whole):
    parts = exact(folder, "parts", 2, 4)
    assert distance(folder, "whole", "parts") < 1e-5
    assert parts["stages"][-1]["steps"] == whole["stages"][-1]["steps"] == 6


def test_two_processes_are_exact(folder, whole):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = exact(folder, "two", 4, 1, launch=launch)
    assert two["environment"]["processes"] == 2
    assert distance(folder, "whole", "two") < 1e-5
    assert two["metrics"]["test"]["f1"] == whole["metrics"]["test"]["f1"]
    history = [[e["eval_f1"] for s in r["stages"] for e in s["history"] if "eval_f1" in e] for r in (two, whole)]
    assert history[0] == history[1]


def test_scores_while_training_are_those_of_the_rows(folder):
    """Trainer takes evaluation rows by length where batches are of similar length: windows would meet other rows' tags."""
    data = Dataset.from_list(sentences(60, long=6))
    result = run(folder, "bert", "full", data=data, name="by-length", max_steps=-1, num_train_epochs=1)
    history = [entry for stage in result.report["stages"] for entry in stage["history"] if "eval_f1" in entry]
    validation = result.report["metrics"]["validation"]
    for name in ("f1", "macro_f1", "strict_f1"):
        assert history[-1][f"eval_{name}"] == pytest.approx(validation[name]["value"]), name


def test_stored_states_give_the_same_run(folder):
    data = Dataset.from_list(sentences(40, long=3))
    flags = {"max_steps": -1, "num_train_epochs": 4, "lora_dropout": 0.0, "learning_rate": 1e-3, "data": data}
    runs = [run(folder, "bert", "gradual", name=f"states-{mode}", cache=mode, **flags) for mode in ("on", "off")]
    reads = [[stage["reads"] for stage in result.report["stages"]] for result in runs]
    assert "states" in reads[0]
    assert "states" not in reads[1]
    assert runs[0].metrics["log_loss"] == pytest.approx(runs[1].metrics["log_loss"], rel=0.05)  # dropout differs


def test_head_on_features_is_the_head_on_rows(folder, whole):
    runs = [exact(folder, f"head-{mode}", 8, 1, "head", cache=mode) for mode in ("auto", "off")]
    assert [report["stages"][-1]["reads"] for report in runs] == ["features", "rows"]
    assert distance(folder, "head-auto", "head-off") < 1e-4


def test_a_checkpoint_without_such_a_class_is_refused(folder):
    with pytest.raises(hftl.errors.ModelError, match="bart checkpoint, which cannot do token-classification"):
        load_model(get_task(TASK), ModelConfig(model=str(base(folder, "bart"))), ("O", "B-A", "I-A"))


@pytest.fixture(scope="module")
def real(folder):
    """MiniLM and sentences in which words of one piece name people and places."""
    people, places = (
        ["Anna", "Peter", "Maria", "John", "Paul", "David"],
        ["London", "Paris", "Rome", "Berlin", "Madrid", "Vienna"],
    )
    forms = [
        "{} lives in {} .",
        "we met {} near {} today",
        "{} flew to {} with friends",
        "in summer {} visits {} again",
    ]
    rows = []
    for i in range(96):
        words = forms[i % 4].format(people[i % 6], places[(i // 4) % 6]).split()
        tags = ["B-PER" if w in people else "B-LOC" if w in places else "O" for w in words]
        rows.append({"tokens": [*words, f"{i % 23}"], "tags": [*tags, "O"]})
    return adapt(TASK, data=Dataset.from_list(rows), model=MINILM, method="probe", output_dir=folder / "real", **SMALL)


def test_simple_aggregation_gives_the_same_entities(real):
    pipe = transformers.pipeline(TASK, str(real.run_dir / "final"), device="cpu", aggregation_strategy="simple")
    for text in ("Anna lives in London .", "we met Paul near Rome today", "in summer Maria visits Vienna again"):
        ours = real.predict([text])[0].entities
        theirs = pipe(text)
        assert len(ours) == 2
        assert [(e["start"], e["end"], e["label"]) for e in ours] == [
            (e["start"], e["end"], e["entity_group"]) for e in theirs
        ]
        assert np.allclose([e["score"] for e in ours], [e["score"] for e in theirs], atol=1e-4)
        assert [e["text"] for e in ours] == [text[e["start"] : e["end"]] for e in ours]


def test_unseen_names_are_found(real):
    """It is what the model was pretrained on that finds them, not the list of names."""
    ours = real.predict(["Susan lives in Rome ."])[0].entities
    assert [(e["text"], e["label"]) for e in ours] == [("Susan", "PER"), ("Rome", "LOC")]


@pytest.mark.parametrize("method", thin(["full", "gradual"], ["gradual"]))
def test_a_killed_run_goes_on(method, folder, tmp_path):
    if not (folder / "exact-data").is_dir():
        split_folder(folder / "exact-data", 29, 13)
    build_text("bert", tmp_path / "base")
    epochs = {"full": 3, "gradual": 8}[method]
    flags = {"data": folder / "exact-data", "model": tmp_path / "base", "method": method, "use_cpu": "true", "bf16": "false",
             "evidence": "false", "per_device_train_batch_size": 8, "num_train_epochs": epochs}  # fmt: skip
    assert_goes_on_after_a_kill(TASK, flags, tmp_path)
