"""Masks as people see them: the proof that plain `pipeline` answers alike, the page, ONNX, the demo, the card."""

import base64
import re
import shutil
from io import BytesIO

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import confusion_matrix

from hftl.evaluation.mask_scores import CONFUSED, UNASKED, pixel_cells
from hftl.predict import load
from hftl.publishing.bundle import build_bundle
from hftl.publishing.hub_repository import PushOptions
from hftl.publishing.parity import MAPS, SHARE, ParityError, check_pushed, judge
from hftl.report.overlays import WRONG, overlay
from hftl.report.show import parity_rows
from hftl.run_data import open_artifact
from hftl.tasks.outputs.mask_pictures import assembled, colours_of, on_grid
from tests.browser import headless_chromium
from tests.command import ROOT, environment, shell
from tests.test_segmentation import COLOURS, run, segformer, shapes  # noqa: F401 fixtures
from tests.test_segmentation import load as load_splits


@pytest.fixture(scope="module")
def browser():
    yield from headless_chromium()


@pytest.fixture(scope="module")
def splits(shapes):  # noqa: F811
    return load_splits(shapes)


def decoded(uri):
    kind, _, data = uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/webp")
    return Image.open(BytesIO(base64.b64decode(data)))


def test_a_run_is_held_beside_plain_pipeline(run, splits):  # noqa: F811
    found = run.report["parity"]["final"]
    assert (found["rows"], found["labels_equal"]) == (min(MAPS, len(splits[1].test)), True)
    assert found["max_difference"] <= found["tolerance"] == SHARE
    ((_, said),) = parity_rows({"final": found}, run.report)
    assert re.search(r"the same masks, but for a share of \S+ of the pixels\.$", said)


def test_other_weights_are_found_out(run, tmp_path, monkeypatch):  # noqa: F811
    copied = open_artifact(shutil.copytree(run.run_dir, tmp_path / "run"))
    expected = load(copied.folder)
    tensors = load_file(copied.folder / "model.safetensors")
    name = next(n for n in tensors if n.endswith("classifier.bias"))
    tensors[name] = tensors[name] + torch.tensor([0.0, 0.0, 9.0])
    save_file(tensors, copied.folder / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr("hftl.publishing.parity.load", lambda _: expected)
    with pytest.raises(ParityError, match=r"of [\d,]+ pixels \(test rows of the run\) \d+\.\d+% have another class"):
        check_pushed(copied, str(copied.folder), None)


def test_maps_of_pipeline_are_put_together_again():
    ids = np.random.default_rng(0).integers(0, 3, (300, 7))
    entries = []
    for i, name in enumerate("abc"):
        Image.fromarray(((ids == i) * 255).astype(np.uint8)).save(file := BytesIO(), "PNG")
        entries.append({"label": name, "score": None, "mask": base64.b64encode(file.getvalue()).decode()})
    row = Image.new("RGB", (7, 300))
    assert np.array_equal(assembled(entries, "abc", row), on_grid(ids))
    assert on_grid(ids).shape == (256 * 7, 1)
    assert (assembled(entries[:2], "abc", row) == -1).any()
    assert assembled(entries, "abc", Image.new("RGB", (8, 300))).size == 0


def test_ids_are_judged_by_the_share_that_differs():
    ids = np.zeros((10_000, 1), dtype=np.int16)
    few, many = ids.copy(), ids.copy()
    few[:9], many[:11] = 1, 1
    assert judge(few, ids, "rows", "x", 0.0)["max_difference"] == pytest.approx(9e-4)
    for wrong in (many, ids[:-1]):
        with pytest.raises(ParityError):
            judge(wrong, ids, "rows", "x", 0.0)


def test_confusion_equals_an_independent_reference(run, splits):  # noqa: F811
    task, parts = splits
    truth = task.output.gather(parts.test["label"][:])
    answers = [answer.mask for answer in run.predictor.predict_table(parts.test.select_columns(["image"]))]
    pairs = [(truth[i][truth[i] != UNASKED], answers[i][truth[i] != UNASKED]) for i in range(len(answers))]
    expected = confusion_matrix(*(np.concatenate(part) for part in zip(*pairs, strict=True)), labels=[0, 1, 2])
    found = np.zeros((3, 3), dtype=int)
    for true, predicted, count in run.report["evidence"]["confusion"]:
        found[true, predicted] = count
    assert np.array_equal(found, expected)
    worst = run.report["evidence"]["worst_rows"][0]
    shares = [(true != answer).mean() for true, answer in pairs]
    assert worst["row"] == int(np.argmax(shares))
    assert worst["wrong"] == pytest.approx(max(shares))


def test_cells_of_many_classes_are_not_kept():
    ids = np.zeros((2, 2), dtype=np.int64)
    assert pixel_cells(ids, ids, CONFUSED).sum() == 4
    assert pixel_cells(ids, ids, CONFUSED + 1).size == 0


def test_layers_lie_over_the_image():
    rng = np.random.default_rng(0)
    truth, answer = rng.integers(0, 3, (20, 30)), rng.integers(0, 3, (20, 30))
    truth[0] = UNASKED
    colours = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]
    found = overlay(Image.new("RGB", (30, 20)), truth, answer, colours)
    layers = {name: np.asarray(decoded(uri).convert("RGBA")) for name, uri in found["layers"].items()}
    assert (layers["answer"][answer == 0][:, 3] == 0).all()  # the black ground hides nothing
    assert (layers["answer"][answer == 2] == [0, 200, 0, 255]).all()
    assert (layers["truth"][0, :, 3] == 128).all()
    wrong = (truth != answer) & (truth >= 0)
    assert (layers["wrong"][wrong] == [*WRONG, 255]).all()
    assert (layers["wrong"][~wrong][:, 3] == 0).all()
    assert found["unasked"]
    large = overlay(Image.new("RGB", (1300, 650)), np.zeros((650, 1300), int), np.zeros((650, 1300), int), colours)
    assert {decoded(uri).size for uri in (large["image"], *large["layers"].values())} == {(640, 320)}


