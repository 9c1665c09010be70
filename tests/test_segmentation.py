"""image-segmentation: masks as people have them, scores that add up over images, and a run that plain pipeline loads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

import hftl
from hftl.cli import main
from hftl.config import DataConfig, build_config
from hftl.data.load import load_task
from hftl.errors import ConfigError
from hftl.evaluation.mask_scores import UNASKED, dice, mask_statistics, miou, pixel_accuracy, pixel_counts
from hftl.predict_file import write_pictures
from hftl.report.show import show_result
from hftl.tasks import get_task
from hftl.tasks.inputs.augment import augment_batch, move_pixels
from hftl.tasks.outputs.masks import MASKS, keep, pixel_loss, show
from hftl.tasks.ragged import Made
from hftl.training.features import predict_logits
from hftl.training.losses import make_loss


COLOURS = [10, 20, 30, 200, 0, 0, 0, 200, 0]


def draw(folder: Path, count: int, seed: int = 0) -> Path:
    """Bright squares (1) and striped ones (2) on dark ground, as JPEG-free images and masks with a palette."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels, mask = rng.integers(0, 90, (48, 56, 3)).astype(np.uint8), np.zeros((48, 56), np.uint8)
        for kind in (1, 2):
            x, y, side = int(rng.integers(0, 36)), int(rng.integers(0, 28)), int(rng.integers(10, 20))
            pixels[y : y + side, x : x + side] = rng.integers(130, 250, 3)
            pixels[y : y + side : kind, x : x + side] //= 2
            mask[y : y + side, x : x + side] = kind
        mask[:2] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{i:03}.png")
        picture = Image.fromarray(mask)
        picture.putpalette(COLOURS + [0] * (768 - len(COLOURS)))
        picture.save(folder / "masks" / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = draw(tmp_path_factory.mktemp("shapes"), 30)
    (folder / "labels.txt").write_text("ground\nblock\nstripes\n")
    return folder


def save_segformer(folder: Path, **more) -> Path:
    """Save a SegFormer of random weights, which reads 64 pixels."""
    torch.manual_seed(0)
    widths = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    SegformerForSemanticSegmentation(SegformerConfig(**widths, decoder_hidden_size=16, **more)).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segformer(tmp_path_factory):
    return save_segformer(tmp_path_factory.mktemp("segformer"))


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, mlp_ratio=2)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(shapes, segformer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    return hftl.adapt("image-segmentation", str(shapes), str(segformer), "full", output_dir=folder, num_train_epochs=2)


def load(folder, **flags):
    return load_task("image-segmentation", DataConfig(data=str(folder), **flags))


def test_scores_equal_an_independent_reference():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 4, (7, 20, 20)), rng.integers(0, 4, (7, 20, 20))
    true[rng.random(true.shape) < 0.2] = UNASKED
    counts = np.stack([pixel_counts(p, t, 5) for p, t in zip(predicted, true, strict=True)])
    sums = mask_statistics(counts, 5).sum(axis=0)[None]
    asked = true != UNASKED
    pair = true[asked], predicted[asked]
    assert miou(sums)[0] == pytest.approx(jaccard_score(*pair, average="macro"))  # class 4 is nowhere: not counted
    assert dice(sums)[0] == pytest.approx(f1_score(*pair, average="macro"))
    assert pixel_accuracy(sums)[0] == pytest.approx(accuracy_score(*pair))


@pytest.mark.parametrize("at_once", [2**26, 3 * 20 * 30, 1])
def test_classes_are_enlarged_some_at_a_time(monkeypatch, at_once):
    logits = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    mask = np.random.default_rng(0).integers(0, 7, (20, 30)).astype(np.int16)
    mask[:3] = UNASKED
    maps = torch.nn.functional.interpolate(logits[None], size=(20, 30), mode="bilinear", align_corners=False)[0]
    monkeypatch.setattr("hftl.tasks.outputs.masks._AT_ONCE", at_once)
    best, confidence = show(logits, mask)
    assert np.array_equal(best, maps.argmax(0).numpy())
    assert confidence == pytest.approx(float(maps.softmax(0).max(0).values.mean()), rel=1e-5)
    loss = torch.nn.functional.cross_entropy(
        maps[None], torch.from_numpy(mask.astype(np.int64))[None], ignore_index=UNASKED
    )
    assert keep(logits, mask)[-1] == pytest.approx(float(loss), rel=1e-5)
    assert show(torch.zeros(7, 5, 6), mask)[0].max() == 0  # of equals the first, as argmax has it


