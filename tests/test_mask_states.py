"""What a frozen body tells a decoder of pixels, stored: training goes as without, on every architecture."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import hftl
from hftl.adapt import config_of
from hftl.methods import METHODS
from hftl.prepare import prepare
from hftl.training.replay import _seeded
from hftl.training.states import state_maker
from tests.architectures.mask_models import MODELS, build
from tests.faults.commands import assert_goes_on_after_a_kill
from tests.test_segmentation import draw
from tests.thin import thin


TASK = "image-segmentation"
QUICK: dict[str, Any] = {"evidence": "off", "use_cpu": True, "bf16": False, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("shapes"), 16)


def trained(shapes: Path, checkpoint: Path, method: str, folder: Path, **flags: Any) -> Any:
    return hftl.adapt(TASK, str(shapes), str(checkpoint), method, output_dir=folder, **{**QUICK, **flags})


CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in MODELS] + [
    (name, {"decoder": "linear"}) for name in ("dinov2", "swin", "resnet")
]


@pytest.mark.parametrize(
    ("name", "flags"), thin(CASES, [("segformer", {}), ("swin", {}), ("dinov2", {"decoder": "linear"})])
)
def test_cached_training_equals_uncached(name: str, flags: dict[str, Any], shapes: Path, tmp_path: Path) -> None:
    checkpoint = build(name, tmp_path / "checkpoint")
    runs = [
        trained(
            shapes, checkpoint, "head", tmp_path / cache, cache=cache, num_train_epochs=2, augment="none",
            learning_rate=0.1, optim="sgd", **flags,  # AdamW makes whole steps of what is but rounding
        )
        for cache in ("on", "off")
    ]  # fmt: skip
    assert [run.report["stages"][-1]["reads"] for run in runs] == ["states", "rows"]
    cached, plain = (load_file(run.run_dir / "final" / "model.safetensors") for run in runs)
    for key, value in plain.items():
        assert torch.allclose(cached[key].float(), value.float(), atol=1e-4), key


def test_gradual_stores_them_for_its_first_stage(shapes: Path, tmp_path: Path) -> None:
    run = trained(
        shapes,
        build("dinov2", tmp_path / "checkpoint"),
        "gradual",
        tmp_path / "run",
        cache="on",
    )
    assert [stage["reads"] for stage in run.report["stages"]] == ["states", *["rows"] * 4]


def test_a_mask_moves_with_the_states_of_its_image(shapes: Path, tmp_path: Path) -> None:
    checkpoint = build("dinov2", tmp_path / "checkpoint")
    flags = {"data": str(shapes), "model": str(checkpoint), "method": "head", "cache_views": 2, "augment": "strong"}
    ready = prepare(config_of(TASK, {**flags, **QUICK, "num_train_epochs": 4}))
    plan = METHODS["head"](ready.loaded, ready.config.method, len(ready.train))
    rows = ready.rows_to_train_on
    maker, note = state_maker(plan, (rows, ready.validation), ready.collate, ready.config)
    assert maker is not None, note
    stored = next(iter(maker.open(rows, maker.key(rows)).values()))
    body = transformers.Dinov2Backbone.from_pretrained(checkpoint, out_indices=[1, 2, 3, 4]).eval()
    moved = []
    for view in (0, 1):
        items = [rows[i] for i in range(4)]  # as many as one forward batch has
        batch = partial(_seeded, ready.collate, view)(items)
        with torch.no_grad():
            maps = body(pixel_values=batch["pixel_values"]).feature_maps
        for i in range(4):
            states, mask = stored.arrays["states"].versions[view][i]
            assert np.array_equal(mask, batch["labels"][i].numpy())
            expected = np.concatenate([one[i].numpy().ravel() for one in maps])
            assert np.allclose(states, expected, atol=1e-4)
        moved.append(batch["labels"])
    assert not torch.equal(*moved)


def test_windows_are_drawn_anew_in_every_epoch(shapes: Path, tmp_path: Path) -> None:
    checkpoint = build("dinov2", tmp_path / "checkpoint")
    flags = {"sliding_windows": True, "image_size": 32, "max_steps": 1}
    run = trained(shapes, checkpoint, "head", tmp_path / "run", **flags)
    assert run.report["stages"][-1]["reads"] == "rows"
    assert any("other windows of the images are drawn" in line for line in run.report["warnings"])


@pytest.mark.slow
def test_a_killed_run_goes_on(shapes: Path, tmp_path: Path) -> None:
    flags = {"data": shapes, "model": build("swin", tmp_path / "checkpoint"), "method": "head", "num_train_epochs": 10,
             "evidence": "off", "use_cpu": "true", "bf16": "false"}  # fmt: skip
    assert_goes_on_after_a_kill(TASK, flags, tmp_path)
