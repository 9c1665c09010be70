"""int8: judged on validation rows, refused with the figures, calibrated where the model is a convolutional network."""

import numpy as np
import onnxruntime
import pytest

import hftl
from hftl.errors import DataError, ModelError
from hftl.export import export
from hftl.export.rows import run_predict
from hftl.export.timing import table
from hftl.run_data import run_splits
from tests.runs import split_folder, tiny_run
from tests.tiny import tiny_images


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8-text")
    data = split_folder(folder / "data", train=60, other=24)
    return tiny_run("bert", "lora", folder, data=str(data), max_steps=8, learning_rate=5e-3).run_dir


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8-image")
    data = tiny_images(folder / "data", per_class=20)
    return tiny_run("efficientnet", "full", folder, data=str(data), max_steps=4).run_dir


@pytest.fixture(scope="module")
def exports(text, image):
    return {run: export(run, int8=True, max_drop=1.0) for run in (text, image)}


def accuracy(run):
    """By hftl's own path, the temperature and all."""
    validation = run_splits(run).validation
    predictor = hftl.load(run)
    labels = [predictor.labels[i] for i in validation["label"][:]]
    got = [p.label for p in predictor.predict_table(validation)]
    return float(np.mean([a == b for a, b in zip(got, labels, strict=True)]))


@pytest.mark.slow
def test_merged_lora(exports, text):
    report = exports[text]
    assert report.output_dir == text / "onnx"
    assert report.values["parity"]["origin"] == "test rows of the run"
    int8 = report.values["int8"]
    assert int8["validation_rows"] == 24
    assert int8["accuracy_before"] == pytest.approx(accuracy(text))
    assert int8["drop"] == pytest.approx(int8["accuracy_before"] - int8["accuracy_after"])
    assert 0 < int8["max_difference"] < 0.3
    assert "dynamic" in int8["how"]
    assert set(report.values["latency"]["batches"]) == {"torch fp32", "onnx fp32", "onnx int8"}
    validation = run_splits(text).validation
    got = run_predict(text / "onnx", validation["text"][:], "model_int8.onnx")
    assert np.mean(got.argmax(-1) == np.array(validation["label"][:])) == pytest.approx(int8["accuracy_after"])


@pytest.mark.parametrize(
    ("int8", "heads"),
    [
        ({"score": "micro_f1", "accuracy_before": 0.41, "accuracy_after": 0.405}, ["model", "MB", "micro F1"]),
        (None, ["model", "MB", "p50 ms, 1"]),
    ],
)
def test_the_table_names_the_score_that_was_measured(int8, heads):
    times = {size: {"p50_ms": 1.0, "p95_ms": 2.0, "rows_per_second": 3.0} for size in ("1", "8", "32")}
    values = {"int8": int8, "model": {"parameters": 10}, "files": {"model.onnx": 40}}
    names, rows = table({**values, "latency": {"batches": dict.fromkeys(("torch fp32", "onnx fp32"), times)}})
    assert list(names[:3]) == heads
    assert {len(row) for row in rows} == {len(names)}
    assert rows[1][2] == ("0.4100" if int8 else "1.0")


def test_static_for_convolutions(exports, image):
    report = exports[image]
    int8 = report.values["int8"]
    assert "static" in int8["how"]
    assert int8["calibration_rows"] == len(run_splits(image).train)
    assert int8["accuracy_before"] == pytest.approx(accuracy(image))
    graph = onnxruntime.InferenceSession(str(image / "onnx" / "model_int8.onnx"))
    pixels = np.zeros((5, 3, 64, 96), dtype=np.float32)
    assert graph.run(["logits"], {"pixel_values": pixels})[0].shape == (5, 3)  # sizes stay free


def test_refused_with_the_figures_and_nothing_destroyed(exports, text):
    before = {p.name: p.read_bytes() for p in (text / "onnx").iterdir()}
    with pytest.raises(
        ModelError, match=r"int8 loses .* of the accuracy on 24 validation rows \(0\.\d{4} to "
    ) as error:
        export(text, int8=True, max_drop=-1.5, overwrite=True)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    assert {p.name: p.read_bytes() for p in (text / "onnx").iterdir()} == before
    assert not list(text.glob("onnx.*"))


@pytest.mark.slow
def test_nothing_is_left_of_a_refused_first_export(exports, text, tmp_path):
    with pytest.raises(ModelError, match="more than --max_drop"):
        export(text, int8=True, max_drop=-1.5, output_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_rows(exports, text, tmp_path):
    with pytest.raises(DataError, match=r"does not say what it was trained on.* Name them with --data"):
        export(_alone(text, tmp_path), int8=True, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_data_for_a_model_folder(exports, text, tmp_path):
    data = str(text.parent / "data")
    report = export(_alone(text, tmp_path), int8=True, max_drop=1.0, data=data, output_dir=tmp_path / "out")
    assert report.values["int8"]["accuracy_before"] == exports[text].values["int8"]["accuracy_before"]
    assert report.values["parity"]["origin"] == "test rows of --data"


def test_data_with_other_labels(exports, text, tmp_path):
    data = tmp_path / "other.csv"
    data.write_text("text,label\n" + "".join(f"words {i} here,{'xy'[i % 2]}\n" for i in range(40)))
    with pytest.raises(DataError, match="--int8 is judged on validation rows"):
        export(text, int8=True, data=str(data), output_dir=tmp_path / "out")


def _alone(run, tmp_path):
    """The model without its run."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (run / "final").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
