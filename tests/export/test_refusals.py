"""What export refuses, in one line, and what it leaves behind then: nothing."""

import inspect
import json
import sys

import pytest

from hftl.atomic import disk_errors, new_folder
from hftl.cli import VERBS, execute
from hftl.errors import HftlError, ModelError, RunError
from hftl.export import export
from hftl.export.export import check_output
from hftl.publishing.parity import ParityError
from tests.runs import tiny_run
from tests.tiny import build


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build("distilbert", tmp_path_factory.mktemp("refused") / "m", num_labels=2)


def one_line(error):
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs one run, model folder or Hub id"),
        (["a", "b"], "but got 2: a b"),
        (["{model}", "--format", "tflite"], "exports to onnx, not to 'tflite'"),
        (["{model}", "--max_drop", "0.1"], "--max_drop is for --int8"),
        (["{model}", "--int8", "--max_drop", "much"], "--max_drop.*valid number"),
        (["{model}", "--int8", "--max_drop", "nan"], "--max_drop nan is not a share"),
        (["{model}", "--int8", "--max_drop", "5"], "is not a share of accuracy"),
        (["{model}", "--quantize"], "has no flag --quantize"),
        (["{model}", "--output_dir", "{model}"], "exists already"),
        (["{model}", "--output_dir", "{model}", "--overwrite"], "is not an export of hftl"),
        (["{model}", "--output_dir", "{model}/config.json"], "is a file"),
        (["no/such/folder/here"], "There is no folder"),
    ],
)
def test_command_line(words, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HftlError, match=message) as error:
        execute(["export", *[word.replace("{model}", str(model)) for word in words]])
    one_line(error)
    assert list(tmp_path.iterdir()) == []
    assert {p.name for p in model.parent.iterdir()} == {"m"}


def test_every_flag_is_a_parameter():
    flags = {param.name for param in VERBS["export"].params}
    assert flags - {"model", "json"} == set(inspect.signature(export).parameters) - {"run_or_model"}


def test_missing_packages(model, monkeypatch):
    from hftl.export import graph

    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ModelError, match=r'needs onnxscript: pip install "onnx>=') as error:
        export(model)
    one_line(error)


def test_not_a_classifier(tmp_path):
    with pytest.raises(ModelError, match="not a trained classifier"):
        export(build("bert", tmp_path / "base"))
    assert {p.name for p in tmp_path.iterdir()} == {"base"}


def test_a_foreign_partial_folder_is_left_alone(model, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="in the way"):
        export(model, output_dir=tmp_path / "out")
    assert (tmp_path / "out.partial" / "thesis.txt").read_text() == "mine"


def test_an_export_that_answers_otherwise_is_not_kept(model, tmp_path, monkeypatch):
    module = sys.modules["hftl.export.export"]
    honest = module.torch_probabilities
    monkeypatch.setattr(module, "torch_probabilities", lambda *args: honest(*args) + 2e-4)
    with pytest.raises(ParityError, match=r"export is not the model .* 64 rows .* 0.0002 .* 0 labels") as error:
        export(model, output_dir=tmp_path / "out")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_overwrite_replaces_and_a_leftover_is_cleared(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / ".hftl-export").touch()
    (tmp_path / "out.partial" / "model.onnx").write_text("cut off")
    out.mkdir()
    (out / "export.json").write_text("{}")
    (out / "model_int8.onnx").write_text("old")
    check_output(out, overwrite=True)
    with new_folder(out, ".hftl-export") as work:
        assert (out / "model_int8.onnx").exists()  # until the new one is whole
        (work / "model.onnx").write_text("new")
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {"out", "out/model.onnx"}


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(RunError, match=r"out cannot be written: No space left on device") as error,
        disk_errors(tmp_path / "out"),
        new_folder(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    one_line(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_pooled_head(tmp_path, capsys):
    run = tiny_run("roberta", "probe", tmp_path, pooling="mean").run_dir
    execute(["export", str(run), "--json"])
    values = json.loads(capsys.readouterr().out)
    assert values["output_dir"] == str(run / "onnx")
    assert values["model"]["architecture"] == "MeanPooledForSequenceClassification"
    config = json.loads((run / "onnx" / "config.json").read_text())
    # transformers.js knows the graph by the encoder's stock class; there is no code to run
    assert config["model_type"] == "roberta"
    assert config["architectures"] == ["RobertaForSequenceClassification"]
    assert "auto_map" not in config
