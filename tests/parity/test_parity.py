"""An artifact that is not the model is found out, by a process that has never seen hftl."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hftl.models.pooled import MeanPooledForSequenceClassification
from hftl.predict import load
from hftl.publishing.parity import TOLERANCE, ParityError, check_pushed, judge
from hftl.report.show import parity_rows
from hftl.run_data import Artifact, open_artifact
from tests.runs import checkpoint, split_folder, text_frame, tiny_run
from tests.tiny import tiny_images


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    data = str(split_folder(folder / "data", 40, 70))
    return tiny_run("bert", "lora", folder, data=data, evidence=True).run_dir


def check_folder(artifact):
    return check_pushed(artifact, str(artifact.folder), None)


@pytest.fixture
def copied(text, tmp_path) -> Artifact:
    return open_artifact(shutil.copytree(text, tmp_path / "run"))


def test_every_run_is_checked(text):
    report = json.loads((text / "report.json").read_text())
    found = report["parity"]["final"]
    assert (found["rows"], found["origin"], found["labels_equal"]) == (64, "test rows of the run", True)
    assert 0 <= found["max_difference"] < TOLERANCE
    assert found["note"] == ""
    ((where, said),) = parity_rows({"final": found}, report)
    assert where == "parity of final"
    assert "64 rows (test rows of the run): the same labels" in said


def test_mean_pooled_head(tmp_path):
    run = tiny_run("distilbert", "probe", tmp_path, pooling="mean", data=str(split_folder(tmp_path / "data", 40)))
    assert isinstance(load(run.run_dir).model, MeanPooledForSequenceClassification)
    found = check_folder(open_artifact(run.run_dir))
    assert found["labels_equal"] is True
    assert found["rows"] == 12


def test_images(tmp_path):
    data = str(tiny_images(tmp_path / "images", per_class=20))
    run = tiny_run("resnet", "head", tmp_path, data=data)
    found = check_folder(open_artifact(run.run_dir / "final"))
    assert found["labels_equal"] is True
    assert found["rows"] == len(json.loads((run.run_dir / "report.json").read_text())["data"]["labels"]) * 4


def test_an_adapter_of_several_labels(tmp_path):
    """It is put on its base with the labels beside it, which config.json says are several."""
    data = text_frame(60).assign(
        label=lambda frame: [f"{one}|even" if i % 2 else one for i, one in enumerate(frame.label)]
    )
    data.to_csv(tmp_path / "rows.csv", index=False)
    run = tiny_run("bert", "lora", tmp_path, data=str(tmp_path / "rows.csv"), label_separator="|").run_dir
    alone = shutil.copytree(run / "final", tmp_path / "alone", ignore=shutil.ignore_patterns("model.safetensors"))
    shutil.copytree(run / "adapter", alone, dirs_exist_ok=True)
    found = check_pushed(open_artifact(run), str(alone), None, adapter_of=(str(checkpoint("bert", tmp_path)), None))
    assert found["labels_equal"] is True
    assert found["max_difference"] < TOLERANCE


def test_other_weights_are_found_out(copied):
    weights = copied.folder / "model.safetensors"
    expected = load(copied.folder)
    tensors = load_file(weights)
    name = next(n for n in tensors if n.endswith("query.weight"))
    tensors[name] += 0.05 * torch.randn_like(tensors[name])

    def answers_of_the_old_weights(*_args, **_options):
        return expected

    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hftl.publishing.parity.load", answers_of_the_old_weights)
        with pytest.raises(ParityError, match="is not the model that was trained: on 64 rows"):
            check_folder(copied)


def test_what_needs_hftl_is_no_artifact(copied):
    expected = load(copied.folder)
    config = json.loads((copied.folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    config["model_type"] = "hftl_mean_pooled"  # so that its code may run
    (copied.folder / "config.json").write_text(json.dumps(config))
    (copied.folder / "own.py").write_text("import hftl\n\nclass Own:\n    pass\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hftl.publishing.parity.load", lambda _: expected)
        with pytest.raises(ParityError, match="without hftl: ImportError: the artifact needs hftl"):
            check_folder(copied)


def test_killed_process_is_no_verdict(copied, monkeypatch, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr("hftl.publishing.fresh_process.__file__", os.fspath(script))
    found = check_folder(copied)
    assert found["labels_equal"] is None
    assert "signal 9" in found["note"]
    assert parity_rows({"final": found}, copied.report)[0][1] == found["note"]


@pytest.mark.parametrize(
    ("change", "wrong"), [(2e-4, "0 labels"), (np.nan, "labels"), (0.5, "1 labels")], ids=["small", "nan", "label"]
)
def test_judge_finds_the_difference(change, wrong):
    expected = np.array([[0.6, 0.4], [0.2, 0.8]])
    found = expected.copy()
    found[1] += [change, -change]
    with pytest.raises(ParityError, match=wrong):
        judge(found, expected, "rows", "x", time.perf_counter())


def test_judge_takes_a_tie_for_equal():
    expected = np.array([[0.500001, 0.499999]])
    assert judge(expected[:, ::-1], expected, "rows", "x", time.perf_counter())["labels_equal"] is True
