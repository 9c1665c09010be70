"""The augmentation presets: what they change, what they keep, and that a run uses the one it was asked for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml

from hftl.config import MethodConfig, build_config
from hftl.errors import ConfigError
from hftl.tasks.inputs import image as image_classification
from hftl.tasks.inputs import text as text_classification
from hftl.tasks.inputs.augment import PRESETS, erase, jitter_colours, move_pixels
from tests.runs import subprocess_env, tiny_run
from tests.thin import thin


CHANGING = ("light", "default", "strong")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def processor():
    """ImageNet's mean and deviation, as most vision checkpoints have."""
    return transformers.ViTImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )


def photos(n: int = 16, side: int = 32) -> np.ndarray:
    """Smooth coloured bytes [n, 3, side, side] that reach both ends of the range."""
    small = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(small, size=side, mode="bilinear")
    low, high = large.amin((1, 2, 3), keepdim=True), large.amax((1, 2, 3), keepdim=True)
    return ((large - low) / (high - low) * 255).round().to(torch.uint8).numpy()


def batch(processor, pixels: np.ndarray, preset: str, *, flip: bool = True, augment: bool = True, seed: int = 0):
    torch.manual_seed(seed)
    items = [{"pixels": row, "labels": 0, "augment": augment} for row in pixels]
    return image_classification.collator(processor, flip, preset)(items)["pixel_values"]


def augmented(images: torch.Tensor, preset: str, flip: bool = True) -> torch.Tensor:
    return erase(move_pixels(jitter_colours(images, preset), preset, flip), preset)


def test_flag_offers_the_presets():
    choices = MethodConfig.__dataclass_fields__["augment"].metadata["choices"]
    assert choices == tuple(PRESETS)
    assert MethodConfig().augmentation == "light"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (5, 3, 24, 40)], ids=str)
def test_shape_and_dtype(preset, shape):
    result = augmented(torch.rand(shape), preset)
    assert result.shape == shape
    assert result.dtype == torch.float32
    assert not result.requires_grad


@pytest.mark.parametrize("preset", PRESETS)
def test_values_stay_in_the_range_of_normalised_pixels(processor, preset):
    scale, offset = image_classification.affine_map(processor)
    low, high = offset, 255 * scale + offset
    for seed in range(10):
        values = batch(processor, photos(), preset, seed=seed)
        assert bool((values >= low - 1e-5).all() & (values <= high + 1e-5).all())


@pytest.mark.parametrize("preset", CHANGING)
def test_random_numbers_come_from_torch(processor, preset):
    first = batch(processor, photos(), preset)
    np.random.seed(7)
    assert torch.equal(first, batch(processor, photos(), preset))
    assert not torch.equal(first, batch(processor, photos(), preset, seed=1))


@pytest.mark.parametrize("preset", CHANGING)
def test_resumed_generator_draws_the_same(processor, preset):
    """What Trainer does: keep the generator's state in a checkpoint, and put it back in a new process."""
    collate = image_classification.collator(processor, True, preset)
    items = [{"pixels": row, "labels": 0, "augment": True} for row in photos()]
    torch.manual_seed(3)
    collate(items)
    state = torch.get_rng_state()
    second = collate(items)["pixel_values"]
    collate(items)
    torch.set_rng_state(state)
    assert torch.equal(second, collate(items)["pixel_values"])


def test_none_is_the_identity(processor):
    scale, offset = image_classification.affine_map(processor)
    plain = torch.from_numpy(photos()).float() * scale + offset
    assert torch.equal(batch(processor, photos(), "none"), plain)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    augmented(torch.rand(2, 3, 8, 8, generator=torch.Generator()), "none")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_train_split_is_augmented(processor, preset):
    plain = batch(processor, photos(), "none")
    assert torch.equal(batch(processor, photos(), preset, augment=False), plain)


def mirrored_share(preset: str, flip: bool, draws: int = 300) -> float:
    """How often the bright left half of an image ends on the right."""
    torch.manual_seed(0)
    images = torch.zeros(draws, 3, 32, 32)
    images[..., :16] = 1.0
    moved = move_pixels(images, preset, flip)
    return float((moved[..., :16].mean((1, 2, 3)) < moved[..., 16:].mean((1, 2, 3))).float().mean())


@pytest.mark.parametrize("preset", CHANGING)
def test_mirror(preset):
    assert mirrored_share(preset, flip=False) == 0
    assert 0.4 < mirrored_share(preset, flip=True) < 0.6


@pytest.mark.parametrize("preset", CHANGING)
def test_never_upside_down(preset):
    torch.manual_seed(0)
    images = torch.zeros(300, 3, 32, 32)
    images[:, :, :16] = 1.0
    moved = move_pixels(images, preset, True)
    assert bool((moved[:, :, :16].mean((1, 2, 3)) > moved[:, :, 16:].mean((1, 2, 3))).all())


