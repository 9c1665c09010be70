"""The few steps of predict.py against the processors of transformers, and the refusal of what they cannot do."""

import numpy as np
import pytest
import transformers
from PIL import Image

from hftl.errors import ModelError
from hftl.export.companions import apply, read_preprocessing


SMALL = {"height": 32, "width": 32}
PROCESSORS = {
    "vit": lambda: transformers.ViTImageProcessorPil(size=SMALL),
    "deit": lambda: transformers.DeiTImageProcessorPil(size={"height": 40, "width": 40}, crop_size=SMALL),
    "dinov2": lambda: transformers.BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=SMALL),
    "clip": lambda: transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SMALL),
    "convnext": lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875),
    "convnext-384": lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 384}, crop_pct=1.0),
    "levit": lambda: transformers.LevitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SMALL),
    "efficientnet": lambda: transformers.EfficientNetImageProcessorPil(size=SMALL, include_top=True),
    "efficientnet-offset": lambda: transformers.EfficientNetImageProcessorPil(size=SMALL, rescale_offset=True),
    "nearest": lambda: transformers.ViTImageProcessorPil(size=SMALL, resample=0),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_same_pixels(name):
    processor = PROCESSORS[name]()
    plan = read_preprocessing(processor, name)
    rng = np.random.default_rng(3)
    for height, width in ((17, 90), (90, 17), (64, 64), (433, 217)):  # none of those that the plan was chosen on
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        wanted = np.asarray(processor([image])["pixel_values"][0])
        np.testing.assert_allclose(apply(plan, image), wanted, atol=1e-4)


@pytest.mark.parametrize(
    "processor",
    [
        lambda: transformers.ViTImageProcessorPil(do_resize=False),
        lambda: transformers.ViTImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64}),
        lambda: transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 32, "width": 24}),
    ],
)
def test_what_it_cannot_do_is_refused(processor):
    with pytest.raises(ModelError, match=r"^my model cannot be exported") as error:
        read_preprocessing(processor(), "my model")
    assert "\n" not in str(error.value)
