"""The recipes with their own default model and data, from a Hub on this machine; with `-m hub`, from the real one."""

import csv
import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import ROOT, Outcome, environment, shell
from tests.hub.datasets import EMOTION_NAMES, serve_image_dataset, serve_text_dataset
from tests.hub.server import HubServer
from tests.thin import thin
from tests.tiny import DEFAULT_IDS, build_default, tiny_image_rows, tiny_images, tiny_text_rows


TEXT_ID, VIT_ID, RESNET_ID = DEFAULT_IDS
SMALL = ["--max_train_samples", "24", "--max_eval_samples", "12", "--max_steps", "2", "--json"]
RECIPES = {
    "text_classification": (TEXT_ID, "dair-ai/emotion"),
    "image_classification": (VIT_ID, "AI-Lab-Makerere/beans"),
}
real_hub = pytest.mark.skipif(os.environ.get("HFTL_TEST_HUB") != "1", reason="HFTL_TEST_HUB=1 asks for the real Hub")


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("hub")
    for hub_id in DEFAULT_IDS:
        build_default(hub_id, root / "models" / hub_id)
    serve_text_dataset(root, "dair-ai/emotion", tiny_text_rows(240, 6))
    serve_image_dataset(root, "AI-Lab-Makerere/beans", tiny_image_rows(150, 3))
    server = HubServer(root).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """HF_HOME that the tests of this module share: the first of them downloads."""
    return tmp_path_factory.mktemp("home")


def online(hub: HubServer, home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in environment().items() if not k.startswith("HF_")}
    return {**kept, **hub.env(home), "HFTL_CACHE": str(home / "hftl"), **more}


def answer(done: Outcome, output: Path) -> dict:
    assert done.code == 0, done.err[-3000:]
    assert len(done.out.splitlines()) == 1, done.out
    assert (output / "final" / "model.safetensors").is_file()
    return done.json


@pytest.mark.parametrize("name", thin(RECIPES, ("text_classification",)))
def test_recipe_from_the_shell(hub, home, tmp_path, name):
    model, data = RECIPES[name]
    fresh = home / name
    words = ["-m", f"recipes.{name}", *SMALL, "--output_dir"]
    report = answer(shell([*words, tmp_path / "one"], ROOT, online(hub, fresh)), tmp_path / "one")
    assert report["model"]["name"] == model
    assert report["model"]["source"] == "hub"
    assert report["model"]["revision"] == hub.sha(model)
    assert data.split("/")[-1] in report["data"]["name"]
    assert report["data"]["rows"] == {"train": 24, "validation": 12, "test": 12}

    gone = {**online(hub, fresh), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    again = answer(shell([*words, tmp_path / "two", "--evidence", "off"], ROOT, gone), tmp_path / "two")
    assert again["model"]["source"] == "cache"
    assert again["model"]["revision"] == hub.sha(model)
    assert again["metrics"] == report["metrics"]


@pytest.mark.slow  # the shell test above does the same from the command line
@pytest.mark.parametrize("name", thin(RECIPES, ("image_classification",)))
def test_recipe_from_python(hub, home, tmp_path, name):
    code = (
        f"from recipes.{name} import run\n"
        f"result = run(max_train_samples=24, max_eval_samples=12, max_steps=2, output_dir={str(tmp_path / 'run')!r})\n"
        "assert result.report['method'] == ('lora' if 'text' in result.report['task'] else 'full')\n"
        "assert result.report['model']['revision'] and set(result.metrics) >= {'accuracy', 'macro_f1'}\n"
        "if 'text' in result.report['task']: assert result.predict(['i feel sad'])[0].label in result.report['data']['labels']\n"
    )
    done = shell(["-c", code], ROOT, online(hub, home))
    assert done.code == 0, done.err[-3000:]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["model"]["name"], report["model"]["revision"]) == (RECIPES[name][0], hub.sha(RECIPES[name][0]))


