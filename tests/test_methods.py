"""The contract of the methods, on every family: what a method claims to learn changes, and nothing else does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hftl.adapt import Result, adapt
from hftl.config import build_config
from hftl.methods import METHODS, unread_flags
from tests.runs import SMALL, checkpoint, stock_model, text_frame, tiny_data, tiny_run, weights
from tests.thin import thin
from tests.tiny import IMAGE_FAMILIES, TEXT_FAMILIES


FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES
WHOLE = ("distilbert", "resnet")  # with every method by default; the other families with the probe
CONVNETS = ("resnet", "efficientnet")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("methods")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


_RUNS: dict[tuple[str, str], Result] = {}


def _run(family: str, method: str, folder: Path) -> Result:
    if (family, method) not in _RUNS:
        pooling = {"pooling": "native"} if family in TEXT_FAMILIES else {}
        _RUNS[family, method] = tiny_run(family, method, folder, **pooling)
    return _RUNS[family, method]


def _head_prefixes(model: Any, info: dict[str, Any]) -> set[str]:
    """Modules that the checkpoint did not bring, found here without hftl's own code."""
    return {key.rpartition(".")[0] for key in info["missing_keys"]}


def _split(family: str, folder: Path) -> tuple[dict[str, torch.Tensor], set[str], set[str], Any]:
    """State of the checkpoint under the stock class, names of its head's parameters, of its buffers, the model."""
    model, info = stock_model(family, checkpoint(family, folder))
    owners = _head_prefixes(model, info)
    head = {n for n, _ in model.named_parameters() if n.rpartition(".")[0] in owners}
    assert head
    buffers = {n for n, _ in model.named_buffers() if n in model.state_dict()}
    return dict(model.state_dict()), head, buffers, model


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("method", "flags", "says"),
    [
        (
            "probe",
            {"learning_rate": 1e-3, "num_train_epochs": 3},
            ["Nothing reads --learning_rate and --num_train_epochs"],
        ),
        ("full", {"lora_r": 8, "learning_rate": 1e-3}, ["Nothing reads --lora_r: full uses no LoRA"]),
        ("probe", {"max_steps": 3, "lora_dropout": 0.0}, ["--max_steps", "--lora_dropout"]),
        ("lora", {"lora_r": 8, "max_steps": 3}, []),
        ("auto", {"lora_r": 8, "max_steps": 3}, []),
    ],
)
def test_flags_that_change_nothing_are_named(method, flags, says) -> None:
    notes = unread_flags(build_config("text-classification", {"method": method, **flags}))
    assert len(notes) == len(says)
    assert all(part in note for part, note in zip(says, notes, strict=True))


def test_names_are_the_methods() -> None:
    assert tuple(method.name for method in METHODS.values()) == tuple(METHODS)


@pytest.mark.parametrize(
    ("family", "method"),
    [
        pytest.param(family, method, marks=() if method == "probe" or family in WHOLE else pytest.mark.slow)
        for family in FAMILIES
        for method in ("probe", "head")
    ],
)
def test_frozen_body_is_bit_equal(family: str, method: str, folder: Path) -> None:
    result = _run(family, method, folder)
    before, head, _, _ = _split(family, folder)
    changed = _changed(before, weights(result.run_dir, family))
    assert changed <= head
    last = result.report["stages"][-1]
    assert last["name"] == method
    linear = {n for n in head if before[n].shape[0] == 3}
    assert linear <= changed
    learning = linear if method == "probe" else head
    assert last["trainable_parameters"] == sum(before[n].numel() for n in learning)


@pytest.mark.parametrize("family", thin(FAMILIES, WHOLE))
def test_head_learns_every_head_parameter(family: str, folder: Path) -> None:
    """Against the probe's result, which has the same seeded start of the inner layers."""
    probe, head = _run(family, "probe", folder), _run(family, "head", folder)
    _, names, _, _ = _split(family, folder)
    assert _changed(weights(probe.run_dir, family), weights(head.run_dir, family)) == names


def _with_gradient(model: Any, family: str) -> set[str]:
    generator = torch.Generator().manual_seed(0)
    if family in TEXT_FAMILIES:
        ids = torch.randint(6, 200, (6, 12), generator=generator)
        out = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    else:
        out = model.eval()(pixel_values=torch.randn(6, 3, 32, 32, generator=generator))
    torch.nn.functional.cross_entropy(out.logits, torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 1e-5}


