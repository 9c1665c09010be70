"""What is published: exactly these files, loadable by everyone, and nothing that tells of rows or of the machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from hftl.adapt import adapt
from hftl.config import build_config, read_yaml
from hftl.errors import ConfigError, ModelError, RunError
from hftl.predict import load
from hftl.publishing.bundle import build_bundle
from hftl.publishing.hub_repository import PushOptions
from hftl.publishing.public_report import public_config, public_report
from hftl.publishing.save import copy_file
from hftl.run_data import Artifact, open_artifact
from tests.hub.cards import card_problems
from tests.runs import SMALL, checkpoint, subprocess_env, text_frame, tiny_run
from tests.tiny import tiny_images


TEXT_FILES = {"README.md", "config.json", "config.yaml", "model.safetensors", "report.json", "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
IMAGE_FILES = {
    "README.md",
    "config.json",
    "config.yaml",
    "model.safetensors",
    "preprocessor_config.json",
    "report.json",
}
PICTURES = {"confusion.png", "ladder.png"}  # of a run with its evidence
ADAPTER = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
MIT = PushOptions("run", "someone/model", license="mit", online=False)


def private(folder: Path) -> Path:
    place = folder / "home-of-alice"
    place.mkdir()
    return place


@pytest.fixture(scope="module")
def text_run(tmp_path_factory) -> Artifact:
    """LoRA with the whole evidence, on a file that has a column to slice by, under folders that nobody shall see."""
    folder = private(tmp_path_factory.mktemp("text"))
    frame = text_frame(80)
    frame["customer"] = [f"Customer {i % 3} Ltd" for i in range(len(frame))]
    frame.to_csv(folder / "tickets.csv", index=False)
    text_frame(40, seed=1).to_csv(folder / "kept.csv", index=False)
    adapt(
        "text-classification", data=str(folder / "tickets.csv"), model=str(checkpoint("bert", folder)), method="lora",
        output_dir=folder / "run", slice_column="customer", retain=str(folder / "kept.csv"), run_name="alice",
        **{**SMALL, "evidence": True, "max_steps": 2},
    )  # fmt: skip
    return open_artifact(folder / "run")


@pytest.fixture(scope="module")
def image_run(tmp_path_factory) -> Artifact:
    """A folder of images with names of their own, one of them broken."""
    folder = private(tmp_path_factory.mktemp("images"))
    images = tiny_images(folder / "party", per_class=8)
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        path.rename(path.with_name(f"secret party {number}.png"))
    (images / "class_0" / "secret party broken.png").write_bytes(b"no image")
    return open_artifact(tiny_run("resnet", "full", folder, data=str(images)).run_dir)


@pytest.fixture(scope="module")
def pooled_run(tmp_path_factory) -> Artifact:
    folder = private(tmp_path_factory.mktemp("pooled"))
    return open_artifact(tiny_run("bert", "probe", folder, pooling="mean").run_dir)


def on_hub(artifact: Artifact, name: str = "tiny/bert") -> Artifact:
    """The same run, had its base model been on the Hub."""
    report = json.loads(json.dumps(artifact.report))
    report["model"] |= {"name": name, "source": "hub", "revision": None}
    return replace(artifact, report=report)


def test_every_file_and_no_other(text_run, image_run, pooled_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(text_run.run, run)
    (run / "baseline").mkdir(exist_ok=True)
    for folder in (run, run / "final", run / "baseline"):  # strays that must not be published
        for stray in ("training_args.bin", ".secret", "notes.md", "notes.txt", "rows.json", "optimizer.pt"):
            (folder / stray).write_bytes(b"x")
    (run / "final" / "adapter_config.json").write_text("{}")
    found = build_bundle(open_artifact(run), tmp_path / "text", MIT)
    assert set(found.files) == TEXT_FILES | ADAPTER | PICTURES
    assert set(build_bundle(image_run, tmp_path / "image", MIT).files) == IMAGE_FILES
    assert set(build_bundle(pooled_run, tmp_path / "pooled", MIT).files) == TEXT_FILES | {"modeling_pooled.py"}
    assert found.files == tuple(
        sorted(p.relative_to(tmp_path / "text").as_posix() for p in (tmp_path / "text").rglob("*") if p.is_file())
    )
    assert found.public_rows == ()
    assert found.base is None
    assert found.license.id == "mit"
    assert card_problems(found.card, "model") == ([], [])
    assert found.card == (tmp_path / "text" / "README.md").read_text(encoding="utf-8")


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_row_no_name_and_no_place_is_published(text_run, image_run, pooled_run, tmp_path):
    texts = pd.read_csv(text_run.run.parent / "tickets.csv")["text"].tolist()
    secrets = [
        *texts,
        "Customer",
        "alice",
        "Ltd",
        *text_frame(40)["text"],
        "secret party",
        str(tmp_path),
        str(Path.home()) + "/",
    ]
    for name, artifact in (("text", text_run), ("image", image_run), ("pooled", pooled_run)):
        build_bundle(artifact, tmp_path / name, MIT)
        for file, content in everything(tmp_path / name).items():
            told = [secret for secret in secrets if secret.encode() in content]
            assert not told, (name, file, told)
            assert not re.search(rb"hf_[A-Za-z0-9]{20,}", content)


def test_the_report_keeps_its_figures(text_run, tmp_path):
    build_bundle(text_run, tmp_path / "bundle", MIT)
    shown = json.loads((tmp_path / "bundle" / "report.json").read_text())
    full = text_run.report
    for same in (
        "schema_version",
        "task",
        "method",
        "metrics",
        "per_class",
        "seed",
        "stages",
        "timing",
        "environment",
    ):
        assert shown[same] == full[same]
    verdict = dict(full["evidence"]["verdict"])
    assert verdict.pop("advice")  # is for who trained it
    assert shown["evidence"]["verdict"] == verdict
    for same in ("calibration", "abstain", "confusion", "worst_rows", "suspects", "seconds"):
        assert shown["evidence"][same] == full["evidence"][same]
    assert {s["by"] for s in full["evidence"]["slices"]} == {"text length", "customer"}
    assert shown["evidence"]["slices"] == [s for s in full["evidence"]["slices"] if s["by"] == "text length"]
    assert shown["evidence"]["ladder"][-1]["name"] == "lora (base-bert)"
    assert shown["evidence"]["forgetting"]["retention"] == "local data"
    assert shown["evidence"]["forgetting"]["definition"] == full["evidence"]["forgetting"]["definition"]
    assert (shown["model"]["name"], shown["data"]["name"]) == ("base-bert", "local data")
    assert {f["fix"] for f in shown["evidence"]["doctor"]} == {""}
    assert shown["parity"] == full["parity"]


def test_skipped_images_are_counted_not_named(image_run):
    assert len(image_run.report["data"]["skipped"]) == 1
    shown = public_report(image_run.report)
    assert (shown["data"]["skipped"], shown["data"]["skipped_count"]) == ([], 1)
    assert "broken images" not in str(shown["warnings"])


def test_config_can_be_read_by_whoever_repeats_the_run(text_run, image_run, tmp_path):
    for name, artifact in (("text", text_run), ("image", image_run)):
        build_bundle(artifact, tmp_path / name, MIT)
        values = read_yaml(tmp_path / name / "config.yaml")
        config = build_config(values.pop("task"), values)
        original = read_yaml(artifact.run / "config.yaml")
        place = Path(original["data"])
        assert config.data.data == ("local data" if place.suffix else place.name)
        assert config.model.model == Path(original["model"]).name
        assert config.training["max_steps"] == 2
        assert "run_name" not in values
        assert "output_dir" not in values
        assert not {name for name in values if name.endswith("_column")}  # names out of the user's own table
        assert config.method.method == original["method"]


@pytest.mark.parametrize(
    ("typed", "reported", "public"),
    [
        ("/home/alice/tickets.csv", "tickets.csv", "local data"),
        ("data/tickets.csv", "tickets.csv", "local data"),
        ("~/tickets", "tickets", "tickets"),
        ("sample:digits", "sample:digits", "sample:digits"),
        ("ns/data:small@v1", "ns/data:small@v1", "ns/data:small@v1"),
        ("(in memory: DataFrame)", "a DataFrame", "(in memory: DataFrame)"),
    ],
)
def test_places_in_the_config(text_run, typed, reported, public):
    report = json.loads(json.dumps(text_run.report))
    report["data"]["name"] = reported
    report["evidence"]["forgetting"]["retention"] = reported
    config = {"task": "text-classification", "data": typed, "retain": typed, "deepspeed": "/home/alice/ds.json"}
    shown = public_config(config, report)
    assert shown == {"task": "text-classification", "data": public, "retain": public}


def test_no_name_of_a_data_file(text_run, tmp_path):
    build_bundle(text_run, tmp_path / "bundle", MIT)
    for path in (p for p in (tmp_path / "bundle").rglob("*") if p.is_file()):
        assert not {name for name in (b"tickets", b"kept.csv") if name in path.read_bytes()}, path


def test_weights_are_those_of_the_run(text_run, tmp_path):
    build_bundle(text_run, tmp_path / "bundle", MIT)
    shown, own = load_file(tmp_path / "bundle" / "model.safetensors"), load_file(text_run.folder / "model.safetensors")
    assert shown.keys() == own.keys()
    assert all(torch.equal(shown[name], own[name]) for name in own)
    text = text_frame(40)["text"][0]
    assert load(tmp_path / "bundle").predict([text]) == load(text_run.run).predict([text])


def test_a_bundle_is_an_artifact_of_its_own(text_run, tmp_path):
    """Downloaded again it can be published again, and says the same."""
    build_bundle(text_run, tmp_path / "first", MIT)
    again = open_artifact(tmp_path / "first")
    found = build_bundle(again, tmp_path / "second", MIT)
    assert set(found.files) == TEXT_FILES | ADAPTER | PICTURES
    for name in ("report.json", "config.yaml", "config.json"):
        assert (tmp_path / "second" / name).read_text() == (tmp_path / "first" / name).read_text()


def snippets(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run_code(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=cwd, env=subprocess_env(PYTHONWARNINGS="ignore"), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_code_of_the_card_runs_as_it_stands(text_run, tmp_path):
    """Every block, with only the repository in reach: its labels and scores are those of the run."""
    text = text_frame(40)["text"][0]
    artifact = on_hub(text_run)
    build = {
        name: replace(MIT, repo_id=f"someone/{name}", adapter_only=name == "alone") for name in ("whole", "alone")
    }
    cards = {
        name: build_bundle(artifact, tmp_path / "someone" / name, options).card for name, options in build.items()
    }
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "bert").symlink_to(checkpoint("bert", text_run.run.parent))
    codes = [*snippets(cards["whole"]), *snippets(cards["alone"])]
    assert len(codes) == 4
    assert ["hftl" in code for code in codes] == [False, True, False, False]
    expected = load(text_run.run).predict([text])[0]
    joined = "\n".join(code.replace('"a text"', repr(text)) for code in codes)
    lines = run_code(joined, tmp_path).strip().splitlines()
    answers = [re.search(r"(?:'label': |label=)'(\w+)'.*?(?:score'?: |probability=)([\d.]+)", line) for line in lines]
    assert len(answers) == 4
    for found in answers:
        assert found is not None
        assert found[1] == expected.label
        assert float(found[2]) == pytest.approx(expected.probability, abs=1e-5)


def test_an_adapter_alone(text_run, tmp_path):
    found = build_bundle(on_hub(text_run), tmp_path / "alone", replace(MIT, adapter_only=True))
    assert set(found.files) == (TEXT_FILES - {"model.safetensors"}) | PICTURES | {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    fields = json.loads((tmp_path / "alone" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == "tiny/bert"
    assert found.base == ("tiny/bert", None)
    labels = json.loads((tmp_path / "alone" / "config.json").read_text())["id2label"]
    assert list(labels.values()) == text_run.report["data"]["labels"]


def test_an_adapter_that_nobody_could_load_is_refused(text_run, image_run, tmp_path):
    alone = replace(MIT, adapter_only=True)
    with pytest.raises(ConfigError, match="base-bert is not on the Hub") as caught:
        build_bundle(text_run, tmp_path / "a", alone)
    assert "alice" not in str(caught.value)
    with pytest.raises(ConfigError, match="--adapter_only is for runs of --method lora"):
        build_bundle(image_run, tmp_path / "b", alone)


@pytest.mark.parametrize(("file", "model_type"), [("final", "hftl_pooled_image"), ("base", "siglip_vision_model")])
def test_an_adapter_that_plain_transformers_cannot_build_on_is_refused(
    text_run, tmp_path, monkeypatch, file, model_type
):
    """A class of hftl's own, or a body that transformers makes no classifier of: nobody could load the adapter."""
    copy = open_artifact(shutil.copytree(text_run.run, tmp_path / "run"))
    base = shutil.copy(copy.folder / "config.json", tmp_path / "config.json")
    path = copy.folder / "config.json" if file == "final" else Path(base)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": model_type}))
    monkeypatch.setattr("hftl.publishing.bundle.try_to_load_from_cache", lambda *_, **__: str(base))
    with pytest.raises(
        ConfigError, match=r"Plain transformers has no class .* on tiny/bert by itself: leave out"
    ) as caught:
        build_bundle(on_hub(copy), tmp_path / "alone", replace(MIT, adapter_only=True))
    assert "\n" not in str(caught.value)


