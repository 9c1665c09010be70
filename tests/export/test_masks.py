"""Exports of models that answer every pixel: the picture that predict.py writes is the map of the model."""

import json
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Dinov2Config,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

import hftl
from hftl.export import export
from hftl.tasks.outputs.masks import enlarged as by_torch
from tests.export.test_predict_file import printed


PALETTE = [[1, 2, 3], [200, 0, 0], [0, 200, 0]]
NAMES = {
    "id2label": {0: "ground", 1: "a\tb", 2: "c"},
    "label2id": {"ground": 0, "a\tb": 1, "c": 2},
    "palette": PALETTE,
}


def saved(folder, model):
    with torch.no_grad():
        for parameter in model.parameters():  # so that its classes are not all but equally likely
            parameter.mul_(1.5)
    model.save_pretrained(folder)
    SegformerImageProcessor(size={"height": 56, "width": 56}, do_reduce_labels=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segformer(tmp_path_factory):
    torch.manual_seed(0)
    widths = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    config = SegformerConfig(**widths, decoder_hidden_size=16, **NAMES)
    return saved(tmp_path_factory.mktemp("seg") / "net", SegformerForSemanticSegmentation(config))


def photo(path, size, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def run_script(out, *paths, folder):
    return subprocess.run(
        [sys.executable, "-B", str(out / "predict.py"), *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


def test_enlarging_is_that_of_torch(monkeypatch):
    monkeypatch.syspath_prepend(files("hftl") / "export/templates")
    from predict_masks import enlarged

    torch.manual_seed(0)
    for shape, size in (((3, 7, 9), (130, 41)), ((2, 16, 16), (5, 3)), ((4, 1, 1), (8, 8)), ((2, 10, 10), (10, 10))):
        logits = torch.randn(shape)
        wanted = by_torch(logits[None], size[::-1])[0].argmax(0).numpy()
        assert (enlarged(logits.numpy(), *size) == wanted).mean() > 0.999


@pytest.fixture(scope="module")
def out(segformer):
    return export(segformer).output_dir


def test_the_script_paints_what_the_model_answers(segformer, out, tmp_path):
    told = json.loads((out / "export.json").read_text())
    assert told["parity"]["labels_equal"] is True
    assert told["parity"]["max_difference"] <= told["parity"]["tolerance"] == 1e-3
    assert told["dynamic"] == ["batch", "height", "width"]
    assert [*told["latency"]["batches"]["onnx fp32"]] == ["1", "8"]
    paths = [photo(tmp_path / "wide one.png", (80, 33)), photo(tmp_path / "high.jpg", (21, 90), 1)]
    turned = Image.open(paths[1])
    turned.getexif()[274] = 6  # it lies on its side
    turned.save(paths[1], exif=turned.getexif())
    lines = printed(run_script(out, *paths, folder=tmp_path))
    assert [line[0] for line in lines] == ["wide one.mask.png", "high.mask.png"]
    for path, line in zip(paths, lines, strict=True):
        answer = hftl.load(segformer).predict([str(path)])[0]
        painted = Image.open(tmp_path / line[0])
        assert painted.mode == "P"
        assert painted.getpalette()[:9] == [value for colour in PALETTE for value in colour]
        assert painted.size == answer.mask.shape[::-1]
        assert (np.asarray(painted) == answer.mask).mean() > 0.999
        name, share = line[1].split(", ")[0].rsplit(" ", 1)
        assert name == next(iter(answer.shares)).replace("\t", " ")
        assert float(share) == pytest.approx(next(iter(answer.shares.values())), abs=2e-3)


def test_two_images_of_one_name_are_refused(out, tmp_path):
    paths = [photo(tmp_path / name, (20, 20)) for name in ("a.png", "a.jpg")]
    failed = run_script(out, *paths, folder=tmp_path)
    assert failed.returncode == 2
    assert "Two images have the same name" in failed.stderr.splitlines()[-1]
    assert not (tmp_path / "a.mask.png").exists()


@pytest.mark.slow
def test_a_backbone_with_a_stock_head(tmp_path):
    torch.manual_seed(0)
    body = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        mlp_ratio=2,
        out_indices=[1, 2, 3, 4],
    )
    config = UperNetConfig(backbone_config=body, use_auxiliary_head=False, hidden_size=32, **NAMES)
    folder = saved(tmp_path / "upernet", UperNetForSemanticSegmentation(config))
    assert export(folder).values["parity"]["labels_equal"] is True