def test_masks_move_with_their_images():
    torch.manual_seed(0)
    masks = torch.zeros(8, 32, 32)
    masks[:, 8:20, 4:14] = 1
    images, moved = augment_batch(masks[:, None].repeat(1, 3, 1, 1), True, masks)
    assert not torch.equal(moved, masks)
    assert set(moved.unique().tolist()) == {0.0, 1.0}  # nearest: no id between two
    assert ((images[:, 0] > 0.5).float() == moved).float().mean() > 0.97


@pytest.mark.parametrize("preset", ["default", "strong"])
def test_masks_move_with_their_images_by_stronger_presets(preset):
    torch.manual_seed(0)
    masks = torch.zeros(8, 32, 32)
    masks[:, 8:20, 4:14] = 1
    images, moved = move_pixels(masks[:, None].repeat(1, 3, 1, 1), preset, True, masks)
    assert not torch.equal(moved, masks)
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert ((images[:, 0] > 0.5).float() == moved).float().mean() > 0.97


def test_loss_is_exact_under_accumulation():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randint(0, 3, (4, 16, 16))
    labels[0] = -100  # so that the parts have other numbers of pixels
    loss, count = make_loss(0.0, None, pixel_loss), int((labels != -100).sum())
    (whole,) = torch.autograd.grad(loss({"logits": logits}, labels, count), logits)
    (parts,) = torch.autograd.grad(
        sum(loss({"logits": logits[i : i + 1]}, labels[i : i + 1], count) for i in range(4)), logits
    )
    assert torch.allclose(whole, parts, atol=1e-7)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_an_image_of_which_no_pixel_counts_teaches_nothing(shapes, segformer, tmp_path, accumulated):
    """Such as a tile without data: alone in a batch, or in a whole step, it has the loss 0, not 0 by 0."""
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    for count in (None, 0, torch.tensor(0)):
        loss = make_loss(0.0, row_loss=pixel_loss)({"logits": logits}, torch.full((2, 4, 4), UNASKED), count)
        loss.backward()
        assert (float(loss.detach()), float(logits.grad.abs().max())) == (0.0, 0.0)
    data = shutil.copytree(shapes, tmp_path / "data")
    for i in range(0, 30, 2):
        Image.fromarray(np.full_like(np.asarray(Image.open(data / f"masks/{i:03}.png")), 255)).save(
            data / f"masks/{i:03}.png"
        )
    flags = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": accumulated,
        "max_steps": 8,
        "evidence": "off",
    }
    result = hftl.adapt("image-segmentation", str(data), str(segformer), "full", output_dir=tmp_path / "run", **flags)
    assert result.metrics["miou"]["value"] > 0


def test_rows_that_are_made_are_kept_only_as_long_as_there_is_room(monkeypatch):
    monkeypatch.setattr("hftl.tasks.ragged._ROOM", 100)
    made = Made.of(list(range(50)), lambda i: np.full(5, i), lambda i: bytes([i]))
    assert [made[i][0] for i in range(50)] == list(range(50))
    assert sum(one.nbytes for one in made.kept.values()) <= 100
    assert list(made[np.array([7, 3])].digests()) == [b"\x07", b"\x03"]


def test_evaluation_keeps_counts_and_no_maps(run, shapes):
    predictor = run.predictor
    task, splits = load(shapes)
    encoded = task.encode(splits.test, predictor.processor)
    kept = predict_logits(predictor.model, encoded, task.collator(predictor.processor), use_cpu=True)
    assert kept.shape == (len(splits.test), 3 * 3 + 3 * 3 + 2)
    assert sum(one.nbytes for one in kept) < 8 * 100 * len(splits.test)


def test_report_has_scores_intervals_verdict_and_classes(run):
    test = run.metrics
    assert {"miou", "pixel_accuracy", "dice"} <= test.keys()
    assert test["miou"]["low"] <= test["miou"]["value"] <= test["miou"]["high"]
    assert [line["label"] for line in run.report["per_class"]] == ["ground", "block", "stripes"]
    assert np.mean([line["iou"] for line in run.report["per_class"]]) == pytest.approx(test["miou"]["value"])
    kinds = ["majority", "no-pretraining", "control", "features", "method"]
    assert [rung["kind"] for rung in run.report["evidence"]["ladder"]] == kinds
    assert run.report["evidence"]["verdict"]["label"] in ("POSITIVE", "NEUTRAL", "NEGATIVE")
    assert (run.run_dir / "report.html").is_file()


