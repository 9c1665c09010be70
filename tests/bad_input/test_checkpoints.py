"""Damaged checkpoints: nothing that was pretrained is replaced by random numbers, and every fault is one line."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import hftl
from benchmarks import wrong_checkpoints
from hftl.adapt import adapt
from hftl.config import ModelConfig
from hftl.errors import HftlError, ModelError
from hftl.evaluation.linear_baselines import linear_baseline
from hftl.evaluation.saved_baseline import save_baseline
from hftl.models.load import load_model
from hftl.publishing.save import merge_adapter, save_final
from hftl.tasks import get_task
from tests.bad_input.refusals import check
from tests.command import hftl as command
from tests.tiny import build


TASKS = {"text": "text-classification", "image": "image-classification"}
FAMILIES = {"text": "bert", "image": "vit"}
LABELS = ("a", "b", "c")
DAMAGES = [
    (kind, name)
    for kind, own in (("text", wrong_checkpoints.TEXT), ("image", wrong_checkpoints.IMAGE))
    for name in {**wrong_checkpoints.ANY, **own}
    if name != "unreadable"  # below, in a process without root's rights
]
NUMBERS = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for kind, family in FAMILIES.items():
        build(family, folder / f"base-{kind}")
        build(family, folder / f"tuned-{kind}", num_labels=3, **NUMBERS)
    return folder


def load_base(folder: Path, kind: str = "text", allow_pickle: bool = False) -> Any:
    return load_model(get_task(TASKS[kind]), ModelConfig(model=str(folder), allow_pickle=allow_pickle), LABELS)


def copy(good: Path, name: str) -> Path:
    shutil.rmtree("model", ignore_errors=True)
    return Path(shutil.copytree(good / name, "model"))


def edit(folder: Path, name: str = "config.json", **fields: Any) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def change(folder: Path, rename: Callable[[str], str | None], name: str = "model.safetensors") -> None:
    """Rename the tensors of a file; those renamed to None are left out."""
    state = {rename(key): tensor for key, tensor in load_file(folder / name).items()}
    save_file({key: tensor for key, tensor in state.items() if key is not None}, folder / name, {"format": "pt"})


def add_tokens(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["brandnew", "unheardof"])
    tokenizer.save_pretrained(folder)


def answers(kind: str, name: str, good: Path, seed: int) -> list[str]:
    """What training and predicting say to the damage; anything but an `HftlError` is raised."""
    damage, said = {**wrong_checkpoints.ANY, **wrong_checkpoints.TEXT, **wrong_checkpoints.IMAGE}[name], []
    for what in ("base", "tuned"):
        folder = copy(good, f"{what}-{kind}")
        damage(folder, random.Random(f"{name} {seed}"))
        try:
            if what == "base":
                load_base(folder, kind, allow_pickle=(folder / "pytorch_model.bin").exists())
            else:
                hftl.load(folder)
        except HftlError as error:
            said.append(str(error))
    assert not Path("ran").exists()
    assert all(len(line.splitlines()) == 1 and len(line) < 600 for line in said), said
    return said


@pytest.mark.parametrize(("kind", "name"), DAMAGES)
def test_every_damage(kind, name, good):
    answers(kind, name, good, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize(("kind", "name"), DAMAGES)
def test_every_damage_in_many_ways(kind, name, seed, good):
    answers(kind, name, good, seed)


# The true cause is named

RANDOM = "tensors would be random"
CAUSES: dict[str, tuple[str, Callable[[Path], Any], tuple[str, ...]]] = {
    "prefix": ("text", lambda f: change(f, lambda k: f"module.{k}"), (RANDOM, "without the prefix 'module'")),
    "width": ("text", lambda f: edit(f, hidden_size=64), (RANDOM, "[32", "[64", "in the file", "by config.json")),
    "a layer is missing": (
        "text",
        lambda f: change(f, lambda k: None if ".layer.1." in k else k),
        (RANDOM, "16 of 57", "bert.encoder.layer.1."),
    ),
    "embeddings are missing": (
        "image",
        lambda f: change(f, lambda k: None if "patch_embeddings" in k else k),
        (RANDOM, "2 of 56", "vit.embeddings.patch_embeddings.projection.weight"),
    ),
    "fewer layers in the file": ("image", lambda f: edit(f, num_hidden_layers=6), (RANDOM, "vit.layers.3.")),
    "more layers in the file": (
        "text",
        lambda f: edit(f, num_hidden_layers=2),
        ("more layers than the 2", "layer.2."),
    ),
    "more layers in a ViT": ("image", lambda f: edit(f, num_hidden_layers=1), ("more layers than the 1", "layers.1.")),
    "no layers": ("image", lambda f: edit(f, num_hidden_layers=-1), ("num_hidden_layers", "-1")),
    "image size": ("image", lambda f: edit(f, image_size=64), ("32",)),
    "config null": ("text", lambda f: (f / "config.json").write_text("null"), ("config.json is no JSON object",)),
    "config cut off": ("text", lambda f: (f / "config.json").write_text("{"), ("config.json is no valid JSON",)),
    "config deep": ("text", lambda f: (f / "config.json").write_text("[" * 10**5), ("config.json", "recursion")),
    "layers in words": ("text", lambda f: edit(f, num_hidden_layers="three"), ("num_hidden_layers", "three")),
    "dtype": ("text", lambda f: edit(f, dtype="nosuch"), ("nosuch",)),
    "padding token": ("text", lambda f: edit(f, pad_token_id=10**6), ("adding_idx",)),
    "bitsandbytes": (
        "text",
        lambda f: edit(f, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("bitsandbytes",),
    ),
    "tokens added": (
        "text",
        add_tokens,
        ("token numbers up to 306", "embeddings for 305 tokens", "resize_token_embeddings(len(tokenizer))"),
    ),
    "tokenizer config": (
        "text",
        lambda f: (f / "tokenizer_config.json").write_text("[]"),
        ("tokenizer_config.json is no JSON object",),
    ),
    "length in words": ("text", lambda f: edit(f, "tokenizer_config.json", model_max_length="many"), ("'many'",)),
    "negative length": (
        "text",
        lambda f: edit(f, "tokenizer_config.json", model_max_length=-1),
        ("model_max_length", "-1"),
    ),
    "no padding token": (
        "text",
        lambda f: wrong_checkpoints.no_special_tokens(f, random.Random(0)),
        ("neither a padding nor an end token",),
    ),
    "one mean": ("image", lambda f: edit(f, "preprocessor_config.json", image_mean=[0.5]), ("image_mean", "0.5")),
    "one channel": ("image", lambda f: edit(f, num_channels=1), ("1", "3")),
    "processor": ("image", lambda f: (f / "preprocessor_config.json").write_text("{"), ("preprocessor_config.json",)),
    "processor size": (
        "image",
        lambda f: edit(f, "preprocessor_config.json", size={"height": 32, "width": 64}),
        ("64",),
    ),
}


@pytest.mark.parametrize("what", ["base", "tuned"])
@pytest.mark.parametrize("case", CAUSES)
def test_the_cause_is_named(case, what, good):
    kind, damage, words = CAUSES[case]
    folder = copy(good, f"{what}-{kind}")
    damage(folder)
    with pytest.raises(HftlError) as refusal:
        load_base(folder, kind) if what == "base" else hftl.load(folder)
    said = str(refusal.value)
    assert len(said.splitlines()) == 1
    assert all(word in said for word in ("model", *words)), said


@pytest.mark.parametrize(
    ("shard", "words"),
    [
        ("../../etc/passwd", "names the file '../../etc/passwd', which the folder does not hold"),
        ("/etc/passwd", "names the file '/etc/passwd', which the folder does not hold"),
        ("model-00002-of-00002.safetensors", "names the file 'model-00002-of-00002.safetensors'"),
        (5, "names the file 5"),
    ],
)
def test_shards_that_are_not_there(good, shard, words):
    folder = copy(good, "base-text")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = dict.fromkeys(load_file(folder / "model-00001-of-00002.safetensors"), "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {**names, next(iter(names)): shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=words):
        load_base(folder)


def test_a_pickle_that_would_run_code_is_not_run(good):
    folder = copy(good, "base-text")
    (folder / "model.safetensors").unlink()
    torch.save({"a": wrong_checkpoints.Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="more than tensors and could run code") as refusal:
        load_base(folder, allow_pickle=True)
    assert "weights_only" not in str(refusal.value)  # torch's advice is to switch it off
    assert not Path("ran").exists()


# What a checkpoint may lack, or hold besides


def _other_head(good: Path) -> Path:
    return build("bert", Path("model"), num_labels=5)


def _bare(good: Path) -> Path:
    folder = copy(good, "base-text")
    transformers.BertModel.from_pretrained(good / "base-text").save_pretrained(folder)  # its pooler is new, and saved
    return folder


def _without_prefix(good: Path) -> Path:
    folder = copy(good, "base-text")
    change(folder, lambda key: key.removeprefix("bert.") if key.startswith("bert.") else None)
    return folder


def _sharded(good: Path) -> Path:
    folder = copy(good, "base-text")
    (folder / "model.safetensors").unlink()
    transformers.BertForMaskedLM.from_pretrained(good / "base-text").save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


def _leftover_index(good: Path) -> Path:
    folder = copy(good, "base-text")  # shards of a pickle that were not fetched
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}')
    return folder


def _buffers(good: Path) -> Path:
    folder = copy(good, "base-text")
    state = {**load_file(folder / "model.safetensors"), "bert.embeddings.position_ids": torch.arange(64)[None]}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def _masked_images(good: Path) -> Path:
    folder = copy(good, "base-image")
    config = transformers.ViTConfig.from_pretrained(folder)
    transformers.ViTForMaskedImageModeling(config).save_pretrained(folder)
    return folder


def _no_mask_token(good: Path) -> Path:
    build("dinov2", Path("model"))
    change(Path("model"), lambda key: None if key.endswith("mask_token") else key)
    return Path("model")


def _no_counts(good: Path) -> Path:
    build("resnet", Path("model"))
    change(Path("model"), lambda key: None if key.endswith("num_batches_tracked") else key)
    return Path("model")


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("text", _other_head),
        ("text", _bare),
        ("text", _without_prefix),
        ("text", _sharded),
        ("text", _leftover_index),
        ("text", _buffers),
        ("image", _masked_images),
        ("image", _no_mask_token),
        ("image", _no_counts),
    ],
)
def test_what_may_be_new_or_left_out(kind, make, good):
    folder = make(good)
    loaded = load_base(folder, kind)
    # By content, since some tensors are renamed when they are loaded.
    held = {v.numpy().tobytes() for file in folder.glob("*.safetensors") for v in load_file(file).values()}
    body = {k: v for k, v in loaded.model.base_model.state_dict().items() if "layer" in k and k.endswith("weight")}
    assert len(body) > 10
    assert [k for k, v in body.items() if v.numpy().tobytes() not in held] == []


# Adapters, modes, other outputs


@pytest.fixture
def adapter(good) -> Path:
    """A folder as `hftl push --adapter_only` makes it, for the base of texts."""
    Path("model").mkdir()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(good / "base-text", **NUMBERS)
    config = LoraConfig(
        task_type="SEQ_CLS", target_modules=["query", "value"], modules_to_save=["classifier", "pooler"]
    )
    adapted = get_peft_model(model, config)
    adapted.save_pretrained("model")
    model.config.architectures = ["BertForSequenceClassification"]
    model.config.save_pretrained("model")
    transformers.AutoTokenizer.from_pretrained(good / "base-text").save_pretrained("model")
    return Path("model")


def test_an_adapter_that_lacks_a_tensor(adapter):
    assert hftl.load(adapter).labels == LABELS
    change(
        adapter, lambda key: None if "layer.1.attention.self.query.lora_B" in key else key, "adapter_model.safetensors"
    )
    with pytest.raises(ModelError, match=r"1 tensors are missing, such as .*layer\.1\.attention"):
        hftl.load(adapter)


def test_a_pickled_adapter_is_not_read(adapter):
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        hftl.load(adapter)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_labels": 1}, "a number (regression)"),
        ({"num_labels": 3, "problem_type": "regression"}, "3 numbers"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "eval", "export"])
def test_what_is_no_choice_of_one_label(capsys, place, verb, fields, says):
    build("bert", Path("model"), **fields)
    words = {"predict": ["some day"], "eval": ["--data", place / "t.csv"], "export": ["--output_dir", "out"]}[verb]
    check(command(capsys, verb, "model", *words), says)


def test_the_problem_type_of_the_base_is_not_kept(place):
    build("bert", Path("model"), num_labels=4, problem_type="multi_label_classification")
    run = adapt(
        "text-classification",
        data=place / "t.csv",
        model="model",
        method="probe",
        evidence=False,
        use_cpu=True,
        pooling="native",
        output_dir="run",
    )
    served: Any = transformers.pipeline("text-classification", str(run.run_dir / "final"), device="cpu")
    scores = [entry["score"] for entry in served("some happy day", top_k=None)]
    assert len(scores) == 3
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_files_get_the_mode_of_new_files(good):
    loaded = load_base(good / "base-text")
    adapted = get_peft_model(loaded.model, LoraConfig(target_modules=["query"]))
    baseline = linear_baseline("tfidf", ["good day", "bad night"] * 4, np.array([0, 1] * 4), ["good"])
    before = os.umask(0o027)
    try:
        save_final(merge_adapter(adapted, Path("adapter"), loaded), loaded, Path("final"))
        save_baseline(baseline, Path("baseline"), LABELS[:2])
    finally:
        os.umask(before)
    modes = {str(path): path.stat().st_mode & 0o777 for path in Path().rglob("*") if path.is_file()}
    assert {
        "final/model.safetensors",
        "adapter/adapter_model.safetensors",
        "baseline/model.safetensors",
    } <= modes.keys()
    assert {path: oct(mode) for path, mode in modes.items() if mode != 0o640} == {}


def test_a_peft_adapter_alone_is_named_as_such(capsys, place):
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text('{"base_model_name_or_path": "bert", "peft_type": "LORA"}')
    words = ["--data", place / "t.csv", "--model", "adapter", "--method", "probe", "--output_dir", "out"]
    check(command(capsys, "train", "text-classification", *words), "PEFT adapter alone", "merge_and_unload")
