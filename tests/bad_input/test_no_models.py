"""Names and values that no model, task or row can have, and files that may not be read."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

import hftl
from hftl.adapt import adapt
from hftl.errors import DataError, HftlError
from tests.bad_input.refusals import as_nobody, check
from tests.command import hftl as command
from tests.tiny import build


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    build("bert", folder / "tuned-text", num_labels=2)
    build("vit", folder / "tuned-image", num_labels=2)
    return folder


@pytest.mark.parametrize("name", ["x" * 300, "~nouser/x", "a\0b"])
def test_names_that_no_folder_can_have(capsys, place, name):
    words = ["--data", place / "t.csv", "--output_dir", "out"]
    check(command(capsys, "train", "text-classification", "--model", name, *words), "cannot be the name of a file")
    check(command(capsys, "predict", name, "some day"), "cannot be the name of a file")


@pytest.mark.parametrize("model", [object(), 5, "", Path("nowhere"), b"x", ["x"]], ids=lambda m: type(m).__name__)
def test_models_that_are_none(place, model):
    with pytest.raises(HftlError):
        adapt("text-classification", data=place / "t.csv", model=model, use_cpu=True, output_dir="out")
    with pytest.raises(HftlError):
        hftl.load(model)
    assert not Path("out").exists()


@pytest.mark.parametrize("task", [5, "", "nosuch", ["text-classification"]], ids=repr)
def test_tasks_that_are_none(place, task):
    with pytest.raises(HftlError):
        adapt(task, data=place / "t.csv", model=place / "bert", use_cpu=True, output_dir="out")


@pytest.mark.parametrize("rows", [None, 5, b"x", {"a": 1}, ["\ud800"], [None], [5], [["a"]]], ids=ascii)
def test_texts_that_are_none(good, rows):
    with pytest.raises(DataError):
        hftl.load(good / "tuned-text").predict(rows)


@pytest.mark.parametrize(
    "row", [None, 5, b"x", "y" * 5000, "a\0b", ".", Image.new("RGB", (0, 0))], ids=lambda r: ascii(r)[:20]
)
def test_images_that_are_none(good, row):
    with pytest.raises(HftlError):
        hftl.load(good / "tuned-image").predict([row])


# What may not be read


def test_files_that_may_not_be_read(good, tmp_path):
    """The cause is the permission, and no pickle is advised."""
    shut = []
    for name in ("model.safetensors", "config.json", "tokenizer.json", "."):
        folder = Path(shutil.copytree(good / "tuned-text", tmp_path / f"shut-{name.strip('.')}"))
        shut.append(folder / name)
        shut[-1].chmod(0)
    folders = [tmp_path / path.relative_to(tmp_path).parts[0] for path in shut]
    lines = as_nobody(_READ_MODELS, tmp_path, *folders)
    for path in shut:
        path.chmod(0o700)
    assert len(lines) == 2 * len(shut)
    for line in lines:
        assert "permission" in line, line
        assert "pickle" not in line, line


_READ_MODELS = """
import sys
from functools import partial
import hftl.predict
from hftl.config import ModelConfig
from hftl.models.load import load_model
from hftl.tasks import get_task
task = get_task("text-classification")
def calls():
    for folder in sys.argv[1:]:
        yield partial(hftl.predict.load, folder)
        yield partial(load_model, task, ModelConfig(model=folder), ("a", "b"))
"""