def test_the_long_terminal_says_all_of_it(run, capsys, monkeypatch):
    monkeypatch.setattr("hftl.terminal.verbose", True)
    show_result(run.report, str(run.run_dir))
    said = capsys.readouterr().err
    assert "colour and position" in said
    assert "parity" in said


def test_plain_pipeline_in_a_fresh_process_gives_the_same_masks(run, shapes):
    image = str(shapes / "images" / "004.png")
    code = (
        "import json, sys; from transformers import pipeline; import numpy as np\n"
        "answers = pipeline('image-segmentation', sys.argv[1])(sys.argv[2])\n"
        "assert not any(name.startswith('hftl') for name in sys.modules)\n"
        "print(json.dumps({a['label']: (np.asarray(a['mask']) > 0).tolist() for a in answers}))"
    )
    told = subprocess.run(
        [sys.executable, "-P", "-c", code, str(run.run_dir / "final"), image],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = run.predict([image])[0]
    assert answer.mask.shape == (48, 56)
    for label, mask in json.loads(told.stdout).items():
        assert (answer.mask == run.predictor.labels.index(label)).tolist() == mask


def test_saved_model_scores_as_the_run_did(run, shapes, tmp_path):
    _, splits = load(shapes)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for image, mask in zip(splits.test["image"][:], splits.test["label"][:], strict=True):
        for name, one in (("images", image), ("masks", mask)):
            (tmp_path / name / Path(one["path"]).name).write_bytes(Path(one["path"]).read_bytes())
    scored = run.predictor.evaluate(str(tmp_path))
    assert scored["metrics"]["miou"]["value"] == pytest.approx(run.metrics["miou"]["value"])


def test_predict_writes_ids_with_the_palette_of_the_data(run, shapes, tmp_path, capsys):
    image, out = shapes / "images" / "004.png", tmp_path / "mask.png"
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run.run_dir), str(image), "--output", str(out)])
    assert ended.value.code == 0
    assert "ground" in capsys.readouterr().out
    picture = Image.open(out)
    assert picture.mode == "P"
    assert picture.getpalette()[:9] == COLOURS
    assert np.array_equal(np.asarray(picture), run.predict([str(image)])[0].mask)
    assert np.array_equal(np.asarray(picture), run.predict(Image.open(image))[0].mask)  # one alone is one


def test_every_image_of_a_folder_is_answered_and_a_broken_one_stops_before_the_first_mask(
    run, shapes, tmp_path, capsys
):
    for i, name in enumerate(("a.png", "inner/b.png", "inner/more/c.png")):
        (tmp_path / "new" / name).parent.mkdir(exist_ok=True)
        shutil.copy(shapes / "images" / f"{i:03}.png", tmp_path / "new" / name)
    with pytest.raises(SystemExit):
        main(["predict", str(run.run_dir), "--data", str(tmp_path / "new"), "--json"])
    assert {Path(row["file_name"]).name for row in json.loads(capsys.readouterr().out)} == {"a.png", "b.png", "c.png"}
    (tmp_path / "broken.png").write_bytes(b"none")
    images = [str(tmp_path / "new/a.png"), str(tmp_path / "broken.png")]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run.run_dir), *images, "--output", str(tmp_path / "out")])
    assert (ended.value.code, (tmp_path / "out").exists()) == (2, False)


def test_json_has_all_classes_with_their_pixels_and_the_file(run, shapes, tmp_path, capsys):
    image, out = shapes / "images" / "004.png", tmp_path / "mask.png"
    answer = run.predict([str(image)])[0]
    names, counts = np.unique(answer.mask, return_counts=True)
    for output in ([], ["--output", str(out)]):
        with pytest.raises(SystemExit):
            main(["predict", str(run.run_dir), str(image), "--json", *output])
        (row,) = json.loads(capsys.readouterr().out)
        assert row.get("output") == (str(out) if output else None)
        told = {name: (one["pixels"], one["share"]) for name, one in row["classes"].items()}
        assert told == {run.predictor.labels[i]: (n, n / answer.mask.size) for i, n in zip(names, counts, strict=True)}
        assert [*told] == [*answer.shares] == [*answer.pixels]


