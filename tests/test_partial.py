"""Parts of the model, of the rows and of the randomness: what the flags of partial training do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from hftl.config import build_config, read_yaml
from hftl.data.load import load_splits
from hftl.errors import ConfigError, DataError
from hftl.run_data import run_splits
from tests.runs import stock_model, text_frame, tiny_run, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("partial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _changed(family: str, folder: Path, name: str, method: str = "full", **flags: Any) -> set[str]:
    """Names of what moved beyond the probe's result, which every method starts from."""
    pooling = {} if family == "resnet" else {"pooling": "native"}
    start = folder / f"{family}-probe"
    if not start.exists():
        tiny_run(family, "probe", folder, start.name, **pooling)
    run = tiny_run(family, method, folder, name, **flags)
    before, after = weights(start, family), weights(run.run_dir, family)
    return {k for k in before if not torch.equal(before[k], after[k])}


def test_train_top_moves_the_top_blocks_and_the_head(folder: Path) -> None:
    moved = _changed("bert", folder, "top-2", train_top=2)
    assert {n.split(".")[3] for n in moved if ".encoder.layer." in n} == {"1", "2"}
    assert not [n for n in moved if "embeddings" in n]
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= moved


def test_lora_on_the_top_blocks(folder: Path) -> None:
    moved = _changed("bert", folder, "lora-top-1", "lora", train_top=1)
    assert {n.split(".")[3] for n in moved if ".encoder.layer." in n} == {"2"}
    config = json.loads((folder / "lora-top-1" / "adapter" / "adapter_config.json").read_text())
    assert all(".layer.2." in name for name in config["target_modules"])


@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_norms_and_biases_alone(family: str, folder: Path) -> None:
    model, info = (
        stock_model(family, folder / f"base-{family}") if (folder / f"base-{family}").exists() else (None, {})
    )
    norms = _changed(family, folder, f"{family}-norms", train_norms=True)
    biases = _changed(family, folder, f"{family}-biases", train_bias=True)
    both = _changed(family, folder, f"{family}-both", train_norms=True, train_bias=True)
    model, info = stock_model(family, folder / f"base-{family}")
    head = {key.rpartition(".")[0] for key in info["missing_keys"]}

    def body(names: set[str]) -> set[str]:
        return {n for n in names if n.rpartition(".")[0] not in head}

    owners = {name: type(m).__name__ for name, m in model.named_modules()}
    assert body(norms)
    assert {owners[n.rpartition(".")[0]] for n in body(norms)} <= {"LayerNorm", "BatchNorm2d"}
    assert body(biases)
    assert all(n.endswith(".bias") for n in body(biases))
    assert body(norms) | body(biases) <= body(both)
    assert not [n for n in both if "running_" in n]
    report = json.loads((folder / f"{family}-both" / "report.json").read_text())
    assert report["stages"][-1]["name"] == "norms and biases"


def test_init_head_random_leaves_the_probe_out(folder: Path) -> None:
    flags: dict[str, Any] = {"init_head": "random", "learning_rate": 1e-12}
    runs = [tiny_run("bert", "full", folder, f"random-{i}", seed=seed, **flags) for i, seed in enumerate((1, 1, 2))]
    runs.append(tiny_run("bert", "full", folder, "from-probe", seed=1, learning_rate=1e-12))
    assert [[s["name"] for s in r.report["stages"]] for r in runs] == [["full"]] * 3 + [["probe", "full"]]
    heads = [load_file(r.run_dir / "final" / "model.safetensors")["classifier.weight"] for r in runs]
    assert torch.allclose(heads[0], heads[1])
    assert not torch.allclose(heads[0], heads[2], atol=1e-3)
    assert not torch.allclose(heads[0], heads[3], atol=1e-3)


