"""The tiny checkpoints are what the tests take them for: of the real classes, seeded, and with something to learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from tests.tiny import DEFAULT_IDS, TEXT_FAMILIES, WORDS, build, build_default, tiny_images, tiny_text_rows


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_tokenizers_keep_known_words_whole(family: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(build(family, tmp_path))
    text = "so " + " ".join(WORDS)
    words = tokenizer(text, add_special_tokens=False).word_ids()
    assert len(set(words[5:])) == len(words[5:])


def test_batch_norm_statistics_are_not_the_initial_ones(tmp_path: Path) -> None:
    weights = load_file(build("resnet", tmp_path) / "model.safetensors")
    means = [value for key, value in weights.items() if key.endswith("running_mean")]
    variances = [value for key, value in weights.items() if key.endswith("running_var")]
    assert means
    assert all(value.abs().max() > 0.01 for value in means)
    assert all((value - 1).abs().max() > 0.1 and value.min() > 0 for value in variances)


@pytest.mark.parametrize("family", ["bert", "resnet"])
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
    ("hub_id", "architecture"),
    zip(DEFAULT_IDS, ("DistilBertForMaskedLM", "ViTModel", "ResNetForImageClassification"), strict=True),
)
def test_defaults_have_the_real_architecture(hub_id: str, architecture: str, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(build_default(hub_id, tmp_path))
    assert config.architectures == [architecture]
    assert config.model_type != "resnet" or (config.layer_type, config.num_labels) == ("bottleneck", 1000)


def test_text_rows_are_balanced_distinct_and_seeded() -> None:
    rows = tiny_text_rows(60, 6, seed=3)
    assert rows == tiny_text_rows(60, 6, seed=3) != tiny_text_rows(60, 6, seed=4)
    assert [sum(label == wanted for _, label in rows) for wanted in range(6)] == [10] * 6
    assert len({text for text, _ in rows}) == 60
    words = [{word for text, label in rows if label == wanted for word in text.split()} for wanted in range(6)]
    assert all(own - set().union(*(words[:index] + words[index + 1 :])) for index, own in enumerate(words))


def test_images_are_written_and_learnable(tmp_path: Path) -> None:
    folder = tiny_images(tmp_path / "a", per_class=4, classes=["x", "y", "z"], size=24, seed=1)
    files = sorted(folder.rglob("*.png"))
    assert [file.parent.name for file in files] == ["x"] * 4 + ["y"] * 4 + ["z"] * 4
    colours = np.array([np.asarray(Image.open(file)).mean((0, 1)) for file in files])
    centres = np.array([colours[start : start + 4].mean(0) for start in (0, 4, 8)])
    nearest = np.linalg.norm(colours[:, None] - centres, axis=-1).argmin(1)
    assert nearest.tolist() == [0] * 4 + [1] * 4 + [2] * 4