@pytest.mark.parametrize("preset", ["default", "strong"])
def test_colours_change_before_normalisation(processor, preset):
    """Grey stays grey in [0, 1] whatever the jitter; three channels jittered after normalisation would part."""
    scale, offset = image_classification.affine_map(processor)
    grey = np.full((64, 3, 32, 32), 128, dtype=np.uint8)
    values = batch(processor, grey, preset)
    kept = ~(values == 0).all(1, keepdim=True).expand_as(values)  # what `strong` erased
    shown = ((values - offset) / scale)[kept]
    by_channel = ((values - offset) / scale).masked_fill(~kept, 128.0)
    assert float((by_channel.amax(1) - by_channel.amin(1)).max()) < 1e-2
    strength = PRESETS[preset].colour
    assert 128 * (1 - strength) - 1 < float(shown.min()) < 128 * (1 - strength / 2)
    assert 128 * (1 + strength / 2) < float(shown.max()) < 128 * (1 + strength) + 1


def test_edges_repeat():
    """A white image stays white: nothing black comes in where the warp looks outside."""
    white = torch.ones(32, 3, 32, 32)
    for preset in CHANGING:
        assert float((move_pixels(white, preset, True) - 1).abs().max()) < 1e-4


def test_erasing():
    torch.manual_seed(0)
    erased = (erase(torch.ones(400, 3, 32, 32), "strong") == 0).all(1).float().mean((1, 2))
    assert 0.2 < float((erased > 0).float().mean()) < 0.3
    assert float(erased.max()) < 0.4
    assert torch.equal(erase(torch.ones(8, 3, 32, 32), "default"), torch.ones(8, 3, 32, 32))


def test_presets_grow_in_strength(processor):
    plain = batch(processor, photos(), "none")
    change = {
        p: np.mean([float((batch(processor, photos(), p, seed=s) - plain).abs().mean()) for s in range(10)])
        for p in PRESETS
    }
    assert change["none"] == 0 < change["light"] < change["default"] < change["strong"]


def test_float_pixels_are_only_moved(processor):
    """What a processor without an affine map puts out: a plain image stays as it is, colours and all."""
    plain = np.full((64, 3, 32, 32), 2.5, dtype=np.float32)
    for preset in CHANGING:
        assert torch.allclose(batch(processor, plain, preset), torch.from_numpy(plain), atol=1e-4)


def test_no_torchvision_and_a_late_import():
    code = """
import sys
sys.modules["torchvision"] = None  # an import of it fails
import torch
from hftl.tasks.inputs.augment import erase, jitter_colours, move_pixels
import hftl.adapt
move_pixels(torch.rand(2, 3, 32, 32), "light", True)
assert "kornia" not in sys.modules
for preset in ("default", "strong"):
    erase(move_pixels(jitter_colours(torch.rand(2, 3, 32, 32), preset), preset, True), preset)
assert "kornia" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=subprocess_env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_preset():
    with pytest.raises(
        ConfigError, match=r"--augment is one of none, light, default, strong.*Did you mean 'strong'\?"
    ):
        build_config("image-classification", {"data": "x", "augment": "strog"})


@pytest.mark.parametrize("preset", ["default", "strong"])
def test_texts_are_not_augmented(tmp_path, preset):
    with pytest.raises(ConfigError, match=f"--augment {preset} is for images: texts are not augmented"):
        tiny_run("bert", "full", tmp_path, augment=preset)
    assert not (tmp_path / "bert-full").exists()


def test_text_collator_takes_what_every_run_says():
    for preset in ("light", "none"):
        text_classification.collator(None, True, preset)


@pytest.mark.parametrize("preset", thin(PRESETS, ("strong",)))
@pytest.mark.parametrize("method", ["full", "lora"])
def test_run(tmp_path, preset, method):
    result = tiny_run("resnet", method, tmp_path, augment=preset)
    said = yaml.safe_load((result.run_dir / "config.yaml").read_text())
    assert said["augment"] == preset
    assert np.isfinite(result.metrics["accuracy"]["value"])


def test_run_uses_its_preset(tmp_path, monkeypatch):
    asked = []
    made = image_classification.move_pixels

    def spy(images, preset, flip):
        asked.append((preset, flip))
        return made(images, preset, flip)

    monkeypatch.setattr(image_classification, "move_pixels", spy)
    tiny_run("resnet", "full", tmp_path, augment="strong", no_flip=True)
    assert set(asked) == {("none", False), ("strong", False)}  # none: features, validation and test