@pytest.mark.parametrize(
    ("method", "flags", "words"),
    [
        ("full", {"train_top": 4}, "more than the 3 blocks"),
        ("lora", {"train_top": 4}, "more than the 3 blocks"),
        ("gradual", {"thaw_to": 4}, "thaw the stem"),
        ("probe", {"train_top": 1}, "not for probe"),
        ("lora", {"train_norms": True}, "not for lora"),
        ("full", {"thaw_every": 1}, "not for full"),
        ("lora", {"layer_decay": 0.5}, "not for lora"),
        ("gradual", {"thaw_every": 1, "num_train_epochs": 3}, "give one"),
        ("probe", {"init_head": "random"}, "makes no sense"),
        ("full", {"train_top": 0}, "from 1"),
        ("full", {"class_weights": "heavy"}, "auto, balanced, none"),
    ],
)
def test_combinations_that_cannot_be(method: str, flags: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_run("bert", method, folder, "impossible", max_steps=-1, **flags)
    assert not list(folder.glob("impossible*"))


def test_shots(folder: Path) -> None:
    run = tiny_run("bert", "probe", folder, "shots", shots=3)
    assert run.report["data"]["rows"]["train"] == 9
    assert "3 rows of every class" in run.report["data"]["origins"]["train"]
    with pytest.raises(DataError, match=r"shots is 50.*'class_\d' has \d+ training rows"):
        tiny_run("bert", "probe", folder, "too-many", shots=50)
    assert not list(folder.glob("too-many*"))


def test_seeds_share_the_splits_and_report_their_spread(folder: Path) -> None:
    flags: dict[str, Any] = {"seeds": 3, "seed": 5, "learning_rate": 1e-2, "max_steps": 6}
    run = tiny_run("bert", "full", folder, "seeds", **flags)
    seeds = run.report["seeds"]
    assert seeds["seeds"] == [5, 6, 7]
    values = seeds["test"]["log_loss"]["values"]
    assert len(set(values)) == 3
    assert seeds["test"]["log_loss"]["mean"] == pytest.approx(np.mean(values))
    assert seeds["test"]["log_loss"]["std"] == pytest.approx(np.std(values, ddof=1))
    best = int(np.argmax(seeds["validation"]["macro_f1"]["values"]))
    assert seeds["kept"] == seeds["seeds"][best]
    assert run.report["metrics"]["test"]["log_loss"] == values[best]
    assert run.run_dir.joinpath("final", "model.safetensors").is_file()
    assert not list(folder.glob("seeds.*"))
    # Each is what a run of its own with that training seed gives: the splits are those of --seed.
    single = tiny_run("bert", "full", folder, "seed-5", **{**flags, "seeds": 1})
    assert single.report["metrics"]["test"]["log_loss"] == values[0]


def test_the_rows_of_a_kept_seed_can_be_drawn_again(folder: Path) -> None:
    """`--shots` draws by the seed of the training: the report names the one that was kept."""
    frame = text_frame(60)
    frame.to_csv(folder / "sixty.csv", index=False)
    flags: dict[str, Any] = {"data": str(folder / "sixty.csv"), "shots": 3, "learning_rate": 1e-2, "max_steps": 3}
    for seeds in (1, 2, 3):
        run = tiny_run("bert", "full", folder, f"kept-{seeds}", seeds=seeds, seed=5, **flags)
        kept = run.report["seeds"]["kept"] if seeds > 1 else 5
        assert run.report["seed"] == kept
        values = read_yaml(run.run_dir / "config.yaml")
        config = build_config(values.pop("task"), values)
        drawn = load_splits("text", config.data, kept).train["text"][:]
        assert run_splits(run.run_dir).train["text"][:] == drawn
        assert load_splits("text", config.data, kept + 1).train["text"][:] != drawn


def test_class_weights_move_the_probe_towards_the_rare_class(folder: Path) -> None:
    frame = text_frame(400)
    rare = pd.concat([frame[frame.label != "class_2"], frame[frame.label == "class_2"][:20]]).sample(
        frac=1, random_state=0
    )
    runs = {
        rule: tiny_run("bert", "probe", folder, f"weights-{rule}", data=rare, class_weights=rule, pooling="native")
        for rule in ("none", "balanced", "auto")
    }
    recall = {
        rule: next(row["recall"] for row in run.report["per_class"] if row["label"] == "class_2")
        for rule, run in runs.items()
    }
    assert recall["balanced"] >= recall["none"]
    assert recall["auto"] == recall["balanced"]
    assert any("weights are balanced" in w for w in runs["auto"].report["warnings"])
    losses = {rule: run.report["metrics"]["test"]["log_loss"] for rule, run in runs.items()}
    assert losses["balanced"] != losses["none"]
    even = tiny_run("bert", "probe", folder, "weights-even", class_weights="auto")
    assert any("weights are none" in w for w in even.report["warnings"])