def test_text_examples_become_public_only_when_asked_for(text_run, tmp_path):
    found = build_bundle(text_run, tmp_path / "bundle", replace(MIT, include_examples=2))
    assert len(found.public_rows) == 2
    test = {" ".join(t.split()) for t in pd.read_csv(text_run.run.parent / "tickets.csv")["text"]}
    for line in found.public_rows:
        label, _, text = line.partition(": ")
        assert text in test
        assert label.startswith("class_")
        assert text in found.card
    assert len(yaml.safe_load(found.card.split("\n---\n")[0].removeprefix("---\n"))["widget"]) == 2
    assert card_problems(found.card, "model") == ([], [])


def test_image_examples_are_pixels_alone(image_run, tmp_path):
    found = build_bundle(image_run, tmp_path / "bundle", replace(MIT, include_examples=2))
    assert set(found.files) == IMAGE_FILES | {"examples/1.png", "examples/2.png"}
    assert "![example 1](examples/1.png)" in found.card
    assert [line.partition(": ")[2] for line in found.public_rows] == [
        f"examples/{i}.png, 48 x 48 pixels" for i in (1, 2)
    ]
    with Image.open(tmp_path / "bundle" / "examples" / "1.png") as image:
        assert image.size == (48, 48)
        assert image.info == {}