@pytest.mark.parametrize("family", thin(FAMILIES, WHOLE))
def test_full_moves_every_parameter_and_no_buffer(family: str, folder: Path) -> None:
    result = _run(family, "full", folder)
    probe = weights(_run(family, "probe", folder).run_dir, family)
    _, _, buffers, model = _split(family, folder)
    model.load_state_dict(probe)  # where the stage began
    changed = _changed(probe, weights(result.run_dir, family))
    assert _with_gradient(model, family) <= changed
    assert not changed & buffers
    if family in CONVNETS:
        assert any("running_mean" in name for name in buffers)
    last = result.report["stages"][-1]
    assert last["name"] == "full"
    assert last["trainable_parameters"] == sum(p.numel() for p in model.parameters())
    assert last["steps"] == 2
    rates = list(last["learning_rates"].values())
    assert rates == sorted(rates)  # lower towards the input
    assert list(last["learning_rates"])[-1] == "head"


@pytest.mark.parametrize("family", thin(FAMILIES, WHOLE))
def test_wise_ends_between_the_probe_and_full(family: str, folder: Path) -> None:
    low, high, state = (weights(_run(family, m, folder).run_dir, family) for m in ("probe", "full", "wise"))
    alpha = _run(family, "wise", folder).report["stages"][-1]["interpolation"]["alpha"]
    if alpha < 1:  # the probe's head, made smaller as a body that learns starts from it: by one factor for all of it
        head = [name for name in low if name.startswith("classifier") and name.endswith(("weight", "bias"))]
        ends = torch.cat([low[name].flatten() for name in head]), torch.cat([high[name].flatten() for name in head])
        place = int(ends[0].abs().argmax())
        mixture = torch.cat([state[name].flatten() for name in head])[place]
        factor = float((mixture - alpha * ends[1][place]) / (1 - alpha) / ends[0][place])
        assert 0 < factor <= 1 + 1e-6
        close = {name: (factor * low[name]).lerp(high[name], alpha) for name in head}
        assert all(torch.allclose(state[name], tensor, atol=1e-5) for name, tensor in close.items())
        low = {name: state[name] if name in head else tensor for name, tensor in low.items()}
        high = {name: state[name] if name in head else tensor for name, tensor in high.items()}
    mixed = {name: low[name] if low[name].equal(high[name]) else low[name].lerp(high[name], alpha) for name in low}
    assert not _changed(mixed, state)


@pytest.mark.parametrize("family", thin(FAMILIES, WHOLE))
def test_lora_moves_adapters_and_head_alone(family: str, folder: Path) -> None:
    result = _run(family, "lora", folder)
    before, head, buffers, model = _split(family, folder)
    probe = weights(_run(family, "probe", folder).run_dir, family)
    saved = load_file(result.run_dir / "adapter" / "adapter_model.safetensors")
    merged = weights(result.run_dir, family)
    config = json.loads((result.run_dir / "adapter" / "adapter_config.json").read_text())
    targets = {f"{name}.weight" for name in config["target_modules"]}
    changed = _changed(before, merged)
    assert changed == targets | (changed & head)  # the merged weights, and not a bias, norm or statistic
    assert not changed & buffers
    assert not targets & head
    # The adapter holds low-rank factors and the head, and both moved.
    factors = {k: v for k, v in saved.items() if ".lora_" in k}
    rest = {k.removeprefix("base_model.model."): v for k, v in saved.items() if ".lora_" not in k}
    assert set(rest) == head
    assert all(float(v.abs().max()) > 0 for k, v in factors.items() if ".lora_B." in k)
    assert len(factors) == 2 * len(targets)
    assert all(not torch.equal(rest[n], probe[n]) for n in head)
    assert all(torch.equal(rest[n], merged[n]) for n in head)
    last = result.report["stages"][-1]
    assert last["trainable_parameters"] == sum(v.numel() for v in saved.values())
    # Put on the checkpoint, the adapter leaves every base weight as it is.
    wrapped = PeftModel.from_pretrained(model, str(result.run_dir / "adapter"))
    base = {
        k.removeprefix("base_model.model.").replace(".base_layer.", "."): v for k, v in wrapped.state_dict().items()
    }
    body = set(before) - head
    assert all(torch.equal(base[n], before[n]) for n in body)


BLOCKS = {**dict.fromkeys(FAMILIES, 3), "resnet": 4, "convnext": 4, "efficientnet": 4}


def _stages(family: str, method: str) -> list[str]:
    if method == "gradual":
        n = BLOCKS[family]
        tops = [f"top {k} of {n} blocks" for k in range(1, n)]
        return ["probe", "head", *tops, f"all {n} blocks and the stem"]
    if method == "wise":
        return ["probe", "full", "interpolation"]
    return ["probe"] if method == "probe" else ["probe", method]