def test_colours_can_be_told_apart():
    assert len({tuple(colour) for colour in colours_of(None, 256)}) > 250
    assert colours_of(None, 3)[0] == [0, 0, 0]


def test_page_shows_masks_and_confusion(run):  # noqa: F811
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    shown = min(12, len(run.report["evidence"]["worst_rows"]))
    assert page.count('class="layer answer"') == page.count('class="layer truth"') == shown > 0
    legend = page[page.index('aria-label="Colours"') :]
    assert f'fill="#{COLOURS[3]:02x}{COLOURS[4]:02x}{COLOURS[5]:02x}"' in legend
    assert "not counted" in legend
    assert "Confusion matrix" in page
    assert 'data-cell="0' not in page  # there are no rows behind a cell
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_layers_are_chosen_and_faded_in_a_browser(browser, run):  # noqa: F811
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.goto((run.run_dir / "report.html").as_uri())
    shown = {}
    for kind in ("answer", "truth", "wrong", "none"):
        page.locator(f'input[value="{kind}"]').check(force=True)
        shown[kind] = page.locator("#worst .layer:visible").evaluate_all("all => all.map(one => one.alt)")
    assert {kind: set(names) for kind, names in shown.items()} == {
        **{kind: {kind} for kind in ("answer", "truth", "wrong")},
        "none": set(),
    }
    page.locator('input[value="truth"]').check(force=True)
    page.locator("#opacity").fill("35")
    assert page.locator(".layer.truth").first.evaluate("one => getComputedStyle(one).opacity") == "0.35"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert faults == []
    page.close()


def bundled(run, folder, **options):  # noqa: F811
    options = PushOptions(run=run.run_dir, repo_id="me/shapes", license="mit", online=False, **options)
    return build_bundle(open_artifact(run.run_dir), folder, options)


def test_what_is_pushed_holds_no_pixels_of_the_data(run, tmp_path):  # noqa: F811
    made = bundled(run, tmp_path / "public")
    assert made.public_rows == ()
    assert {name for name in made.files if name.endswith(".png")} == {"confusion.png", "ladder.png"}
    texts = [path.read_text(encoding="utf-8") for path in made.folder.iterdir() if path.suffix in (".json", ".md")]
    assert not any("data:image" in text or "base64" in text or "004.png" in text for text in texts)
    front = yaml.safe_load(made.card.split("---")[1])
    assert (front["pipeline_tag"], front["metrics"]) == ("image-segmentation", ["mean_iou"])
    assert "widget" not in front
    for words in ("the same masks, but for a share of", "| Class | IoU |", "taken for", "hftl export me/shapes"):
        assert words in made.card


def test_examples_are_published_when_asked_for(run, splits, tmp_path):  # noqa: F811
    made = bundled(run, tmp_path / "public", include_examples=1)
    (line,) = made.public_rows
    names, _, rest = line.partition(": examples/1.png")
    assert set(names.split(", ")) <= {"ground", "block", "stripes"}
    assert rest == ", 56 x 48 pixels"
    row = splits[1].test[0]["image"]
    assert Image.open(made.folder / "examples/1.png").tobytes() == Image.open(row["path"]).tobytes()


def test_the_recipe(shapes, segformer, tmp_path):  # noqa: F811
    from recipes.image_segmentation import DEFAULTS
    from recipes.image_segmentation import run as recipe

    flags = {"data": str(shapes), "model": str(segformer), "max_steps": 1, "evidence": "off"}
    result = recipe(**flags, output_dir=tmp_path / "run")
    assert (result.report["task"], result.report["method"]) == ("image-segmentation", DEFAULTS["method"])
    assert result.predict([str(shapes / "images" / "001.png")])[0].mask.shape == (48, 56)


@pytest.mark.slow
def test_two_processes(shapes, segformer, tmp_path):  # noqa: F811
    """A head whose batch norm learns ends alike on both, and one of them answers again for the check and the page."""
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29523", "-m", "hftl", "train"]
    words += ["image-segmentation", "--data", shapes, "--model", segformer, "--max_steps", "2", "--use_cpu", "--json"]
    done = shell([*words, "--output_dir", tmp_path / "run"], ROOT, environment())
    assert done.code == 0, done.err[-3000:]
    assert done.json["environment"]["processes"] == 2
    assert done.json["parity"]["final"]["labels_equal"] is True
    assert 'class="layer answer"' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