@pytest.mark.parametrize("count", [-1])
def test_examples_that_cannot_be(text_run, tmp_path, count):
    with pytest.raises(ConfigError, match="--include_examples"):
        build_bundle(text_run, tmp_path / "bundle", replace(MIT, include_examples=count))
    with pytest.raises(ConfigError, match="needs the run folder"):
        build_bundle(replace(text_run, run=None), tmp_path / "other", replace(MIT, include_examples=1))


def test_what_is_refused(text_run, tmp_path):
    with pytest.raises(RunError, match=r"no report\.json of hftl"):
        build_bundle(replace(text_run, report=None), tmp_path / "a", MIT)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        build_bundle(text_run, tmp_path / "full", MIT)
    with pytest.raises(
        ConfigError, match=r"base model base-bert and the data tickets.csv is not known: add --license"
    ):
        build_bundle(text_run, tmp_path / "b", replace(MIT, license=None))
    assert not (tmp_path / "b").exists()  # nothing is written before the licence is settled
    run = shutil.copytree(text_run.run, tmp_path / "half")  # a copy that was cut off
    (run / "final" / "model.safetensors").unlink()
    with pytest.raises(RunError, match="has no weights"):
        build_bundle(open_artifact(run), tmp_path / "c", MIT)
    (run / "final" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1-of-2.safetensors"}}')
    with pytest.raises(ModelError, match="does not hold"):
        open_artifact(run)


def test_the_card_beside_a_saved_model(text_run, image_run):
    for artifact in (text_run, image_run):
        card = (artifact.folder / "README.md").read_text(encoding="utf-8")
        assert card_problems(card, "model") == ([], [])
        assert "alice" not in card
        assert "hftl train ../config.yaml --data DATA --model MODEL" in card
    assert "Whether pretraining helped is not known" in card


def test_links_are_used_where_they_can_be(text_run, tmp_path, monkeypatch):
    build_bundle(text_run, tmp_path / "linked", MIT)
    weights = text_run.folder / "model.safetensors"
    assert (tmp_path / "linked" / "model.safetensors").samefile(weights)

    def other_file_system(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_file_system)
    build_bundle(text_run, tmp_path / "copied", MIT)
    copied = tmp_path / "copied" / "model.safetensors"
    assert not copied.samefile(weights)
    assert copied.read_bytes() == weights.read_bytes()


def test_weights_that_may_not_be_read(tmp_path, monkeypatch):
    """A hard link of them is made all the same, and whoever reads it fails."""
    (tmp_path / "model.safetensors").write_bytes(b"x")
    monkeypatch.setattr("hftl.publishing.save.os.access", lambda *_: False)
    with pytest.raises(RunError, match="cannot be read: you have no permission"):
        copy_file(tmp_path / "model.safetensors", tmp_path / "copy.safetensors")
    assert not (tmp_path / "copy.safetensors").exists()
