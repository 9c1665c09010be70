"""States of frozen layers: cached and uncached training give the same model, on every family."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hftl.errors import TrainingError
from hftl.methods import METHODS
from hftl.training import replay, stages, states
from hftl.training.features import Passer
from hftl.training.replay import OnStates, anatomy_of, capture
from tests.runs import stock_model, tiny_run
from tests.thin import thin
from tests.tiny import IMAGE_FAMILIES, TEXT_FAMILIES
from tests.traps.loading import config_of, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("states")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _logits(family: str, run: Path) -> torch.Tensor:
    model = stock_model(family, run / "final")[0].eval()
    generator = torch.Generator().manual_seed(1)
    if family in TEXT_FAMILIES:
        ids = torch.randint(6, 200, (6, 12), generator=generator)
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return model(pixel_values=torch.randn(6, 3, 32, 32, generator=generator)).logits


def _pair(family: str, method: str, folder: Path, name: str, **flags: Any) -> tuple[Any, Any]:
    """The same run with the cache and without; dropout in the layers that learn is left on."""
    flags = {
        "max_steps": -1,
        "num_train_epochs": 4,
        "learning_rate": 1e-3,
        "augment": "none",
        "pooling": "native",
        **flags,
    }
    if family in IMAGE_FAMILIES:
        del flags["pooling"]
    return tuple(
        tiny_run(family, method, folder, f"{family}-{name}-{cache}", cache=cache, **flags) for cache in ("on", "off")
    )  # type: ignore[return-value]


CASES = [(family, "gradual", {}) for family in TEXT_FAMILIES + IMAGE_FAMILIES]
CASES += [(family, "full", {"train_top": 1}) for family in ("deberta-v2", "convnext")]
CASES += [(family, "lora", {"train_top": 1}) for family in ("bert", "vit")]
CASES += [(family, "head", {}) for family in ("bert", "distilbert", "deberta-v2", "resnet")]
QUICK = [
    ("deberta-v2", "gradual", {}), ("resnet", "gradual", {}), ("convnext", "full", {"train_top": 1}),
    ("vit", "lora", {"train_top": 1}), ("distilbert", "head", {}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "method", "flags"), thin(CASES, QUICK))
def test_cached_training_equals_uncached(family: str, method: str, flags: dict[str, Any], folder: Path) -> None:
    cached, uncached = _pair(family, method, folder, method, **flags)
    reads = [stage["reads"] for stage in cached.report["stages"][1:]]
    assert reads[0] in ("states", "features")
    assert {stage["reads"] for stage in uncached.report["stages"][1:]} == {"rows"}
    if method == "gradual":
        assert reads[1:] == ["states"] * (len(reads) - 2) + ["rows"]  # the last one thaws the stem
    a, b = _logits(family, cached.run_dir), _logits(family, uncached.run_dir)
    assert float((a - b).abs().max()) < 1e-4
    pooling = {"pooling": "native"} if family in TEXT_FAMILIES else {}
    start = _logits(family, tiny_run(family, "probe", folder, f"{family}-{method}-probe", **pooling).run_dir)
    assert float((a - start).abs().max()) > 1e-3  # both went somewhere


def test_states_are_gone_at_the_end(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    seen: list[int] = []
    drop = stages.drop_states

    def counted(keys: list[str]) -> None:
        seen.append(len(list((tmp_path / "cache" / "states").rglob("*.npy"))))
        drop(keys)

    monkeypatch.setattr(stages, "drop_states", counted)
    tiny_run("bert", "gradual", tmp_path, max_steps=-1, num_train_epochs=4, cache="on")
    assert seen == [6]  # three boundaries of train and validation
    assert not list((tmp_path / "cache" / "states").iterdir())


@pytest.mark.parametrize(
    ("family", "method", "flags", "alone"),
    [
        pytest.param("bert", "full", {"train_top": 1}, 0, marks=pytest.mark.slow),
        pytest.param("bert", "lora", {"train_top": 1}, 0, marks=pytest.mark.slow),
        ("bert", "gradual", {"num_train_epochs": 4}, 0),
        ("bert", "head", {"pooling": "native"}, 0),
        pytest.param("resnet", "full", {"train_top": 1, "augment": "none"}, 0, marks=pytest.mark.slow),
        ("resnet", "full", {"train_top": 1, "cache_views": 2}, 2),  # augmented, which features are not
    ],
)
def test_features_and_states_come_from_one_pass(
    family: str, method: str, flags: dict[str, Any], alone: int, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What the feature pass stores is what a pass of its own stores, bit by bit; `alone` is how many are needed still."""
    flags = {"max_steps": -1, "num_train_epochs": 2, "cache": "on", **flags}
    passes: list[int] = []
    run = Passer.run

    def counted(self: Passer, model: Any, encoded: Any, use: Any, title: str, *shard: Any) -> int:
        passes.extend([len(encoded)] if title == "frozen layers" else [])
        return run(self, model, encoded, use, title, *shard)

    monkeypatch.setattr(Passer, "run", counted)
    stored: list[dict[str, bytes]] = []
    drop = stages.drop_states

    def read(keys: list[str]) -> None:
        root = tmp_path / "cache" / "states"
        stored[-1] |= {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.npy")}
        drop(keys)

    monkeypatch.setattr(stages, "drop_states", read)
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    runs = []
    for name in ("shared", "apart"):
        stored.append({})
        runs.append(tiny_run(family, method, tmp_path, name, **flags))
        if name == "shared":
            assert len(passes) == alone
            assert stored[0]
    # The features are in the cache now, so that the second run has to store the states in a pass of its own.
    assert len(passes) == alone + (alone or 1) + 1
    assert stored[0] == stored[1]
    weights = [load_file(run.run_dir / "final" / "model.safetensors") for run in runs]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize("family", TEXT_FAMILIES + IMAGE_FAMILIES)
def test_replay_gives_the_models_logits_and_gradients(family: str, folder: Path) -> None:
    loaded = load(family, folder)
    model = loaded.model.eval()
    generator = torch.Generator().manual_seed(0)
    if family in TEXT_FAMILIES:
        mask = torch.ones(4, 9, dtype=torch.long)
        mask[0, 5:] = 0
        batch = {"input_ids": torch.randint(6, 200, (4, 9), generator=generator), "attention_mask": mask}
        small = batch
    else:
        batch = {"pixel_values": torch.randn(4, 3, 32, 32, generator=generator)}
        small = {"pixel_values": torch.zeros(4, 3, 1, 1)}
    anatomy = anatomy_of(model, loaded.layers, "", batch)
    assert anatomy is not None
    n = len(loaded.layers.modules)
    with capture(model, anatomy.blocks, range(1, n + 1)) as found:
        whole = model(**batch).logits
    found = {first: value.detach() for first, value in found.items()}
    for first in range(1, n + 1):
        replay = OnStates(model, anatomy, first)
        assert torch.allclose(replay(found[first], **small).logits, whole, atol=1e-6)
    # The top block's gradient is the whole model's; what lies below gets none.
    top = [p for name, p in model.named_parameters() if name in loaded.layers.blocks[-1]]
    expected = torch.autograd.grad(model(**batch).logits.sum(), top, allow_unused=True)
    got = torch.autograd.grad(
        OnStates(model, anatomy, n - 1)(found[n - 1], **small).logits.sum(), top, allow_unused=True
    )
    for a, b in zip(expected, got, strict=True):
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.allclose(a, b, atol=1e-5)
    assert "forward" not in model.get_submodule(anatomy.stem).__dict__  # nothing is left of the bypass


def test_a_replay_that_is_not_exact_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose upper part looks at something else than the states, too."""
    monkeypatch.setattr(states, "replays_exactly", lambda *_: False)
    flags = {"max_steps": -1, "num_train_epochs": 4, "train_top": 1}
    result = tiny_run("bert", "full", folder, "inexact", cache="auto", **flags)
    assert result.report["stages"][-1]["reads"] == "rows"
    assert any("cannot be run from stored states" in w for w in result.report["warnings"])
    with pytest.raises(TrainingError, match="--cache on cannot be held"):
        tiny_run("bert", "full", folder, "inexact-on", cache="on", **flags)
    assert not (folder / "inexact-on").exists()
    assert not (folder / "inexact-on.partial").exists()


def test_augmented_views_are_stored_and_drawn(folder: Path) -> None:
    flags = {"max_steps": -1, "num_train_epochs": 8, "train_top": 1, "cache": "on", "cache_views": 3}
    first = tiny_run("resnet", "full", folder, "views-1", **flags)
    again = tiny_run("resnet", "full", folder, "views-2", **flags)
    single = tiny_run("resnet", "full", folder, "views-3", **{**flags, "cache_views": 1})
    weights = [load_file(r.run_dir / "final" / "model.safetensors") for r in (first, again, single)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert any(not torch.equal(weights[0][k], weights[2][k]) for k in weights[0])
    assert first.report["stages"][-1]["reads"] == "states"


def test_states_of_short_trainings_are_not_stored(folder: Path) -> None:
    result = tiny_run("bert", "full", folder, "short", train_top=1, max_steps=-1, num_train_epochs=1)
    assert result.report["stages"][-1]["reads"] == "rows"
    assert any("would not pay" in w for w in result.report["warnings"])


def test_which_stages_can_share_one_pass(folder: Path) -> None:
    plan = METHODS["gradual"](load("bert", folder), config_of(folder).method, 100)
    assert states.boundaries(plan, [0.0, 1, 1, 1, 1]) == {3: 1.0, 2: 1.0, 1: 1.0}
    # After a stage that trained the stem, states of the start say nothing about the layers above it.
    backwards = dataclasses.replace(plan, stages=(plan.stages[-1], plan.stages[1]))
    assert states.boundaries(backwards, [1.0, 1.0]) == {}


def test_bf16_states_take_half_the_room() -> None:
    value = torch.randn(3, 5)
    target = np.zeros((3, 5), dtype=np.uint16)
    replay._write(target, value, [2, 0, 1], None)
    back = states._as_tensor(target[[2, 0, 1]])
    assert torch.equal(back, value.to(torch.bfloat16).float())


def test_report_names_the_blocks(folder: Path) -> None:
    run = tiny_run("bert", "gradual", folder, "thaw", thaw_to=2, thaw_every=0.5, max_steps=-1)
    names = [stage["name"] for stage in run.report["stages"]]
    assert names == ["probe", "head", "top 1 of 3 blocks", "top 2 of 3 blocks"]
