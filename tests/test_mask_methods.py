"""Methods of image-segmentation: the probe and what is made of it, decoders, and the verbs that rest on them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from peft import PeftModel
from PIL import Image
from sklearn.linear_model import LogisticRegression

import hftl
from hftl.cli import run_command
from hftl.config import DataConfig, ModelConfig
from hftl.data.load import load_task
from hftl.errors import ConfigError, DataError
from hftl.evaluation.mask_probe import fit_patches, patch_counts, patches_of
from hftl.evaluation.mask_scores import UNASKED, pixel_counts
from hftl.models.load import load_model
from hftl.predict import load_predictor
from hftl.training.patches import patch_shares
from tests.test_segmentation import dino, draw, segformer, shapes  # noqa: F401
from tests.tiny import tiny_images


TASK = "image-segmentation"


@pytest.fixture(scope="module")
def probe(shapes, dino, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("runs") / "probe"
    return hftl.adapt(TASK, str(shapes), str(dino), "probe", output_dir=folder, bf16=False)


def adapted(data, model, method, folder, **flags):
    flags = {"evidence": "off", "num_train_epochs": 1, **flags}
    return hftl.adapt(TASK, str(data), str(model), method, output_dir=folder, **flags)


def test_probe_is_the_regression_of_an_independent_library(probe, shapes, dino):  # noqa: F811
    _, splits = load_task(TASK, DataConfig(data=str(shapes)), 42)
    body = transformers.Dinov2Model.from_pretrained(dino).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(probe.run_dir / "final")
    features, shares = [], []
    for image, mask in zip(splits.train["image"][:], splits.train["label"][:], strict=True):
        pixels = processor(Image.open(image["path"]).convert("RGB"), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            features.append(body(pixel_values=pixels).last_hidden_state[0, 1:].numpy())
        ids = torch.from_numpy(np.asarray(Image.open(mask["path"]), dtype=np.float32))[None, None]
        ids = F.interpolate(ids, size=pixels.shape[2:], mode="nearest-exact")[0, 0].numpy()
        cells = ids.reshape(4, 14, 4, 14).transpose(0, 2, 1, 3).reshape(16, -1)
        shares.append(np.stack([(cells == k).mean(axis=1) for k in range(3)], axis=1))
    x, y = np.concatenate(features).astype(np.float64), np.concatenate(shares)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    patch, classes = np.nonzero(y)
    model = LogisticRegression(C=probe.report["probe"]["C"], tol=1e-8, max_iter=10_000)
    model.fit(z[patch], classes, sample_weight=y[patch, classes])
    linear = probe.predictor.model.classifier
    ours = x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    theirs = model.predict_proba(z)
    assert np.abs(torch.from_numpy(ours).softmax(-1).numpy() - theirs).max() < 2e-4


def test_patches_that_hold_nothing_asked_teach_nothing():
    mask = torch.full((4, 4), UNASKED)
    mask[:2, :2] = torch.tensor([[0, 1], [1, 1]])
    shares = patch_shares(mask, 3, (2, 2))
    assert shares[0, 0].tolist() == [0.25, 0.75, 0.0]
    assert shares.sum() == 1
    features, known = np.random.default_rng(0).normal(size=(50, 4)), np.eye(3)[np.arange(50) % 2]
    weight, bias = fit_patches(features, known, 1.0)
    assert not weight[2].any()
    assert bias[2] < -1000


@pytest.mark.parametrize(("images", "places", "most"), [(7, 16, 50), (7, 4, 50), (100, 9, 30), (1, 5, 100)])
def test_patches_are_bounded_and_spread_evenly(images, places, most):
    counts = patches_of(images, places, most)
    assert counts.sum() == min(images * places, most)
    assert np.ptp(counts) <= 1


def test_counts_of_patches_are_those_of_pixels_under_one_answer_for_each():
    rng = np.random.default_rng(0)
    mask, logits = rng.integers(0, 3, (8, 8)), rng.normal(size=(4, 3))
    mask[0] = UNASKED
    shares = patch_shares(torch.from_numpy(mask), 3, (2, 2)).reshape(4, 3).numpy()
    whole = np.kron(logits.argmax(1).reshape(2, 2), np.ones((4, 4), dtype=int))
    ours = patch_counts(logits, shares, np.array([0, 4]))[0] * 16
    assert ours == pytest.approx(pixel_counts(whole, mask, 3))


def test_saved_probe_answers_alike_in_a_fresh_process_of_plain_transformers(probe, shapes):  # noqa: F811
    image, final = str(shapes / "images" / "004.png"), probe.run_dir / "final"
    config = json.loads((final / "config.json").read_text())
    assert config["architectures"] == ["LinearForSemanticSegmentation"]
    assert any("trust_remote_code=True" in line for line in probe.report["warnings"])
    code = (
        "import json, sys; from transformers import pipeline; import numpy as np\n"
        "answers = pipeline('image-segmentation', sys.argv[1], trust_remote_code=True)(sys.argv[2])\n"
        "assert not any(name.startswith('hftl') for name in sys.modules)\n"
        "print(json.dumps({a['label']: (np.asarray(a['mask']) > 0).tolist() for a in answers}))"
    )
    command = [sys.executable, "-P", "-c", code, str(final), image]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    (final / "modeling_pooled.py").rename(final / "aside.py")  # hftl does without: it never runs that file
    try:
        predictor = hftl.load(probe.run_dir)
    finally:
        (final / "aside.py").rename(final / "modeling_pooled.py")
    mask = predictor.predict([image])[0].mask
    assert {predictor.labels[i] for i in np.unique(mask)} == told.keys()
    for label, found in told.items():
        assert (mask == predictor.labels.index(label)).tolist() == found


def test_ladder_of_the_probe(probe):
    rungs = {rung["name"]: rung for rung in probe.report["evidence"]["ladder"]}
    method = rungs[next(name for name in rungs if name.startswith("probe ("))]
    assert rungs["probe on frozen features"]["miou"] == method["miou"]
    assert rungs["probe, random weights"]["kind"] == "control"
    assert rungs["probe, random weights"]["miou"]["value"] != method["miou"]["value"]
    assert method["seconds"] > 0
    assert set(probe.report["probe"]["cv_accuracy"]["native"]) == {"0.001", "0.01", "0.1", "1", "10"}


@pytest.mark.parametrize("decoder", ["linear", "upernet"])
def test_merged_lora_equals_its_adapter(shapes, dino, tmp_path, decoder):  # noqa: F811
    task, splits = load_task(TASK, DataConfig(data=str(shapes)), 42)
    assert len(splits.train) % 7 == 1  # a last batch of one image, on which batch norms cannot be trained
    flags = {"decoder": decoder, "learning_rate": 0.01, "per_device_train_batch_size": 7}
    run = adapted(shapes, dino, "lora", tmp_path / "run", **flags)
    torch.manual_seed(7)  # another head, which the adapter replaces
    base = load_model(task, ModelConfig(model=str(dino), decoder=decoder), splits.labels).model
    adapter = PeftModel.from_pretrained(base, run.run_dir / "adapter").eval()
    assert any("projection" in name and "lora_A" in name for name, _ in adapter.named_modules())
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        merged, apart = run.predictor.model(pixel_values=pixels).logits, adapter(pixel_values=pixels).logits
    assert torch.allclose(merged, apart, atol=1e-5)
    assert merged.std() > 0.003
    if decoder == "upernet":
        assert run.predictor.model.decode_head.bottleneck.batch_norm.running_mean.abs().max() > 0


def test_scores_of_a_users_own_are_refused_before_training(shapes, dino, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match="words or pixels are answered"):
        hftl.adapt(
            TASK, str(shapes), str(dino), "full", tmp_path / "run", evidence="off", compute_metrics=lambda found: {}
        )


def test_gradient_is_the_same_in_one_step_and_in_four(shapes, dino, tmp_path):  # noqa: F811
    norms = []
    for rows, steps in ((4, 1), (1, 4)):
        flags = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps, "max_steps": 1}
        flags |= {"logging_steps": 1, "augment": "none", "decoder": "linear", "eval_strategy": "no", "bf16": False}
        run = adapted(shapes, dino, "full", tmp_path / f"{rows}", **flags)
        norms.append(run.report["stages"][-1]["history"][0]["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_wise_ends_between_probe_and_full_under_the_linear_decoder(shapes, segformer, tmp_path):  # noqa: F811
    run = adapted(shapes, segformer, "wise", tmp_path / "run", max_steps=2)
    assert run.report["model"]["architecture"] == "LinearForSemanticSegmentation"
    assert [stage["name"] for stage in run.report["stages"]] == ["probe", "full", "interpolation"]
    scores = run.report["stages"][-1]["interpolation"]
    assert len(scores["curve"]) == 11
    assert scores["metric"] == "miou"


@pytest.mark.parametrize("method", ["head", pytest.param("gradual", marks=pytest.mark.slow)])
def test_decoder_learns_alone_on_a_frozen_body(shapes, dino, tmp_path, method):  # noqa: F811
    run = adapted(shapes, dino, method, tmp_path / "run", max_steps=10)  # two for each of five stages
    before = transformers.Dinov2Model.from_pretrained(dino).state_dict()
    after = run.predictor.model.backbone.state_dict()
    moved = [name for name, value in before.items() if name in after and not torch.equal(value, after[name])]
    assert bool(moved) == (method == "gradual")
    norm = run.predictor.model.decode_head.bottleneck.batch_norm
    assert norm.running_mean.abs().max() > 0


def test_auto_is_the_default_and_ranks_by_miou(shapes, dino, tmp_path):  # noqa: F811
    run = adapted(shapes, dino, None, tmp_path / "run", max_steps=2, num_train_epochs=None, budget="20")
    selection = run.report["selection"]
    assert selection["metric"] == "miou"
    assert {"probe", "full"} <= {trial["method"] for trial in selection["trials"]}
    final = json.loads((run.run_dir / "final/config.json").read_text())["architectures"][0]
    assert (final == "LinearForSemanticSegmentation") == (
        run.report["selection"]["winner"] in ("probe", "do not transfer")
    )
    assert any(("stock UperNet" if final.startswith("UperNet") else "one Linear") in w for w in run.report["warnings"])


@pytest.mark.parametrize("flags", [{}, {"sliding_windows": True, "image_size": 32}])
def test_a_baseline_that_is_not_beaten_answers_as_in_the_ladder(shapes, segformer, tmp_path, flags, capsys):  # noqa: F811
    run = adapted(shapes, segformer, "full", tmp_path / "run", max_steps=1, evidence="quick", **flags)
    rung = next(one for one in run.report["evidence"]["ladder"] if one["name"].startswith("colour and position"))
    baseline = load_predictor(run.run_dir / "baseline")
    _, splits = load_task(TASK, DataConfig(data=str(shapes)), 42)
    files = [Path(one["path"]) for one in splits.test["image"][:]]
    for file in files:
        for kind in ("images", "masks"):
            (tmp_path / "test" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(shapes / kind / file.name, tmp_path / "test" / kind / file.name)
    shutil.copy(shapes / "labels.txt", tmp_path / "test" / "labels.txt")
    scores = baseline.evaluate(str(tmp_path / "test"))["metrics"]
    assert scores["miou"]["value"] == pytest.approx(rung["miou"]["value"], abs=1e-3 if flags else 1e-6)
    answer = baseline.predict([str(files[0])])[0]
    assert answer.mask.shape == (48, 56)
    words = ["predict", str(run.run_dir / "baseline"), str(files[0]), "--output", str(tmp_path / "mask.png")]
    assert run_command(words) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")), answer.mask)


@pytest.mark.parametrize(
    ("model", "method", "flags", "said"),
    [
        ("dino", "contrastive", {}, "classes of pixels.*probe, lora or full"),
        ("dino", "probe", {"decoder": "upernet"}, "one Linear for each place and no UperNet"),
        ("segformer", "full", {"decoder": "upernet"}, "segformer has none: it keeps the head of its own"),
        ("dino", "wise", {"keep": 0.9, "evidence": "full"}, "--keep compares features of whole images.*probe or head"),
        (
            "dino",
            "full",
            {"retain": "x", "evidence": "full"},
            "--retain compares features of whole images.*probe or head",
        ),
        ("dino", "full", {"shots": 2}, "not one class: use --max_train_samples"),
    ],
)
def test_what_means_nothing_is_refused_in_a_line(request, shapes, tmp_path, model, method, flags, said):  # noqa: F811
    with pytest.raises((ConfigError, DataError), match=said) as error:
        adapted(shapes, request.getfixturevalue(model), method, tmp_path / "run", **flags)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_decoder_is_for_pixels_alone():
    with pytest.raises(
        ConfigError, match="--decoder is the head of a model of pixels, and text-classification has none"
    ):
        hftl.adapt("text-classification", "sample:wikipedia-topics", "all-MiniLM-L6-v2", "probe", decoder="linear")


def test_image_body_without_maps_gets_the_linear_decoder(shapes, tmp_path):  # noqa: F811
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    run = adapted(shapes, tmp_path / "vit", "full", tmp_path / "run")
    model = hftl.load(run.run_dir).model
    assert type(model).__name__ == "LinearForSemanticSegmentation"
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        states = model.encoder(pixel_values=pixels).last_hidden_state[:, 1:]
        assert torch.equal(model.classifier(states).reshape(1, 4, 4, 3).permute(0, 3, 1, 2), model(pixels).logits)


def test_own_loss_is_that_of_pixels(probe):
    model, pixels = probe.predictor.model, torch.randn(2, 3, 56, 56)
    labels = torch.randint(0, 3, (2, 30, 40))
    labels[0, :5] = UNASKED
    with torch.no_grad():
        out = model(pixel_values=pixels, labels=labels)
        maps = F.interpolate(out.logits, size=(30, 40), mode="bilinear")
    assert float(out.loss) == pytest.approx(float(F.cross_entropy(maps, labels, ignore_index=UNASKED)))


def test_verbs_that_rest_on_the_probe(shapes, dino, segformer, tmp_path):  # noqa: F811
    plan = hftl.plan(TASK, data=str(shapes), model=str(segformer), method="full")
    assert plan["model"]["architecture"] == "SegformerForSemanticSegmentation"
    assert plan["time"]["total_seconds"] > 0
    picked = hftl.pick(TASK, [str(dino), str(segformer)], data=str(shapes), output_dir=tmp_path / "pick")
    assert {one["name"] for one in picked["models"]} == {str(dino), str(segformer)}
    assert all(0 < one["probe"] < 1 and 0 < one["knn"] < 1 for one in picked["models"])


@pytest.mark.slow
def test_curve_and_compare(dino, tmp_path):  # noqa: F811
    data = draw(tmp_path / "data", 50)
    curve = hftl.curve(
        TASK, method="probe", sizes=3, draws=1, data=str(data), model=str(dino), output_dir=tmp_path / "curve"
    )
    run = adapted(data, dino, "probe", tmp_path / "probe")
    whole = next(p for p in curve["points"] if p["method"] == "probe" and p["rows"] == curve["rows"])
    assert whole["value"] == pytest.approx(run.metrics["miou"]["value"])
    flags = {"data": str(data), "model": str(dino), "output_dir": tmp_path / "compare", "max_steps": 1}
    compared = hftl.compare(TASK, methods="probe,full", **flags)
    assert {row["method"] for row in compared["methods"]} == {"probe", "full"}
    assert next(r for r in compared["methods"] if r["method"] == "probe")["value"] == pytest.approx(whole["value"])


def test_training_goes_on_from_a_run_of_hftls_own_class_without_a_flag(probe, shapes, tmp_path):  # noqa: F811
    base = tmp_path / "base"
    shutil.copytree(probe.run_dir / "final", base)
    plain = adapted(shapes, base, "full", tmp_path / "run", max_steps=1, learning_rate=1e-9)
    assert plain.report["model"]["architecture"] == "LinearForSemanticSegmentation"
    before, after = (one.predictor.model.encoder.state_dict() for one in (probe, plain))
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    assert adapted(shapes, base, "probe", tmp_path / "again", bf16=False).metrics["miou"] == probe.metrics["miou"]
    with pytest.raises(ConfigError, match="this model has the linear decoder"):
        adapted(shapes, base, "full", tmp_path / "other", decoder="upernet")
    with pytest.raises(hftl.HftlError, match="LinearForSemanticSegmentation, which cannot do image-classification"):
        hftl.adapt("image-classification", str(tiny_images(tmp_path / "pictures")), str(base))
    (base / "modeling_pooled.py").write_text("raise SystemExit('of another version, or edited')\n")
    again = adapted(shapes, base, "probe", tmp_path / "changed", bf16=False)
    assert again.metrics["miou"] == probe.metrics["miou"]  # hftl has the class and never runs that file
