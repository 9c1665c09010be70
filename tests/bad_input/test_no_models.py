"""Names and values that no model, task or row can have, and files that may not be read."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import hftl
from hftl.adapt import adapt
from hftl.errors import DataError, HftlError
from tests.bad_input.refusals import check
from tests.command import environment
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


@pytest.mark.parametrize("task", [None, 5, "", "nosuch", ["text-classification"]], ids=repr)
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
    """In a process of its own, which gives up the rights of root: the cause is the permission, and no pickle is advised."""
    names = ("model.safetensors", "config.json", "tokenizer.json", ".")
    shut = []
    for name in names:
        folder = Path(shutil.copytree(good / "tuned-text", tmp_path / f"shut-{name.strip('.')}"))
        shut.append(folder / name)
        shut[-1].chmod(0)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *(str(tmp_path / f"shut-{n.strip('.')}") for n in names)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    for path in shut:
        path.chmod(0o700)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(names), done.stderr
    for line in lines:
        assert "permission" in line, line
        assert "pickle" not in line, line


_AS_NOBODY = """
import os, sys
import hftl
from hftl.config import ModelConfig
from hftl.models.load import load_model
from hftl.tasks import get_task
task = get_task("text-classification")
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for folder in sys.argv[1:]:
    for read in (hftl.load, lambda name: load_model(task, ModelConfig(model=name), ("a", "b"))):
        try:
            read(folder)
            print("read it")
        except hftl.HftlError as error:
            print(error)
"""
