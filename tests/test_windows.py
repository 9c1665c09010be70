"""Images of any size, read in windows."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

import hftl
from hftl.config import DataConfig
from hftl.data.load import load_task
from hftl.errors import ConfigError
from hftl.tasks.inputs.pixels import some_window
from hftl.tasks.scores import measure
from hftl.training.features import predict_logits
from hftl.training.windows import in_windows, starts
from tests.command import ROOT, environment, shell
from tests.test_segmentation import save_segformer


SIDE = 64


def model():
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1], decoder_hidden_size=16
    )
    return SegformerForSemanticSegmentation(config)


def squares(folder, sizes, first=0):
    """Draw images (width, height) of dark noise, in each a bright square of 20 pixels a side, and their masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(first)
    for i, (wide, high) in enumerate(sizes):
        pixels, mask = rng.integers(0, 90, (high, wide, 3)).astype(np.uint8), np.zeros((high, wide), np.uint8)
        x, y = int(rng.integers(0, wide - 20)), int(rng.integers(0, high - 20))
        pixels[y : y + 20, x : x + 20] += 120
        mask[y : y + 20, x : x + 20] = 1
        Image.fromarray(pixels).save(folder / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on images of three sizes, some of them smaller than a window."""
    folder = tmp_path_factory.mktemp("windows")
    squares(folder / "data", [((150, 90), (64, 64), (40, 100))[i % 3] for i in range(18)])
    model().save_pretrained(folder / "model")
    SegformerImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder / "model")
    flags = {"sliding_windows": True, "num_train_epochs": 2, "learning_rate": 1e-3}
    data, output = str(folder / "data"), folder / "run"
    return hftl.adapt("image-segmentation", data, str(folder / "model"), "full", output_dir=output, **flags)


def test_windows_begin_evenly_end_with_the_image_and_share_a_third():
    assert starts(64, 64) == [0]
    for length in (65, 106, 107, 640, 1000):
        places = starts(length, 64)
        assert places[0] == 0
        assert places[-1] == length - 64
        assert max(np.diff(places)) <= 64 * 2 / 3 + 1


def test_where_windows_overlap_the_mean_of_the_logits_counts():
    net, pixels = model().eval(), torch.randn(1, 3, 64, 100)
    with torch.inference_mode():
        maps = in_windows(net, 64, pixel_values=pixels).logits
        single = [
            torch.nn.functional.interpolate(
                net(pixel_values=pixels[..., x : x + 64]).logits, size=(64, 64), mode="bilinear"
            )
            for x in (0, 36)
        ]
    assert maps.shape[-2:] == (64, 100)
    assert torch.allclose(maps[..., :36], single[0][..., :36], atol=1e-5)
    assert torch.allclose(maps[..., 36:64], (single[0][..., 36:] + single[1][..., :28]) / 2, atol=1e-5)
    assert torch.allclose(maps[..., 64:], single[1][..., 28:], atol=1e-5)


def test_an_image_smaller_than_a_window_is_filled_up():
    pixels, mean = (
        torch.full((3, 5, 20), 9, dtype=torch.uint8),
        torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None],
    )
    window, mask = some_window(pixels, torch.ones(5, 20), 8, mean, 0.3, 0.9)
    assert window[:, :5].unique().tolist() == [9]
    assert window[:, 5:].amax((1, 2)).tolist() == [1, 2, 3]
    assert (mask[:5] == 1).all()
    assert (mask[5:] == -100).all()
    with torch.inference_mode():
        assert in_windows(model().eval(), 64, pixel_values=torch.randn(1, 3, 30, 40)).logits.shape[-2:] == (30, 40)


def test_a_run_reads_windows_and_answers_whole_images(run):
    sizes = {
        run.predict([path])[0].mask.shape
        for path in sorted(map(str, (run.run_dir.parent / "data/images").iterdir()))[:3]
    }
    assert sizes == {(90, 150), (64, 64), (100, 40)}
    assert json.loads((run.run_dir / "final/preprocessor_config.json").read_text())["do_resize"] is False
    scored = run.predictor.evaluate(str(run.run_dir.parent / "data"))
    assert 0 < scored["metrics"]["miou"]["value"] <= 1


def test_plain_pipeline_reads_the_image_as_a_whole_at_the_same_scale(run):
    """An image of the size of a window is answered alike; a larger one in its own size, by one pass."""
    code = (
        "import json, sys; from transformers import pipeline; import numpy as np\n"
        "for path in sys.argv[2:]:\n"
        "    answers = pipeline('image-segmentation', sys.argv[1])(path)\n"
        "    print(json.dumps({a['label']: (np.asarray(a['mask']) > 0).tolist() for a in answers}))"
    )
    paths = [str(run.run_dir.parent / "data/images" / name) for name in ("01.png", "00.png")]
    words = [sys.executable, "-P", "-c", code, str(run.run_dir / "final"), *paths]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    same, larger = (json.loads(line) for line in told)
    ours = run.predict(paths)
    for label, mask in same.items():
        assert (ours[0].mask == run.predictor.labels.index(label)).tolist() == mask
    agreement = [
        ((ours[1].mask == run.predictor.labels.index(label)) == np.array(mask)).mean()
        for label, mask in larger.items()
    ]
    assert np.array(next(iter(larger.values()))).shape == (90, 150)
    assert min(agreement) > 0.9


def test_a_model_of_one_size_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("hftl.tasks.inputs.pixels.reads", lambda model, side: side == SIDE)
    data, known = str(run.run_dir.parent / "data"), str(run.run_dir.parent / "model")
    with pytest.raises(ConfigError, match="--sliding_windows: the model reads images of 64 pixels and of no other"):
        hftl.adapt("image-segmentation", data, known, output_dir=tmp_path / "run", sliding_windows=True)
    assert not (tmp_path / "run").exists()


def test_the_probe_reads_every_window_with_its_part_of_the_mask(run, tmp_path):
    from hftl.training.patches import windows_of
    from hftl.training.windows import places_of

    mask = torch.arange(90 * 150).reshape(1, 90, 150)
    windows = windows_of(mask, SIDE)
    assert windows.shape == (len(places_of(90, 150, SIDE)), SIDE, SIDE)
    assert windows[0, 0, 0] == 0
    assert windows[-1, -1, -1] == 90 * 150 - 1
    assert (windows_of(mask[:, :40], SIDE)[:, 40:] == -100).all()
    data, model = str(run.run_dir.parent / "data"), str(run.run_dir.parent / "model")
    flags = {"sliding_windows": True, "image_size": SIDE, "evidence": "off"}
    probed = hftl.adapt("image-segmentation", data, model, "probe", output_dir=tmp_path / "probe", **flags)
    assert probed.metrics["miou"]["value"] > run.report["evidence"]["ladder"][0]["miou"]["value"]


def test_features_of_other_windows_are_others(run, tmp_path):
    from hftl.adapt import complete, config_of
    from hftl.prepare import prepare
    from hftl.probing import features_key

    flags = {
        "data": str(run.run_dir.parent / "data"),
        "model": str(run.run_dir.parent / "model"),
        "sliding_windows": True,
    }
    keys = set()
    for side in (32, 64):
        config = config_of("image-segmentation", {**flags, "image_size": side, "output_dir": tmp_path / str(side)})
        ready = prepare(complete(config))
        keys.add(features_key(ready, ready.train, False))
    assert len(keys) == 2


def test_windows_of_an_export_are_those_of_torch(monkeypatch):
    monkeypatch.syspath_prepend(files("hftl") / "export/templates")
    import predict_masks

    torch.manual_seed(0)
    kernel = torch.randn(3, 3, 4, 4)
    answer = lambda pixel_values: {"logits": torch.nn.functional.conv2d(pixel_values, kernel, stride=4)}  # noqa: E731
    for height, width in ((24, 24), (61, 30), (10, 90), (7, 9), (48, 25)):
        pixels = torch.randn(1, 3, height, width)
        wanted = in_windows(answer, 24, pixel_values=pixels)["logits"][0].numpy()
        maps = predict_masks.in_windows(
            lambda part: answer(torch.from_numpy(part))["logits"][0].numpy(), pixels.numpy(), 24
        )
        assert maps == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
def test_an_export_answers_whole_images_in_the_same_windows(run, tmp_path):
    written = hftl.export(run.run_dir, int8=True, max_drop=1, output_dir=tmp_path / "onnx")
    assert json.loads((written.output_dir / "predict.json").read_text())["preprocessing"]["window"] == SIDE
    parity, int8 = written.values["parity"], written.values["int8"]
    assert parity["labels_equal"] is True
    task, splits = load_task("image-segmentation", DataConfig(data=str(run.run_dir.parent / "data")))
    encoded = task.encode(splits.validation, run.predictor.processor)
    kept = predict_logits(run.predictor.model, encoded, task.collator(run.predictor.processor), use_cpu=True)
    assert int8["accuracy_before"] == pytest.approx(
        measure(task.output, task.output.decode(kept), encoded.targets, splits.labels)["miou"], abs=1e-3
    )
    paths = sorted(map(str, (run.run_dir.parent / "data/images").iterdir()))[:3]
    words = [sys.executable, "-B", str(written.output_dir / "predict.py"), *paths]
    subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    for path, answer in zip(paths, run.predict(paths), strict=True):
        painted = np.asarray(Image.open(tmp_path / f"{Path(path).stem}.mask.png"))
        assert painted.shape == answer.mask.shape
        assert (painted == answer.mask).mean() > 0.999


@pytest.mark.slow
def test_curve_and_seeds_read_windows(run, tmp_path):
    flags = {
        "data": str(run.run_dir.parent / "data"),
        "model": str(run.run_dir.parent / "model"),
        "sliding_windows": True,
    }
    squares(tmp_path / "data", [((90, 70), (64, 64), (40, 100))[i % 3] for i in range(50)])
    more = flags | {"data": str(tmp_path / "data"), "max_steps": 2}
    curve = hftl.curve("image-segmentation", method="full", sizes=3, draws=1, output_dir=tmp_path / "curve", **more)
    assert all(0 < point["value"] <= 1 for point in curve["points"])
    flags |= {"num_train_epochs": 2, "learning_rate": 1e-3}
    several = hftl.adapt("image-segmentation", method="full", seeds=2, output_dir=tmp_path / "s", **flags)
    first, second = several.report["seeds"]["test"]["miou"]["values"]
    assert first == pytest.approx(run.metrics["miou"]["value"])
    assert 0 < second <= 1


@pytest.mark.slow
def test_two_processes_answer_in_windows_as_one_does(tmp_path):
    """Windows of the training images are drawn row by row, alike on any number of processes."""
    squares(tmp_path / "data/train", [(SIDE + 40, SIDE + 20)] * 12)
    for number, split in enumerate(("val", "test"), start=1):
        squares(tmp_path / "data" / split, [(150, 90), (64, 64), (40, 100), (70, 70), (65, 90)], number)
    save_segformer(tmp_path / "model", drop_path_rate=0.0, classifier_dropout_prob=0.0)
    flags = {"data": tmp_path / "data", "model": tmp_path / "model", "method": "full", "decoder": "linear"}
    flags |= {
        "sliding_windows": "true",
        "augment": "none",
        "bf16": "false",
        "max_steps": 4,
        "evidence": "off",
        "logging_steps": 1,
    }
    reports = []
    for count in (1, 2):
        more = {"per_device_train_batch_size": 4 // count, "output_dir": tmp_path / f"{count}", "use_cpu": "true"}
        words = [word for name, value in (flags | more).items() for word in (f"--{name}", str(value))]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m", "hftl", "train"]
        done = shell([*launch, "image-segmentation", *words, "--json"], ROOT, environment())
        assert done.code == 0, done.err[-3000:]
        reports.append(done.json)
    one, two = reports
    assert two["environment"]["processes"] == 2
    assert two["metrics"]["test"]["miou"]["value"] == pytest.approx(one["metrics"]["test"]["miou"]["value"], abs=1e-6)
    for name in ("loss", "eval_miou"):
        values = [[e[name] for s in r["stages"] for e in s["history"] if name in e] for r in reports]
        assert values[0]
        assert values[1] == pytest.approx(values[0], rel=1e-5)