@pytest.mark.parametrize("family", thin(FAMILIES, WHOLE))
def test_artifacts(family: str, folder: Path) -> None:
    private = (str(folder), str(folder.parent), str(Path.home()))
    for method in set(METHODS) - {"auto", "contrastive"}:  # tests/test_race.py, tests/test_contrastive.py
        result = _run(family, method, folder)
        files = [p for p in result.run_dir.rglob("*") if p.is_file()]
        assert not [p for p in files if p.suffix in PICKLES], method
        assert {p.parent.name for p in files if p.suffix == ".safetensors"} == (
            {"final", "adapter"} if method == "lora" else {"final"}
        )
        config = json.loads((result.run_dir / "final" / "config.json").read_text())
        assert "auto_map" not in config
        assert config["architectures"][0].endswith("Classification")
        assert not list((result.run_dir / "final").glob("*.py"))
        assert list(config["id2label"].values()) == ["class_0", "class_1", "class_2"]
        assert [s["name"] for s in result.report["stages"]] == _stages(family, method)
        assert not result.run_dir.with_name(result.run_dir.name + ".partial").exists()
        for path in files:
            if path.parent.name in ("final", "adapter") and path.suffix in (".json", ".md", ".yaml"):
                text = path.read_text()
                assert not [p for p in private if p in text], path


@pytest.mark.parametrize("method", ["probe", "head"])
@pytest.mark.parametrize("family", thin(TEXT_FAMILIES, ("deberta-v2",)))
def test_mean_pooled_body_is_bit_equal(family: str, method: str, folder: Path) -> None:
    result = tiny_run(family, method, folder, f"{family}-{method}-mean", pooling="mean")
    model, info = stock_model(family, checkpoint(family, folder))
    missing = set(info["missing_keys"])
    prefix = model.base_model_prefix + "."
    body = {
        k.removeprefix(prefix): v for k, v in model.state_dict().items() if k.startswith(prefix) and k not in missing
    }
    after = load_file(result.run_dir / "final" / "model.safetensors")
    assert all(torch.equal(v, after[f"encoder.{k}"]) for k, v in body.items())
    assert {"classifier.weight", "classifier.bias"} <= set(after)
    assert result.report["pooling"] == "mean"
    assert result.report["stages"][-1]["trainable_parameters"] == 3 * 32 + 3
    for path in result.run_dir.joinpath("final").iterdir():
        assert path.suffix not in PICKLES
        assert str(folder) not in path.read_bytes().decode("latin-1"), path
    length = AutoTokenizer.from_pretrained(result.run_dir / "final", trust_remote_code=True).model_max_length
    assert 4 <= length <= 64


@pytest.mark.parametrize("method", ["full", pytest.param("head", marks=pytest.mark.slow)])
def test_training_goes_on_from_a_mean_pooled_run_without_a_flag(method: str, folder: Path) -> None:
    base_dir = tiny_run("bert", "probe", folder, f"bert-before-{method}", pooling="mean").run_dir
    flags = {**SMALL, "max_steps": 2, "learning_rate": 1e-9, "output_dir": folder / f"bert-{method}-on-mean"}
    result = adapt("text-classification", tiny_data("bert", folder), str(base_dir / "final"), method, **flags)
    assert result.report["model"]["architecture"] == "MeanPooledForSequenceClassification"
    before, after = (load_file(one / "final" / "model.safetensors") for one in (base_dir, result.run_dir))
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items() if "encoder" in name)


@pytest.mark.parametrize(
    ("said", "method", "flags", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True}, "probe", {}, "mean"),
        ({"pooling_mode": "mean"}, "probe", {}, "mean"),  # of later versions
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "probe", {}, None),
        ({"pooling_mode_mean_tokens": True}, "probe", {"pooling": "native"}, "native"),
        ({"pooling_mode_mean_tokens": True}, "probe", {"data": 400}, None),  # rows that can tell
        ({"pooling_mode_mean_tokens": True}, "full", {}, "native"),
        ("[damaged", "probe", {}, None),
    ],
)
def test_of_few_rows_the_checkpoint_says_what_stands_for_a_text(said, method, flags, pooling, tmp_path) -> None:
    base = checkpoint("bert", tmp_path)
    (base / "1_Pooling").mkdir()
    (base / "1_Pooling/config.json").write_text(said if isinstance(said, str) else json.dumps(said))
    flags = {**flags, "data": text_frame(flags.get("data", 40))}
    run = tiny_run("bert", method, tmp_path, "run", **flags)
    chosen = set(run.report["probe"]["cv_accuracy"])
    assert chosen == ({"native", "mean"} if pooling is None else {pooling})


@pytest.mark.parametrize("method", ["lora", "full"])
def test_pooling_flag_never_changes_the_class_of_lora_and_full(method: str, folder: Path) -> None:
    result = tiny_run("bert", method, folder, f"bert-{method}-mean", pooling="mean")
    config = json.loads((result.run_dir / "final" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert result.report["pooling"] == "native"