@pytest.mark.slow
def test_text_recipe_on_two_processes(hub, home, tmp_path):
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517", "-m"]
    words += ["recipes.text_classification", *SMALL, "--use_cpu", "--output_dir", str(tmp_path / "run")]
    report = answer(shell(words, ROOT, online(hub, home)), tmp_path / "run")
    assert report["environment"]["processes"] == 2
    assert report["data"]["labels"] == list(EMOTION_NAMES)
    assert not (tmp_path / "run.partial").exists()


@pytest.mark.slow
def test_resnet_head_on_five_classes(hub, home, tmp_path):
    """The classic: a new head of the data's size, and a body that has not moved, batch norm included."""
    names = ["ant", "bee", "cat", "dog", "eel"]
    tiny_images(tmp_path / "animals", per_class=12, classes=names)
    words = ["-m", "recipes.image_classification", "--model", RESNET_ID, "--method", "head", "--data", "animals"]
    env = online(hub, home, PYTHONPATH=str(ROOT))
    report = answer(shell([*words, "--output_dir", "run", "--json"], tmp_path, env), tmp_path / "run")
    assert report["data"]["labels"] == names
    assert report["model"]["revision"] == hub.sha(RESNET_ID)
    config = json.loads((tmp_path / "run/final/config.json").read_text())
    assert config["id2label"] == {str(i): name for i, name in enumerate(names)}
    before = load_file(hub.root / "models" / RESNET_ID / "model.safetensors")
    after = load_file(tmp_path / "run/final/model.safetensors")
    assert set(after) == set(before)
    assert any("running_mean" in name for name in after)
    for name, tensor in after.items():
        if name.startswith("classifier"):
            assert tensor.shape[0] == 5
        else:
            assert torch.equal(tensor, before[name]), name
    assert any(stage["name"] == "head" and stage["steps"] > 0 for stage in report["stages"])


@pytest.mark.parametrize(
    "name", [*RECIPES, *["image_segmentation", "multi_label", "regression", "text_pairs", "token_classification"]]
)
def test_help_of_the_recipes(capsys, name):
    with pytest.raises(SystemExit) as done:
        import_module(f"recipes.{name}").main(["--help"])
    assert done.value.code == 0
    assert "--learning_rate" in capsys.readouterr().out


def test_unknown_model_of_the_hub(hub, home, tmp_path):
    words = [
        "-m",
        "recipes.text_classification",
        "--model",
        "distilbert/distilbert-base-uncase",
        "--output_dir",
        "run",
    ]
    done = shell(words, tmp_path, online(hub, home, PYTHONPATH=str(ROOT)))
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    assert "There is no model" in done.err
    assert TEXT_ID in done.err
    assert not any(path.name.startswith("run") for path in tmp_path.iterdir())


def test_predict_with_a_model_of_the_hub(hub, home, tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], ["i feel sad"]])
    done = shell(
        ["-m", "hftl", "predict", TEXT_ID, "--data", "x.csv"], tmp_path, online(hub, home, PYTHONPATH=str(ROOT))
    )
    assert done.code == 2  # a masked language model: known by its config
    assert "not a trained classifier" in done.err


@pytest.mark.hub
@real_hub
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_on_the_real_hub(tmp_path, name):
    env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    words = ["-m", f"recipes.{name}", *SMALL, "--output_dir", tmp_path / "run"]
    report = answer(shell(words, ROOT, {**env, "HFTL_CACHE": str(tmp_path / "cache")}), tmp_path / "run")
    assert report["model"]["name"] == RECIPES[name][0]
    assert len(report["model"]["revision"]) == 40


@pytest.mark.hub
@real_hub
def test_resnet_head_on_the_real_hub(tmp_path):
    tiny_images(tmp_path / "animals", per_class=8, classes=5)
    env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    words = [
        "-m",
        "recipes.image_classification",
        "--model",
        RESNET_ID,
        "--method",
        "head",
        "--data",
        "animals",
        "--json",
    ]
    env |= {"PYTHONPATH": str(ROOT), "HFTL_CACHE": str(tmp_path / "cache")}
    report = answer(shell([*words, "--output_dir", "run"], tmp_path, env), tmp_path / "run")
    assert len(report["data"]["labels"]) == 5
