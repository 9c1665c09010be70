"""predict.py of an export: what it prints, what it refuses, and that it needs neither torch nor hftl."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

import hftl
from hftl.data.images import decode_image
from hftl.export import export
from tests.runs import subprocess_env
from tests.tiny import MAX_LENGTH, build, tiny_image


LABELS = {0: "plain", 1: "with\ttab", 2: "日本語"}
TEXTS = ["i feel happy today", "", "sad " * 300, "Ünïcode ✓ [SEP] x", "-5 degrees"]

# Runs predict.py as a script where the heavy packages cannot be imported at all.
BLOCKED = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "hftl", "datasets", "onnx", "onnxscript", "scipy", *EXTRA}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder, *words, extra=()):
    code = f"EXTRA = {set(extra)!r}\n{BLOCKED}" if extra else f"EXTRA = ()\n{BLOCKED}"
    words = [sys.executable, "-B", "-c", code, str(folder / "predict.py"), *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, env=subprocess_env(), check=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = build("bert", tmp_path_factory.mktemp("text") / "bert", num_labels=3, id2label=LABELS)
    export(folder)
    return folder, folder.with_name("bert-onnx")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = build("efficientnet", tmp_path_factory.mktemp("image") / "net", num_labels=3, id2label=LABELS)
    export(folder)
    return folder, folder.with_name("net-onnx")


def printed(process):
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return [tuple(line.split("\t")) for line in process.stdout.splitlines()]


def expected(predictions):
    return [(p.label.replace("\t", " "), f"{p.probability:.4f}") for p in predictions]


def test_texts(text):
    model, out = text
    wanted = expected(hftl.load(model).predict(TEXTS))
    assert printed(run(out, "--", *TEXTS, extra=["PIL"])) == wanted
    assert printed(run(out, TEXTS[0], "--model", "model.onnx")) == wanted[:1]


def test_images(image, tmp_path):
    model, out = image
    paths = [tmp_path / "a b.png", tmp_path / "c.jpg"]
    for i, path in enumerate(paths):
        tiny_image(i, 3, 50 + 7 * i, np.random.default_rng(i)).save(path)
    assert printed(run(out, *paths, extra=["tokenizers"])) == expected(hftl.load(model).predict(paths))


def strange_images(folder):
    """Every mode that a file may have, each with more than one grey level."""
    base = tiny_image(1, 3, 60, np.random.default_rng(5)).crop((0, 0, 60, 41))
    grey = np.asarray(base.convert("L"))
    for mode in ("L", "LA", "RGBA", "P", "1", "CMYK"):
        path = folder / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        base.convert(mode).save(path)
        yield path
    for name, pixels in (("deep", grey.astype(np.uint16) * 257), ("deep32", grey.astype(np.int32) * 200)):
        path = folder / f"{name}.tif"
        Image.fromarray(pixels).save(path)
        yield path
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    base.save(folder / "turned.jpg", exif=exif)
    yield folder / "turned.jpg"
    Image.fromarray(np.asarray(base)[:1, :3]).save(folder / "three-pixels.png")
    yield folder / "three-pixels.png"


def test_strange_images_are_read_as_hftl_reads_them(image, tmp_path):
    model, out = image
    spec = importlib.util.spec_from_file_location("predict", out / "predict.py")
    predict = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(predict)
    processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    for path in strange_images(tmp_path):
        pixels = next(predict.image_feeds([path], predict.config()["preprocessing"]))["pixel_values"]
        assert np.ptp(pixels) > 0.5, path  # something is on it
        wanted = np.asarray(processor([decode_image(str(path))])["pixel_values"])
        np.testing.assert_allclose(pixels, wanted, atol=1e-4, err_msg=str(path))


@pytest.mark.parametrize("words", [(), ("a", "--model", "nothing.onnx"), ("a", "--modle", "x"), (b"\xff",)])
def test_wrong_text_input(text, words):
    _, out = text
    refused(run_bytes(out, words))


@pytest.mark.parametrize(
    "words", [(), ("nothing.png",), ("broken.png",), ("good.png", "--model", "none.onnx"), (".",)]
)
def test_wrong_image_input(image, tmp_path, words, monkeypatch):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    tiny_image(0, 3, 40, np.random.default_rng(0)).save(tmp_path / "good.png")
    monkeypatch.chdir(tmp_path)
    refused(run_bytes(image[1], words))


def test_a_model_is_named_from_the_working_folder(text, tmp_path, monkeypatch):
    """Its path is not put after the folder of predict.py; without --model, a model.onnx in the working folder is none."""
    _, out = text
    monkeypatch.chdir(out.parent)
    wanted = printed(run(out, "i feel happy today"))
    assert printed(run(out, "i feel happy today", "--model", f"{out.name}/model.onnx")) == wanted
    assert printed(run(out, "i feel happy today", "--model", "model.onnx")) == wanted
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(b"not a model")
    assert printed(run(out, "i feel happy today")) == wanted
    broken = run_bytes(out, ("a", "--model", "model.onnx"))
    refused(broken)
    assert b"ONNXRuntimeError" not in broken.stderr
    assert b"model.onnx is no ONNX model" in broken.stderr
    for typed in (b"none/model_int8.onnx", b"none", b".", bytes(out)):  # named as typed, not behind another folder
        missing = run_bytes(out, ("a", "--model", typed))
        refused(missing)
        assert b"There is no file " + typed + b"," in missing.stderr


def run_bytes(out, words):
    command = [sys.executable, "-B", str(out / "predict.py"), *words]
    return subprocess.run(command, capture_output=True, env=subprocess_env(), check=False)


def refused(process):
    assert process.returncode == 2
    assert process.stdout == b""
    lines = process.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("predict.py: error: ")


def test_it_is_short(text):
    assert len((text[1] / "predict.py").read_text().splitlines()) <= 102


def test_what_lies_in_the_folder(text):
    model, out = text
    values = json.loads((out / "export.json").read_text())
    assert {p.name for p in out.iterdir()} == {
        *("config.json", "export.json", "model.onnx", "predict.json", "predict.py"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert values["files"] == {"model.onnx": (out / "model.onnx").stat().st_size}
    assert values["parity"]["rows"] == 64
    assert values["parity"]["origin"].startswith("sample:")
    assert json.loads((out / "predict.json").read_text())["labels"] == ["plain", "with tab", "日本語"]
    assert json.loads((out / "config.json").read_text())["id2label"]["1"] == "with\ttab"
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    assert tokenizer["padding"] is None
    assert tokenizer["truncation"]["max_length"] == MAX_LENGTH
    for file in out.iterdir():
        assert str(Path(model).parent).encode() not in file.read_bytes(), file  # no path of this machine


def test_one_file_beside_an_images_export(image):
    out = image[1]
    assert (out / "preprocessor_config.json").is_file()  # for transformers.js
    assert not (out / "tokenizer.json").exists()
