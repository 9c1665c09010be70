"""Every image architecture with every method: the whole table is slow, the rows that broke before are not."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import hftl
from hftl.adapt import adapt
from hftl.config import MethodConfig, ModelConfig
from hftl.errors import ConfigError, ModelError
from hftl.evaluation.logistic import Probe
from hftl.methods import METHODS, check_method
from hftl.methods.plan import Given, write_probe
from hftl.models.heads import fold_temperature, output_linears
from hftl.models.load import load_model
from hftl.tasks import get_task
from hftl.tasks.task import Encoded
from hftl.training.features import Passer
from tests.architectures.contract import FLAGS, check_contract
from tests.architectures.vision_models import MODELS, SIDE, build_vision
from tests.tiny import tiny_images


TASK = get_task("image-classification")
LABELS = ("a", "b", "c")
TWO_HEADS = ("deit-with-teacher", "levit-with-teacher", "swiftformer")
UNABLE = {("bit", "lora")}  # every convolution standardises its weight
THIN = (
    ("deit-with-teacher", "probe"),
    ("deit-with-teacher", "lora"),
    ("swiftformer", "lora"),  # its head's `norm` is how names in its body end
    ("mobilenet-v1", "lora"),  # it reads the stride of its convolutions
    ("siglip-vision", "full"),
    ("vit-mae", "probe"),
    ("dinov3-convnext", "lora"),
)
WIDE = [(name, method) for name in MODELS for method in METHODS if (name, method) not in (*THIN, *UNABLE)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: Any) -> Path:
    return tiny_images(tmp_path_factory.mktemp("images"), per_class=6, size=72)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: Any) -> Any:
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda name: root / name if (root / name).is_dir() else build_vision(name, root / name)


def _contract(checkpoint: Any, images: Path, name: str, method: str, folder: Path) -> Any:
    rows = [str(path) for path in sorted(images.rglob("*.png"))[::7]]
    short = {} if method == "probe" else {"max_steps": 2}
    return check_contract(checkpoint(name), TASK.name, str(images), method, folder / "run", rows, **short)


@pytest.mark.parametrize(("name", "method"), THIN)
def test_contract(checkpoint, images, tmp_path, name, method):
    run = _contract(checkpoint, images, name, method, tmp_path)
    own = "PooledForImageClassification" in " ".join(run.report["warnings"])
    assert own == name.startswith("dinov3")
    assert own == (run.run_dir / "final" / "modeling_pooled.py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), WIDE)
def test_contract_of_the_whole_table(checkpoint, images, tmp_path, name, method):
    _contract(checkpoint, images, name, method, tmp_path)


@pytest.mark.parametrize("name", TWO_HEADS)
def test_logits_of_two_heads_are_the_probe(checkpoint, name):
    """Whatever solution is written, the model's own logits are the probe on the features that it was fitted on."""
    loaded = load_model(TASK, ModelConfig(model=str(checkpoint(name))), LABELS)
    assert len(loaded.outputs) == 2
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.normal(size=(5, 3, SIDE, SIDE)).astype(np.float32))
    encoded = Encoded({"pixels": pixels.numpy()}, np.zeros(5, dtype=np.int64))
    features = Passer(_collate, use_cpu=True).features(loaded.model, loaded.outputs, encoded, "")["native"]
    widths = [loaded.model.get_submodule(output).in_features for output in loaded.outputs]
    assert features.shape == (5, sum(widths))
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((3, sum(widths)), (3,)))
    plan = METHODS["probe"](loaded, MethodConfig(), 5)
    write_probe(plan, Given(Probe(weight, bias, 1.0, "native", {}, 0.0)))
    wanted = torch.from_numpy(features @ weight.T + bias)
    assert torch.allclose(_logits(loaded.model, pixels), wanted, atol=1e-4)
    for output in plan.outputs:
        fold_temperature(plan.model, output, 2.0)
    assert torch.allclose(_logits(loaded.model, pixels), wanted / 2, atol=1e-4)


def _collate(items: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.from_numpy(np.stack([item["pixels"] for item in items])),
        "labels": torch.zeros(len(items), dtype=torch.long),
    }


