"""The page of a model of masks: what lies over an image, how much is seen through it, and a zip of masks."""

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from hftl.demo.batch import classify, painter, write_csv
from hftl.demo.served import Served
from hftl.errors import RunError
from hftl.predict import load
from hftl.run_data import open_artifact
from tests.demo.conftest import Shown
from tests.demo.setups import picture


PALETTE = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]
HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "cells"
    torch.manual_seed(1)
    sizes = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    names = {0: "ground", 1: HOSTILE, 2: "stripes"}
    config = SegformerConfig(
        **sizes, decoder_hidden_size=16, id2label=names, label2id={v: k for k, v in names.items()}, palette=PALETTE
    )
    net = SegformerForSemanticSegmentation(config)
    with torch.no_grad():  # so that an untrained model gives every class some pixels
        for parameter in net.parameters():
            parameter.mul_(1.5)
    net.save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}, do_reduce_labels=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def demo(model) -> Iterator[Shown]:
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from hftl.demo.app import launch_demo

    page = launch_demo(model, port=0)
    yield Shown(str(page.local_url), model, model)
    page.close(verbose=False)


def test_masks_over_the_image(demo, show, tmp_path):
    opened = show(demo.url, width=390, color_scheme="dark")
    page, path = opened.page, picture(tmp_path / "one.png")
    (expected,) = load(demo.run).predict([path])
    page.set_input_files("#image-input input[type=file]", path)
    page.wait_for_selector("#label .legend-item")
    legend = {item.strip() for item in page.locator("#label .legend-item").all_inner_texts()}
    assert legend == {*expected.shares} - {"ground"}  # black is not painted
    first = next(iter(expected.shares))
    assert page.locator("#said").inner_text().startswith(f"{first} {expected.shares[first]:.1%}")
    assert page.evaluate("window.hacked") is None
    mask = page.locator("#label .mask").first
    assert mask.evaluate("one => getComputedStyle(one).opacity") == "0.6"
    page.locator("#opacity input[type=range]").fill("0.25")
    page.wait_for_function("getComputedStyle(document.querySelector('#label .mask')).opacity === '0.25'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.said == []
    assert opened.foreign == []


def test_a_zip_of_masks(demo, show, tmp_path):
    paths = [picture(tmp_path / f"{i}.png", i, 60 + i) for i in range(2)]
    opened = show(demo.url)
    page = opened.page
    page.get_by_role("tab", name="Batch").click()
    page.set_input_files("#batch-files input[type=file]", paths)
    page.locator("#batch-files .file").nth(1).wait_for()
    page.click("#batch-run")
    page.wait_for_selector("#batch-done")
    with page.expect_download() as download:
        page.locator("#batch-output a[download]").first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == ["answers.csv", "masks/0.png", "masks/1.png"]
        rows = [*csv.DictReader(io.StringIO(archive.read("answers.csv").decode()))]
        painted = [Image.open(io.BytesIO(archive.read(f"masks/{i}.png"))) for i in range(2)]
    assert [row["input"] for row in rows] == ["0.png", "1.png"]
    for path, image in zip(paths, painted, strict=True):
        assert image.getpalette()[:9] == [value for colour in PALETTE for value in colour]
        assert np.array_equal(np.asarray(image), load(demo.run).predict([path])[0].mask)
    assert opened.said == []


def test_masks_of_images_of_one_name_are_kept_apart(model, tmp_path):
    served = Served(open_artifact(model), load(model))
    paths = []
    for i, name in enumerate(("same-3.png", "same.png", "same.png")):
        (tmp_path / str(i)).mkdir()
        paths.append(picture(tmp_path / str(i) / name, i))
    (tmp_path / "masks").mkdir()
    rows, _ = classify(served, paths, None, lambda done, total: None, painter(served, tmp_path / "masks"))
    names = ["same-3.png", "same.png", "same-3-3.png"]
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == sorted(names)
    write_csv(tmp_path / "answers.csv", rows)
    with (tmp_path / "answers.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == names


def test_corrections_of_masks_are_refused(model, tmp_path):
    from hftl.demo.app import build_demo

    with pytest.raises(RunError, match="--feedback takes no corrections of masks"):
        build_demo(model, feedback=tmp_path / "feedback")
    assert not (tmp_path / "feedback").exists()
