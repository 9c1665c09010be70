"""The page and masks: a zip of images/ and masks/ comes in, and a finished run answers with the mask over the image."""

import base64
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hftl.config import DataConfig
from hftl.data.load import load_task
from hftl.data.masks import mask_ids
from hftl.data.settle import find_task
from hftl.ui.files import Workspace, take_upload
from hftl.ui.steps import result
from tests.demo.conftest import Opened
from tests.test_segmentation import draw, run, segformer, shapes  # noqa: F401 fixtures
from tests.ui.conftest import Page


pytest.importorskip("gradio", reason="the extra ui is not installed")


@pytest.mark.parametrize(
    ("name", "text"), [("labels.txt", "a\nb\nc\n"), ("id2label.json", '{"0":"a","1":"b","2":"c"}')]
)
def test_a_zip_of_images_and_masks(tmp_path, name, text):
    folder = draw(tmp_path / "shapes", 6)
    (folder / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, Path("shapes") / file.relative_to(folder))
    data = take_upload(Workspace(tmp_path / "space"), tmp_path / "shapes.zip")
    assert find_task(DataConfig(data=data)) == "image-segmentation"
    assert load_task("image-segmentation", DataConfig(data=data))[1].labels == ("a", "b", "c")


def test_a_run_is_tried_with_its_mask(run, shapes, tmp_path, chromium):  # noqa: F811
    worst = result(run.run_dir).worst
    assert [(row.label, row.suspect) for row in worst] == [(None, False)] * len(worst)
    assert worst[0].prediction.endswith("of its pixels are wrong")
    shutil.copytree(run.run_dir, tmp_path / "space" / "runs" / "shapes")
    served = Page(tmp_path / "space")
    opened = Opened(chromium.new_page(viewport={"width": 390, "height": 844}))
    page = opened.page
    page.set_default_timeout(60_000)
    page.goto(f"{served.url}?run=shapes")
    page.wait_for_selector("#try-image")
    page.set_input_files("#try-image input[type=file]", shapes / "images" / "004.png")
    page.wait_for_selector("#said")
    answer = run.predict([str(shapes / "images" / "004.png")])[0]
    first = next(iter(answer.shares))
    assert page.locator("#said").inner_text().startswith(f"{first} {answer.shares[first]:.1%}")
    assert page.locator("#answer img").evaluate("async (one) => (await one.decode(), one.naturalWidth)") == 56
    assert page.locator(".worst").first.inner_text().endswith("of its pixels are wrong")
    truth = mask_ids({"path": str(shapes / "masks" / f"{worst[0].row:03}.png"), "bytes": None})
    answered = run.predict([worst[0].content])[0].mask
    for chosen, expected in (("answer", answered), ("truth", truth), ("wrong", (answered != truth) & (truth < 255))):
        page.locator(f"#worst-rows [name=layer][value={chosen}]").focus()
        page.keyboard.press("Space")
        layers = page.locator(".worst").first.locator("img.layer:visible")
        assert [layers.nth(i).get_attribute("alt") for i in range(layers.count())] == [chosen]
        painted = Image.open(io.BytesIO(base64.b64decode(layers.get_attribute("src").partition(",")[2]))).convert(
            "RGBA"
        )
        pairs = {*zip(expected.ravel().tolist(), map(tuple, np.asarray(painted).reshape(-1, 4).tolist()), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}), "a colour for each class"
    assert page.locator("#worst-rows .legend li").count() == len(run.report["data"]["labels"]) + 1, (
        "and what is not counted"
    )
    page.click("#wrong-0")  # without a file: the model's own answer
    page.wait_for_selector("text=The mask is saved in shapes")
    Image.new("L", (5, 4)).save(tmp_path / "small.png")
    page.set_input_files("#mask-1 input[type=file]", tmp_path / "small.png")
    page.wait_for_selector("#mask-1 >> text=small")
    page.click("#wrong-1")
    page.wait_for_selector("text=of another size")
    assert [one.name for one in (tmp_path / "space" / "data").glob("right-mask*")] == ["right-mask.png"], (
        "no second one"
    )
    page.click("#mask-1 button[aria-label='Clear']")
    Image.new("L", (56, 48), 1).save(tmp_path / "right.png")
    page.set_input_files("#mask-1 input[type=file]", tmp_path / "right.png")
    page.wait_for_selector("#mask-1 >> text=right")
    page.click("#wrong-1")
    page.wait_for_selector("#wrong-1:has-text('Corrected')")
    page.wait_for_selector("#train-again")
    copy = sorted((tmp_path / "space" / "data").glob("shapes*-corrected*"))[-1]
    for row, ids in zip(worst, (run.predict([worst[0].content])[0].mask, np.full((48, 56), 1)), strict=False):
        (written,) = (copy / "train" / "masks").glob(f"{row.row:03}.*")
        assert np.array_equal(mask_ids({"path": str(written), "bytes": None}), ids)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.said == []
    assert opened.foreign == []
    served.blocks.close(verbose=False)
    page.close()
