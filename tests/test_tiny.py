from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from tests.tiny import (
    DEFAULT_IDS,
    IMAGE_FAMILIES,
    MAX_LENGTH,
    TEXT_FAMILIES,
    WORDS,
    build,
    build_default,
    tiny_image_rows,
    tiny_images,
    tiny_text_rows,
)


def _pictures(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (50, 40, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_text_family_loads_and_runs(family: str, tmp_path: Path) -> None:
    folder = build(family, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert tokenizer.model_max_length == MAX_LENGTH
    batch = tokenizer(["i feel happy today", "sad"], padding=True, return_tensors="pt")
    ids = batch["input_ids"]
    assert ids[0, 0] == tokenizer.cls_token_id
    assert ids[1, -1] == tokenizer.pad_token_id
    assert batch["attention_mask"].sum(1).tolist()[1] < ids.shape[1]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.mask_token_id is not None
    assert "happy" in tokenizer.decode(ids[0], skip_special_tokens=True)
    long = tokenizer("very " * 200, truncation=True)["input_ids"]
    assert len(long) == MAX_LENGTH
    assert long[-1] == tokenizer.sep_token_id

    model, info = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4, output_loading_info=True)
    assert info["missing_keys"]
    assert all(
        key.startswith(("classifier", "pre_classifier", "pooler", "bert.pooler")) for key in info["missing_keys"]
    )
    out = model.eval()(
        **tokenizer(["i feel happy", "very " * 200], padding=True, truncation=True, return_tensors="pt")
    )
    assert out.logits.shape == (2, 4)
    assert torch.isfinite(out.logits).all()
    assert model.config.vocab_size == len(tokenizer)


def test_bert_has_no_pooler(tmp_path: Path) -> None:
    assert not [key for key in load_file(build("bert", tmp_path) / "model.safetensors") if "pooler" in key]


def test_deberta_uses_relative_positions(tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(build("deberta-v2", tmp_path))
    assert model.encoder.rel_embeddings.weight.shape[0] == 2 * 16


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_tokenizers_keep_known_words_whole(family: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(build(family, tmp_path))
    text = "so " + " ".join(WORDS)
    words = tokenizer(text, add_special_tokens=False).word_ids()
    assert len(set(words[5:])) == len(words[5:])


@pytest.mark.parametrize("head", [None, 3])
@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_image_family_loads_and_runs(family: str, head: int | None, tmp_path: Path) -> None:
    folder = build(family, tmp_path / "model", **({} if head is None else {"num_labels": head}))
    processor = AutoImageProcessor.from_pretrained(folder)
    batch = processor(_pictures(2), return_tensors="pt")
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    model, info = AutoModelForImageClassification.from_pretrained(
        folder, num_labels=head or 5, output_loading_info=True
    )
    missing = [key for key in info["missing_keys"] if not key.startswith("classifier")]
    assert not missing
    assert bool(info["missing_keys"]) == (head is None)
    logits = model.eval()(**batch).logits
    assert logits.shape == (2, head or 5)
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", ["resnet", "efficientnet"])
def test_batch_norm_statistics_are_not_the_initial_ones(family: str, tmp_path: Path) -> None:
    weights = load_file(build(family, tmp_path) / "model.safetensors")
    means = [value for key, value in weights.items() if key.endswith("running_mean")]
    assert means
    assert all(value.abs().max() > 0.01 for value in means)
    assert all(
        (value - 1).abs().max() > 0.1 and value.min() > 0
        for key, value in weights.items()
        if key.endswith("running_var")
    )


@pytest.mark.parametrize("family", TEXT_FAMILIES + IMAGE_FAMILIES)
def test_weights_follow_the_seed_only(family: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = load_file(build(family, tmp_path / "a", seed=7) / "model.safetensors")
    state = torch.random.get_rng_state()
    second = load_file(build(family, tmp_path / "b", seed=7) / "model.safetensors")
    assert torch.equal(state, torch.random.get_rng_state())
    other = load_file(build(family, tmp_path / "c", seed=8) / "model.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("hub_id", "architecture", "model_type"),
    [
        (DEFAULT_IDS[0], "DistilBertForMaskedLM", "distilbert"),
        (DEFAULT_IDS[1], "ViTModel", "vit"),
        (DEFAULT_IDS[2], "ResNetForImageClassification", "resnet"),
    ],
)
def test_defaults_have_the_real_architecture(hub_id: str, architecture: str, model_type: str, tmp_path: Path) -> None:
    config = AutoModel.from_pretrained(build_default(hub_id, tmp_path)).config
    assert config.architectures == [architecture]
    assert config.model_type == model_type
    if model_type == "resnet":
        assert config.layer_type == "bottleneck"
        assert config.num_labels == 1000
        assert AutoImageProcessor.from_pretrained(tmp_path).__class__.__name__.startswith("ConvNextImageProcessor")


@pytest.mark.parametrize("make", [build, build_default])
def test_unknown_names_are_refused(make: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known:"):
        make("nothing", tmp_path)  # type: ignore[operator]


def test_text_rows_are_balanced_distinct_and_seeded() -> None:
    rows = tiny_text_rows(60, 6, seed=3)
    assert rows == tiny_text_rows(60, 6, seed=3) != tiny_text_rows(60, 6, seed=4)
    assert [sum(label == wanted for _, label in rows) for wanted in range(6)] == [10] * 6
    assert len({text for text, _ in rows}) == 60
    words = [{word for text, label in rows if label == wanted for word in text.split()} for wanted in range(6)]
    assert all(own - set().union(*(words[:index] + words[index + 1 :])) for index, own in enumerate(words))
    assert len(tiny_text_rows(40, 20)) == 40


def test_images_are_written_and_learnable(tmp_path: Path) -> None:
    folder = tiny_images(tmp_path / "a", per_class=4, classes=["x", "y", "z"], size=24, seed=1)
    files = sorted(folder.rglob("*.png"))
    assert [file.parent.name for file in files] == ["x"] * 4 + ["y"] * 4 + ["z"] * 4
    twin = sorted(tiny_images(tmp_path / "b", per_class=4, classes=["x", "y", "z"], size=24, seed=1).rglob("*.png"))
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in twin]
    colours = np.array([np.asarray(Image.open(file)).mean((0, 1)) for file in files])
    centres = np.array([colours[start : start + 4].mean(0) for start in (0, 4, 8)])
    nearest = np.linalg.norm(colours[:, None] - centres, axis=-1).argmin(1)
    assert nearest.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert sorted(label for _, label in tiny_image_rows(9, 3)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