def _logits(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(pixel_values=pixels).logits


class _Headed(nn.Module):
    """A body and one Linear, with `last` after it."""

    device = torch.device("cpu")

    def __init__(self, last: Any):
        super().__init__()
        self.body, self.fc, self.last = nn.Linear(4, 3), nn.Linear(3, 3), last

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.last(self.fc(self.body(x))))


def test_logits_that_are_no_linear_are_refused():
    batch = {"x": torch.ones(1, 4)}
    assert output_linears(_Headed(lambda x: x), ("fc",), 3, batch) == ("fc",)
    for last in (torch.tanh, lambda x: 2 * x, lambda x: x + 1):
        with pytest.raises(ModelError, match="does not end in a Linear layer"):
            output_linears(_Headed(last), ("fc",), 3, batch)


def test_an_inner_layer_of_the_same_width_is_no_output():
    batch = {"x": torch.ones(1, 4)}
    assert output_linears(_Headed(lambda x: x), ("body", "fc"), 3, batch) == ("fc",)


def test_lora_without_a_layer_for_it_is_refused_before_a_forward_pass(checkpoint):
    loaded = load_model(TASK, ModelConfig(model=str(checkpoint("bit"))), LABELS)
    check_method(MethodConfig(method="full"), loaded)
    loaded.model.forward = None
    with pytest.raises(ConfigError, match="lora has nothing to adapt"):
        check_method(MethodConfig(method="lora"), loaded)


def test_lora_saves_no_module_of_the_body_that_is_called_like_one_of_the_head(checkpoint):
    loaded = load_model(TASK, ModelConfig(model=str(checkpoint("swiftformer"))), LABELS)
    plan = METHODS["lora"](loaded, MethodConfig(method="lora"), 10)
    learning = {name for name, p in plan.model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert "base_model.model.norm.modules_to_save.default.weight" in learning
    assert all(name.startswith(tuple(f"base_model.model.{h}." for h in loaded.head)) for name in learning)


@pytest.mark.parametrize("name", ["dinov3-vit", pytest.param("deit-with-teacher", marks=pytest.mark.slow)])
def test_evidence_and_control_of_unusual_classes(checkpoint, images, tmp_path, name):
    flags = {**FLAGS, "evidence": True, "control": "scratch", "max_steps": 2}
    run = adapt(TASK.name, str(images), str(checkpoint(name)), "full", tmp_path / "run", **flags)
    assert run.evidence["ladder"]
    assert run.report["parity"]["final"]["labels_equal"]
    card = (run.run_dir / "final" / "README.md").read_text()
    assert ("trust_remote_code=True" in card) == name.startswith("dinov3")


def test_the_tensors_of_a_tower_are_those_of_the_checkpoint(checkpoint):
    for name, body in (("siglip-vision", "vision_model"), ("vit-mae", "vit"), ("dinov3-vit", "encoder")):
        loaded = load_model(TASK, ModelConfig(model=str(checkpoint(name))), LABELS)
        stock = transformers.AutoModel.from_pretrained(checkpoint(name)).state_dict()
        ours = loaded.model.get_submodule(body).state_dict()
        same = [key for key in ours if key in stock and torch.equal(ours[key], stock[key])]
        assert same
        assert {key for key in ours if key not in same} <= {"embeddings.mask_token"}


def test_predict_reads_the_classes_of_the_auto_mapping(checkpoint, images, tmp_path):
    model = hftl.load(checkpoint("deit-with-teacher"))  # a classifier that hftl did not train
    assert len(model.labels) == 5
    with pytest.raises(ModelError, match="holds a DINOv3ViTModel, not a trained classifier"):
        hftl.load(checkpoint("dinov3-vit"))


def test_a_processor_of_another_package_is_named(checkpoint, tmp_path):
    folder = build_vision("dinov3-vit", tmp_path / "base")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_processor_type": "DINOv3ViTImageProcessor"}))
    if transformers.utils.is_torchvision_available():
        pytest.skip("torchvision is installed")
    with pytest.raises(ModelError, match="needs torchvision, which is not installed: pip install torchvision"):
        load_model(TASK, ModelConfig(model=str(folder)), LABELS)
