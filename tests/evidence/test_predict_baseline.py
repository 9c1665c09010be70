"""`hftl predict RUN/baseline`: the answers are those of the baseline that the run was compared with."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from scipy.special import softmax

from hftl.config import DataConfig
from hftl.data.load import load_splits
from hftl.evaluation.baselines import CLASS, constant_baseline
from hftl.evaluation.saved_baseline import is_baseline, load_baseline, save_baseline
from hftl.evidence.ladder import Rows, no_pretraining_baselines
from hftl.predict import load, load_predictor
from hftl.tasks import TASKS
from tests.command import hftl
from tests.runs import text_frame, tiny_run
from tests.small_data import encoded_texts


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the one part that is needed."""
    folder = tmp_path_factory.mktemp("text")
    frame = text_frame(90)
    rows = Dataset.from_dict({"text": list(frame["text"]), "label": [int(label[-1]) for label in frame["label"]]})

    both = Rows(rows, encoded_texts([[1]] * 90, np.asarray(rows["label"][:])))
    made = no_pretraining_baselines(TASKS["text-classification"], both, both)
    save_baseline(made[-1], folder / "baseline", ["a", "b", "c", "unseen"])
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Any]]:
    """A real run of images with its baselines, the splits, and what the baselines said of the test rows."""
    folder = tmp_path_factory.mktemp("images")
    run = tiny_run("resnet", "probe", folder).run_dir
    task = TASKS["image-classification"]
    splits = load_splits("image", DataConfig(data=str(folder / "images")))
    processor = load(run).processor
    parts = [Rows(table, task.encode(table, processor)) for table in (splits.train, splits.test)]
    made = no_pretraining_baselines(task, *parts)
    for baseline, name in zip(made, ("majority", "histogram", "pixels"), strict=True):
        save_baseline(baseline, run / name, splits.labels)
    return run, splits, made


def test_texts(text, capsys):
    words = text_frame(20, seed=3)["text"].tolist()
    done = hftl(capsys, "predict", "--json", text / "baseline", *words)
    assert (done.code, done.err) == (0, "")
    saved = load_baseline(text / "baseline")
    expected = softmax(saved.outputs(words), axis=1)
    assert [row["prediction"] for row in done.json] == [saved.labels[i] for i in saved.predict(words)]
    found = np.array([[row["probabilities"][name] for name in saved.labels] for row in done.json])
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[:, 3].max() < 1e-30  # no training row had that label


def test_files_of_texts(text, capsys, tmp_path):
    frame = text_frame(20, seed=3)
    frame.to_csv(tmp_path / "new.csv", index=False)
    done = hftl(capsys, "predict", text / "baseline", "--data", tmp_path / "new.csv", "--output", tmp_path / "out.csv")
    assert (done.code, done.out) == (0, "")
    saved = load_baseline(text / "baseline")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    said = [line.split(",")[-3] for line in lines[1:]]
    assert said == [saved.labels[i] for i in saved.predict(frame["text"].tolist())]


@pytest.mark.parametrize(("place", "name"), [(0, "majority"), (1, "histogram"), (2, "pixels")])
def test_images(place, name, images, capsys):
    run, splits, made = images
    assert is_baseline(run / name)
    done = hftl(capsys, "predict", run / name, "--json", *[value["path"] for value in splits.test["image"][:]])
    assert (done.code, done.err) == (0, "")
    assert [row["prediction"] for row in done.json] == [splits.labels[i] for i in made[place].predictions]


def test_images_without_the_run(images, capsys, tmp_path):
    run, splits, _ = images
    shutil.copytree(run / "pixels", tmp_path / "lost" / "baseline")
    done = hftl(capsys, "predict", tmp_path / "lost" / "baseline", splits.test["image"][0]["path"])
    assert done.code == 2
    assert "lost/final does, which cannot be read" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_what_is_no_baseline_or_a_damaged_one(text, images, capsys, tmp_path):
    assert not is_baseline(images[0] / "final")
    assert not is_baseline(images[0])
    assert not is_baseline(tmp_path)
    shutil.copytree(text / "baseline", tmp_path / "baseline")
    (tmp_path / "baseline" / "model.safetensors").unlink()
    done = hftl(capsys, "predict", tmp_path / "baseline", "a text")
    assert done.code == 2
    assert "model.safetensors is missing" in done.err


def test_the_majority_class_alone(tmp_path):
    save_baseline(constant_baseline(CLASS, np.array([0, 1, 1]), range(1)), tmp_path / "baseline", ["a", "b"])
    assert load_predictor(tmp_path / "baseline").predict(["any text"])[0].label == "b"
    (tmp_path / "report.json").write_text(json.dumps({"schema_version": 1, "task": "image-classification"}))
    assert load_predictor(tmp_path / "baseline").task.inputs.kind == "image"
