"""timm's models, in the wrapper's format and in that of the Hub's `timm/...` repositories. Needs the extra `timm`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from hftl.adapt import adapt
from hftl.errors import ConfigError
from tests.architectures.contract import FLAGS, METHODS, check_contract
from tests.tiny import tiny_images


pytest.importorskip(
    "torchvision", reason="timm's image processor needs torchvision", exc_type=(ImportError, RuntimeError)
)
timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")

# architecture → (arguments of timm.create_model, side of its images)
MODELS: dict[str, tuple[dict[str, Any], int]] = {"resnet18": ({}, 64), "vit_tiny_patch16_224": ({"depth": 2}, 224)}


def _build(name: str, folder: Path, *, of_the_hub: bool) -> Path:
    arguments, side = MODELS[name]
    classes = 3 if of_the_hub else 7  # 3: as many as the data have, so that no key of the head is missing
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=classes, **arguments)
    plain = {k: v for k, v in model.pretrained_cfg.items() if isinstance(v, str | int | float | list | tuple | None)}
    fields = {
        "architecture": name,
        "num_classes": classes,
        "model_args": arguments,
        "pretrained_cfg": {**plain, "input_size": [3, side, side]},
    }
    if of_the_hub:
        folder.mkdir()
        save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(fields))
        return folder
    wrapper = transformers.TimmWrapperForImageClassification(
        transformers.TimmWrapperConfig.from_dict(fields, num_labels=classes)
    )
    wrapper.timm_model.load_state_dict(model.state_dict())
    wrapper.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("of_the_hub", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_contract(tmp_path, name, of_the_hub, method):
    images = tiny_images(tmp_path / "images", per_class=6, size=72)
    rows = [str(path) for path in sorted(images.rglob("*.png"))[::7]]
    folder = _build(name, tmp_path / "base", of_the_hub=of_the_hub)
    short = {} if method == "probe" else {"max_steps": 2}
    check_contract(folder, "image-classification", str(images), method, tmp_path / "run", rows, **short)


def test_another_image_size_is_refused(tmp_path):
    images = tiny_images(tmp_path / "images", per_class=6, size=72)
    folder = _build("resnet18", tmp_path / "base", of_the_hub=True)
    with pytest.raises(ConfigError, match="--image_size 96: this model's processor makes 64 pixels and no other"):
        adapt("image-classification", str(images), str(folder), "probe", tmp_path / "run", image_size=96, **FLAGS)
