"""Every architecture that answers pixels, and every backbone that gets a head: trained, saved, answered by `pipeline`."""

from typing import Any

import numpy as np
import pytest
import transformers

import hftl
from hftl.errors import ModelError
from tests.architectures.mask_models import BACKBONES, MODELS, build
from tests.test_segmentation import draw


THIN = ("beit-body", "dpt", "swin-of-classes", "dinov3-convnext")
FLAGS: dict[str, Any] = {"evidence": "off", "max_steps": 2, "use_cpu": True, "bf16": False}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("shapes"), 16)


def check(name, shapes, folder):
    """`full` trains it, and plain pipeline gives the masks that hftl gives."""
    checkpoint = build(name, folder / "checkpoint")
    run = hftl.adapt("image-segmentation", str(shapes), str(checkpoint), "full", output_dir=folder / "run", **FLAGS)
    served: Any = transformers.pipeline("image-segmentation", str(run.run_dir / "final"), device="cpu")
    assert (type(served.model).__name__ == "UperNetForSemanticSegmentation") == (
        name in BACKBONES or "upernet" in name
    )
    image = str(shapes / "images/004.png")
    ours = run.predict([image])[0].mask
    theirs = np.full(ours.shape, -1)
    for answer in served(image):
        theirs[np.asarray(answer["mask"]) > 0] = run.predictor.labels.index(answer["label"])
    assert (theirs == ours).mean() > 0.999  # ties of rounding


@pytest.mark.parametrize("name", THIN)
def test_contract(name, shapes, tmp_path):
    check(name, shapes, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in THIN])
def test_contract_of_the_whole_table(name, shapes, tmp_path):
    check(name, shapes, tmp_path)


def test_queries_are_no_map_of_classes(shapes, tmp_path):
    """Mask2Former and MaskFormer answer by queries: another task, refused in a line."""
    config = transformers.MaskFormerConfig(
        backbone_config=transformers.SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], out_features=["stage1", "stage2", "stage3", "stage4"]
        ),
        decoder_config=transformers.DetrConfig(
            d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2
        ),
        fpn_feature_size=32, mask_feature_size=32,
    )  # fmt: skip
    transformers.MaskFormerForInstanceSegmentation(config).save_pretrained(tmp_path / "maskformer")
    transformers.SegformerImageProcessor().save_pretrained(tmp_path / "maskformer")
    with pytest.raises(ModelError, match="maskformer checkpoint, which cannot do image-segmentation"):
        hftl.adapt(
            "image-segmentation", str(shapes), str(tmp_path / "maskformer"), "full", output_dir=tmp_path / "run"
        )
