"""Every tiny family: the graph answers as the model does, at other batches, lengths and sizes than it was traced at."""

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from hftl.export import export
from tests.tiny import IMAGE_FAMILIES, MAX_LENGTH, TEXT_FAMILIES, build


FIXED = {"vit"}  # families whose positions are learned for one size
QUICK = ("vit",)  # the other tests export bert, roberta and efficientnet


def families(names):
    return [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in names]


def exported(family, tmp_path):
    folder = build(family, tmp_path / family, num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    report = export(folder)
    assert report.output_dir == tmp_path / f"{family}-onnx"
    session = onnxruntime.InferenceSession(str(report.output_dir / "model.onnx"))
    return folder, report.values, session


@pytest.mark.parametrize("family", families(TEXT_FAMILIES))
def test_text(family, tmp_path):
    folder, values, session = exported(family, tmp_path)
    assert values["dynamic"] == ["batch", "sequence"]
    assert values["parity"]["max_difference"] <= 1e-5
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for rows, length in ((1, 1), (1, 9), (5, 2), (7, 23), (2, MAX_LENGTH)):
        ids = torch.randint(5, 90, (rows, length))
        mask = torch.ones_like(ids)
        mask[0, (length + 1) // 2 :] = 0
        with torch.no_grad():
            wanted = model(input_ids=ids, attention_mask=mask).logits
        logits, probabilities = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-4)
        np.testing.assert_allclose(probabilities, wanted.softmax(-1).numpy(), atol=1e-5)


@pytest.mark.parametrize("family", families(IMAGE_FAMILIES))
def test_images(family, tmp_path):
    folder, values, session = exported(family, tmp_path)
    side = values["image_size"]
    assert (side is not None) == (family in FIXED)
    assert values["dynamic"] == (["batch"] if side else ["batch", "height", "width"])
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    sizes = ((32, 32), (32, 32)) if side else ((32, 32), (64, 96), (96, 64), (40, 56), (33, 47))
    for rows, (height, width) in enumerate(sizes, start=1):
        pixels = torch.randn(rows, 3, height, width)
        with torch.no_grad():
            wanted = model(pixel_values=pixels).logits
        logits = session.run(["logits"], {"pixel_values": pixels.numpy()})[0]
        np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-4)