def test_predict_writes_a_mask_for_each_image_of_a_folder(run, shapes, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run.run_dir), "--data", str(shapes / "images"), "--output", str(tmp_path / "out")])
    assert ended.value.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{i:03}.png" for i in range(30)]
    again, nested = tmp_path / "again", [tmp_path / name / "a.png" for name in ("x", "y")]
    for path in nested:
        path.parent.mkdir()
        shutil.copy(shapes / "images" / "001.png", path)
    for _ in range(2):  # the folder is there the second time
        write_pictures(run.predictor, [str(path) for path in nested], str(again))
    assert sorted(path.relative_to(again).as_posix() for path in again.rglob("*.png")) == ["x/a.png", "y/a.png"]
    before = nested[0].read_bytes()
    for place, said in (
        (nested[0], "would replace the image"),
        (nested[0].parent, "would replace"),
        ("a.jpg", "PNG"),
        ("a.csv", "PNG"),
    ):
        with pytest.raises(ConfigError, match=said):
            write_pictures(run.predictor, [str(nested[0])], str(place))
    assert nested[0].read_bytes() == before
    with pytest.raises(hftl.HftlError, match="It is a folder: name it with --data"):
        run.predict([str(shapes / "images")])


def test_backbone_gets_a_stock_head_also_with_a_last_batch_of_one(shapes, dino, tmp_path):
    count = len(load(shapes)[1].train)
    size = next(size for size in range(2, count) if count % size == 1)
    result = hftl.adapt(
        "image-segmentation",
        str(shapes),
        str(dino),
        "full",
        output_dir=tmp_path / "run",
        num_train_epochs=1,
        per_device_train_batch_size=size,
        evidence="off",
    )
    config = json.loads((tmp_path / "run/final/config.json").read_text())
    assert config["architectures"] == ["UperNetForSemanticSegmentation"]
    assert any("stock UperNet head" in line for line in result.report["warnings"])
    statistics = result.predictor.model.decode_head.bottleneck.batch_norm.running_mean
    assert statistics.abs().max() > 0  # a new head learns what is usual, too
    assert result.predict([str(shapes / "images" / "001.png")])[0].mask.shape == (48, 56)


def test_the_task_is_found_from_the_data(shapes):
    from hftl.data.settle import find_task

    assert find_task(DataConfig(data=str(shapes))) == "image-segmentation"


def test_a_text_model_is_refused(shapes, tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(hftl.HftlError, match="bert checkpoint, which cannot do image-segmentation"):
        hftl.adapt("image-segmentation", str(shapes), str(tmp_path / "bert"), output_dir=tmp_path / "run")


def test_masks_of_16_bits_train_and_score_as_those_of_8(shapes, segformer, tmp_path):
    """What is not counted is 65535 there, and pictures have no palette."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "images").symlink_to(shapes / "images")
    for path in (shapes / "masks").iterdir():
        ids = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(np.where(ids == 255, 65535, ids).astype(np.uint16)).save(tmp_path / "masks" / path.name)
    flags = {"evidence": "off", "max_steps": 2}
    few, deep = (
        hftl.adapt(
            "image-segmentation", str(data), str(segformer), "full", output_dir=tmp_path / name, **flags, **more
        )
        for data, name, more in ((shapes, "few", {}), (tmp_path, "deep", {"ignore_index": 65535}))
    )
    assert few.metrics == deep.metrics
    assert deep.predictor.evaluate(str(tmp_path))["metrics"] == few.predictor.evaluate(str(shapes))["metrics"]


def test_an_image_without_a_counted_pixel_is_not_wrong():
    kept = keep(torch.zeros(2, 4, 4), np.full((2, 2), UNASKED))
    assert kept[-2:].tolist() == [0.0, 0.0]


def test_config_keeps_what_masks_mean(run):
    config = json.loads((run.run_dir / "final/config.json").read_text())
    assert (config["mask_values"], config["ignore_index"]) == ("class", 255)
    assert config["palette"][0] == COLOURS[:3]
    output = get_task("image-segmentation").output
    assert output is MASKS
    kept = keep(torch.zeros(2, 4, 4), np.array([[0, UNASKED], [1, 0]]))
    assert kept[:6].tolist() == [2, 1, 3, 0, 2, 0]
    assert build_config("image-segmentation", {"mask_values": "binary"}).data.mask_values == "binary"
